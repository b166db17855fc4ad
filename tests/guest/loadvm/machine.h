/*
 * The load VM's machine: text, memory, processors, ports.
 *
 * There is one address space, mapped one to one up to 4 GiB.  Interrupts are
 * off but where cpu_sleep() opens them; a handler does nothing but count, so
 * nothing here can be interrupted in the middle of anything.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_MACHINE_H
#define LOADVM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_CPUS 16u
#define PAGE 4096u
#define IRQ_VECTOR 0x40u         /* of all queues, and of cpu_run() */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Text on the serial port: text.c */

/**
 * say() - print on the serial port
 * @format: knows %s, %c, %u and %x, and l in front of the latter two
 */
__attribute__((format(printf, 1, 2)))
void say(const char *format, ...);

/**
 * die() - say why, and end the VM
 *
 * For what makes any further figure worthless: a device that breaks the rules,
 * an option that cannot be.
 */
__attribute__((noreturn, format(printf, 1, 2)))
void die(const char *format, ...);

/**
 * hear_line() - sleep until there is a line from the serial port
 * @line: gets it, without its end
 * @size: of @line; what does not fit is lost
 */
void hear_line(char *line, size_t size);

/** power_off() - end the VM */
__attribute__((noreturn))
void power_off(void);

bool text_equal(const char *a, const char *b);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);

/* Memory: memory.c */

/** memory_init() - what the loader left for us; @start_info is PVH's */
void memory_init(uint32_t start_info);

/** boot_arguments() - the text behind -append, "" if there is none */
const char *boot_arguments(void);

/** boot_module() - what -initrd gave us; *@size is 0 if it gave nothing */
const void *boot_module(uint64_t *size);

/**
 * allocate() - zeroed memory that lives until memory_release()
 *
 * Ends the VM if there is none left, and says how much would have sufficed.
 * Only for the first processor.
 */
void *allocate(uint64_t size, uint64_t align);

/** memory_mark(), memory_release() - forget what was allocated since */
uint64_t memory_mark(void);
void memory_release(uint64_t mark);

/* Processors: cpu.c */

/** cpu_init() - interrupts, clock, and all other processors started */
void cpu_init(void);

/** cpu_count() - processors that came up, this one included */
unsigned cpu_count(void);

/** cpu_apic_id() - where to send an interrupt for processor @cpu */
uint32_t cpu_apic_id(unsigned cpu);

/**
 * cpu_run() - run @work on processors 0 to @num - 1; returns when all are done
 * @work: is called with the number of its processor
 */
void cpu_run(unsigned num, void (*work)(unsigned cpu));

/** ticks_per_ms() - of the time stamp counter */
uint64_t ticks_per_ms(void);

/** ticks_to_ns() - for spans up to some hours */
uint64_t ticks_to_ns(uint64_t ticks);

/** irq_count() - interrupts that were taken so far, on all processors */
uint64_t irq_count(void);

/**
 * cpu_sleep() - until an interrupt, at once if one is pending
 *
 * The processor takes interrupts only behind the instruction after sti, which
 * is hlt: none can come between a look at the ring and the sleep.
 */
static inline void cpu_sleep(void)
{
    asm volatile("sti; hlt; cli" ::: "memory");
}

static inline uint64_t ticks(void)
{
    uint32_t low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline void outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" :: "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
    asm volatile("outw %0, %1" :: "a"(value), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" :: "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;

    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* A well mixed function of @value. */
static inline uint64_t scramble(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

/* A number below @limit; @state moves on. */
static inline uint64_t draw(uint64_t *state, uint64_t limit)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned __int128)scramble(*state) * limit >> 64;
}

#endif
