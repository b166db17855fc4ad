/*
 * Processors: clock, interrupts, starting the others and giving them work.
 *
 * The first processor waits for nobody but in cpu_run(); the others sleep
 * between jobs, since a processor that spins would take time from whatever
 * carries the requests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "machine.h"

#define TRAMPOLINE 0x8000u       /* a page below 1 MiB that nobody uses */

#define APIC 0xfee00000u
#define APIC_ID 0x20
#define APIC_SPURIOUS 0xf0
#define APIC_COMMAND 0x300
#define APIC_ENABLE 0x1ff        /* and vector 0xff for spurious ones */
#define TO_OTHERS 0xc4000u       /* asserted, to all but this one */
#define SEND_INIT 0x500u
#define SEND_SIPI 0x600u
#define DELIVERY_PENDING 0x1000u

/* The other interrupt controller; its input 4 is the serial port. */
#define IO_APIC 0xfec00000u
#define IO_APIC_SERIAL (0x10u + 2 * 4)

#define PIT_HZ 1193182u
#define PIT_CHANNEL_2 0x42
#define PIT_MODE 0x43
#define PIT_GATE 0x61
#define PIT_OUT 0x20
#define CALIBRATION_MS 10u

#define FW_CFG_SELECT 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_NUM_CPUS 5

typedef struct Gate {
    uint16_t offset_low;
    uint16_t selector;
    uint16_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
} Gate;

extern char trampoline[], trampoline_end[], irq_entry[], fault_entries[];
extern uint32_t start_info, next_cpu;

uint64_t irqs_taken;

static Gate idt[256] __attribute__((aligned(16)));
static uint64_t tick_rate;              /* a millisecond */
static uint32_t apic_ids[MAX_CPUS];
static unsigned num_cpus;

/* Of cpu_run(); written by the first processor but for num_done. */
static void (*work_todo)(unsigned cpu);
static unsigned work_cpus;
static unsigned work_round;
static unsigned num_done;
static unsigned num_online;

void loadvm_main(void);

static volatile uint32_t *apic(unsigned reg)
{
    return (volatile uint32_t *)(uintptr_t)(APIC + reg);
}

static void apic_send_others(uint32_t command)
{
    *apic(APIC_COMMAND) = TO_OTHERS | command;
    while (*apic(APIC_COMMAND) & DELIVERY_PENDING) {
        ;
    }
}

static void set_gate(unsigned vector, const char *entry)
{
    uint64_t offset = (uintptr_t)entry;

    idt[vector] = (Gate) {
        .offset_low = offset, .selector = 0x10, .type = 0x8e00,
        .offset_middle = offset >> 16, .offset_high = offset >> 32,
    };
}

__attribute__((noreturn, used))
void cpu_fault(uint64_t vector, uint64_t error, uint64_t at)
{
    uint64_t address;

    asm volatile("mov %%cr2, %0" : "=r"(address));
    die("exception %lu at 0x%lx, error 0x%lx, address 0x%lx", vector, at,
        error, address);
}

static void load_idt(unsigned cpu)
{
    const struct {
        uint16_t size;
        uint64_t base;
    } __attribute__((packed)) pointer = { sizeof(idt) - 1, (uintptr_t)idt };

    asm volatile("lidt %0" :: "m"(pointer));
    *apic(APIC_SPURIOUS) = APIC_ENABLE;
    apic_ids[cpu] = *apic(APIC_ID) >> 24;
}

static void make_idt(void)
{
    for (unsigned i = 0; i < 32; i++) {
        set_gate(i, fault_entries + i * 16);
    }
    for (unsigned i = 32; i < ARRAY_SIZE(idt); i++) {
        set_gate(i, irq_entry);
    }
    /* Nothing of the old interrupt controllers is used. */
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}

static void io_apic_write(uint32_t reg, uint32_t value)
{
    volatile uint32_t *window = (volatile uint32_t *)(uintptr_t)IO_APIC;

    window[0] = reg;
    window[4] = value;
}

/* Input from the serial port wakes the first processor. */
static void route_serial(void)
{
    io_apic_write(IO_APIC_SERIAL + 1, apic_ids[0] << 24);
    io_apic_write(IO_APIC_SERIAL, IRQ_VECTOR);
}

/* The interval timer counts down from 65535, once. */
static void start_pit(void)
{
    outb(PIT_GATE, (inb(PIT_GATE) & ~2) | 1);
    outb(PIT_MODE, 0xb0);                /* channel 2, both bytes, mode 0 */
    outb(PIT_CHANNEL_2, 0xff);
    outb(PIT_CHANNEL_2, 0xff);
}

static uint16_t read_pit(void)
{
    uint16_t low;

    outb(PIT_MODE, 0x80);
    low = inb(PIT_CHANNEL_2);
    return low | inb(PIT_CHANNEL_2) << 8;
}

/*
 * What both clocks say at the same moment: of some attempts the one that took
 * least, so that a host that is busy elsewhere for a while does no harm.
 */
static uint16_t read_clocks(uint64_t *now)
{
    uint64_t best = UINT64_MAX;
    uint16_t count = 0;

    for (unsigned i = 0; i < 16; i++) {
        uint64_t begin = ticks();
        uint16_t seen = read_pit();
        uint64_t took = ticks() - begin;

        if (took < best) {
            best = took;
            count = seen;
            *now = begin + took / 2;
        }
    }
    return count;
}

static void wait_ms(unsigned ms)
{
    start_pit();
    while (0xffffu - read_pit() < PIT_HZ / 1000 * ms &&
           !(inb(PIT_GATE) & PIT_OUT)) {
        ;
    }
}

static void calibrate(void)
{
    uint64_t begin, end;
    uint16_t from, to;

    do {
        start_pit();
        from = read_clocks(&begin);
        while ((unsigned)from - read_pit() < PIT_HZ / 1000 * CALIBRATION_MS) {
            if (inb(PIT_GATE) & PIT_OUT) {
                break;
            }
        }
        to = read_clocks(&end);
        /* The count went through zero: it tells nothing. */
    } while (inb(PIT_GATE) & PIT_OUT);
    tick_rate = (end - begin) * (PIT_HZ / 1000) / (uint16_t)(from - to);
}

static unsigned expected_cpus(void)
{
    unsigned low;

    outw(FW_CFG_SELECT, FW_CFG_NUM_CPUS);
    low = inb(FW_CFG_DATA);
    return MIN(low | (unsigned)inb(FW_CFG_DATA) << 8, MAX_CPUS);
}

static void start_others(void)
{
    unsigned wanted = expected_cpus();

    num_cpus = 1;
    if (wanted <= 1) {
        return;
    }
    memcpy((void *)(uintptr_t)TRAMPOLINE, trampoline,
           trampoline_end - trampoline);
    apic_send_others(SEND_INIT);
    wait_ms(10);
    apic_send_others(SEND_SIPI | TRAMPOLINE / PAGE);
    for (unsigned ms = 0; ms < 1000; ms++) {
        if (__atomic_load_n(&num_online, __ATOMIC_ACQUIRE) + 1 >= wanted) {
            break;
        }
        wait_ms(1);
    }
    num_cpus = num_online + 1;
    if (num_cpus < wanted) {
        say("LOADVM %u of %u processors came up\n", num_cpus, wanted);
    }
}

void cpu_init(void)
{
    make_idt();
    load_idt(0);
    route_serial();
    calibrate();
    start_others();
}

/* All but the first: one round of work after the other. */
__attribute__((noreturn))
static void serve(unsigned cpu)
{
    unsigned round = 0;

    load_idt(cpu);
    __atomic_fetch_add(&num_online, 1, __ATOMIC_RELEASE);
    for (;;) {
        while (__atomic_load_n(&work_round, __ATOMIC_ACQUIRE) == round) {
            cpu_sleep();
        }
        round++;
        if (cpu < work_cpus) {
            work_todo(cpu);
        }
        __atomic_fetch_add(&num_done, 1, __ATOMIC_RELEASE);
    }
}

__attribute__((used))
void cpu_entry(unsigned cpu)
{
    if (cpu) {
        serve(cpu);
    }
    memory_init(start_info);
    cpu_init();
    loadvm_main();
}

void cpu_run(unsigned num, void (*work)(unsigned cpu))
{
    work_todo = work;
    work_cpus = num;
    num_done = 0;
    if (num > 1) {
        __atomic_store_n(&work_round, work_round + 1, __ATOMIC_RELEASE);
        apic_send_others(IRQ_VECTOR);
    }
    work(0);
    while (num > 1 && __atomic_load_n(&num_done, __ATOMIC_ACQUIRE) <
           num_cpus - 1) {
        asm volatile("pause");
    }
}

unsigned cpu_count(void)
{
    return num_cpus;
}

uint32_t cpu_apic_id(unsigned cpu)
{
    return apic_ids[cpu];
}

uint64_t ticks_per_ms(void)
{
    return tick_rate;
}

uint64_t ticks_to_ns(uint64_t span)
{
    return span / tick_rate * 1000000 + span % tick_rate * 1000000 / tick_rate;
}

uint64_t irq_count(void)
{
    return __atomic_load_n(&irqs_taken, __ATOMIC_RELAXED);
}
