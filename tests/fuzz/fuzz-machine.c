/*
 * Fuzzing the data path: memory, event loop and object model for code that is
 * compiled without the rest of QEMU.
 *
 * Guest RAM is two pieces of host memory that meet in the guest and nowhere
 * else.  Every word of it is a canary, which names its address: found in the
 * backend's memory it shows what leaked.  A copy shows what RAM must contain.
 *
 * The linker sends calls of __wrap_x() here instead of to x().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "exec/memory.h"
#include "hw/virtio/virtio-bus.h"
#include "fuzz.h"

#define BORDER (FUZZ_RAM_BORDER - FUZZ_RAM_ADDR)

static uint8_t ram_low[BORDER];
static uint8_t ram_high[FUZZ_RAM_BYTES - BORDER];
static uint8_t expected[FUZZ_RAM_BYTES];
static bool exposed[FUZZ_RAM_BYTES];

static MemoryRegion regions[] = {
    { .ram = true, .ram_block = (RAMBlock *)ram_low, .addr = FUZZ_RAM_ADDR },
    { .ram = true, .ram_block = (RAMBlock *)ram_high,
      .addr = FUZZ_RAM_BORDER },
};
static MemoryRegion hole;

/* Memory. */

static unsigned region_bytes(const MemoryRegion *mr)
{
    return mr == &regions[0] ? sizeof(ram_low) : sizeof(ram_high);
}

static MemoryRegion *find_region(uint64_t addr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        if (addr - regions[i].addr < region_bytes(&regions[i])) {
            return &regions[i];
        }
    }
    return NULL;
}

uint8_t *fuzz_ram_host(uint64_t addr)
{
    MemoryRegion *mr = find_region(addr);

    return mr ? (uint8_t *)mr->ram_block + (addr - mr->addr) : NULL;
}

uint8_t *fuzz_ram_expected(uint64_t addr)
{
    return &expected[addr - FUZZ_RAM_ADDR];
}

/*
 * The canary of a word names its offset.  Its bytes have a bit that no one else
 * writes into the share: see fuzz_backend_write_bufs().
 */
#define CANARY_BIT 0x8080808080808080ULL

static uint64_t canary(uint16_t offset)
{
    uint64_t mixed = (offset + 1) * 0x9e3779b97f4a7c15ULL;

    return CANARY_BIT | (mixed & ~0xffffULL) | (offset >> 8 & 0x7f) << 8 |
           (offset >> 3 & 0x1f) | (uint64_t)(offset >> 15) << 5;
}

static uint16_t canary_offset(uint64_t word)
{
    return (word & 0x1f) << 3 | (word >> 8 & 0x7f) << 8 | (word >> 5 & 1) << 15;
}

void fuzz_ram_reset(void)
{
    for (uint32_t i = 0; i < FUZZ_RAM_BYTES; i += 8) {
        uint64_t word = canary(i);

        memcpy(fuzz_ram_host(FUZZ_RAM_ADDR + i), &word, 8);
        memcpy(&expected[i], &word, 8);
    }
    memset(exposed, 0, sizeof(exposed));
}

void fuzz_ram_accept(uint64_t addr, uint64_t len)
{
    for (uint64_t i = 0; i < MIN(len, FUZZ_RAM_BYTES); i++) {
        uint8_t *host = fuzz_ram_host(addr + i);

        if (host) {
            *fuzz_ram_expected(addr + i) = *host;
        }
    }
}

void fuzz_ram_expose(uint64_t addr, uint64_t len)
{
    for (uint64_t i = 0; i < MIN(len, FUZZ_RAM_BYTES); i++) {
        if (find_region(addr + i)) {
            exposed[addr + i - FUZZ_RAM_ADDR] = true;
        }
    }
}

void fuzz_ram_check(void)
{
    g_assert_cmpint(memcmp(ram_low, expected, BORDER), ==, 0);
    g_assert_cmpint(memcmp(ram_high, expected + BORDER, sizeof(ram_high)), ==,
                    0);
}

/* Words at any place; cut ones are not recognised. */
void fuzz_ram_check_secrets(const uint8_t *mem, size_t len)
{
    for (size_t i = 0; i + 8 <= len; i++) {
        uint64_t word;

        if (!(mem[i + 7] & 0x80)) {
            /* No word that it is part of. */
            i += 7;
            continue;
        }
        memcpy(&word, mem + i, 8);
        if ((word & CANARY_BIT) == CANARY_BIT) {
            uint16_t offset = canary_offset(word);

            g_assert_true(word != canary(offset) || exposed[offset]);
        }
    }
}

MemoryRegion *flatview_translate(FlatView *fv, hwaddr addr, hwaddr *xlat,
                                 hwaddr *len, bool is_write, MemTxAttrs attrs)
{
    MemoryRegion *mr = find_region(addr);

    if (!mr) {
        *len = 1;
        return &hole;
    }
    *xlat = addr - mr->addr;
    *len = MIN(*len, region_bytes(mr) - *xlat);
    return mr;
}

void *qemu_map_ram_ptr(RAMBlock *block, ram_addr_t addr)
{
    return (uint8_t *)block + addr;
}

bool memory_region_is_ram_device(MemoryRegion *mr)
{
    return false;
}

int64_t address_space_cache_init(MemoryRegionCache *cache, AddressSpace *as,
                                 hwaddr addr, hwaddr len, bool is_write)
{
    hwaddr xlat = 0;
    MemoryRegion *mr = flatview_translate(NULL, addr, &xlat, &len, is_write,
                                          MEMTXATTRS_UNSPECIFIED);

    *cache = (MemoryRegionCache) {
        .ptr = mr == &hole ? NULL : fuzz_ram_host(addr),
        .xlat = xlat,
        .len = len,
        .mrs.mr = mr,
        .is_write = is_write,
    };
    return len;
}

void address_space_cache_destroy(MemoryRegionCache *cache)
{
    cache->mrs.mr = NULL;
}

void address_space_cache_invalidate(MemoryRegionCache *cache, hwaddr addr,
                                    hwaddr len)
{
    g_assert_cmpuint(addr + len, <=, cache->len);
}

/* Threads, locks, RCU: there is one thread. */

static bool bql_is_locked;
static AioContext *current_ctx;
static char some_context;
AioContext *const fuzz_ctx = (AioContext *)&some_context;

void fuzz_enter(bool bql)
{
    bql_is_locked = bql;
    current_ctx = fuzz_ctx;
}

bool bql_locked(void)
{
    return bql_is_locked;
}

void bql_lock_impl(const char *file, int line)
{
    bql_is_locked = true;
}

void bql_unlock(void)
{
    bql_is_locked = false;
}

void bql_block_unlock(bool increase)
{
}

AioContext *__wrap_qemu_get_current_aio_context(void);
AioContext *__wrap_qemu_get_current_aio_context(void)
{
    return current_ctx;
}

void __wrap_call_rcu1(struct rcu_head *head, RCUCBFunc *func);
void __wrap_call_rcu1(struct rcu_head *head, RCUCBFunc *func)
{
    func(head);
}

void __wrap_defer_call(void (*fn)(void *), void *opaque);
void __wrap_defer_call(void (*fn)(void *), void *opaque)
{
    fn(opaque);
}

/* The event loop. */

typedef struct Handler {
    EventNotifier *notifier;
    EventNotifierHandler *read;
    AioPollFn *poll;
    EventNotifierHandler *ready;
    EventNotifierHandler *begin;
    EventNotifierHandler *end;
} Handler;

struct QEMUBH {
    QEMUBHFunc *cb;
    void *opaque;
    bool scheduled;
    bool used;
};

static Handler handlers[4];
static QEMUBH bottom_halves[4];
static bool polling;

static Handler *find_handler(EventNotifier *notifier)
{
    for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
        if (handlers[i].notifier == notifier) {
            return &handlers[i];
        }
    }
    return NULL;
}

void __wrap_aio_set_event_notifier(AioContext *ctx, EventNotifier *notifier,
                                   EventNotifierHandler *read, AioPollFn *poll,
                                   EventNotifierHandler *ready);
void __wrap_aio_set_event_notifier(AioContext *ctx, EventNotifier *notifier,
                                   EventNotifierHandler *read, AioPollFn *poll,
                                   EventNotifierHandler *ready)
{
    Handler *h = find_handler(notifier);

    g_assert_true(ctx == fuzz_ctx);
    if (!read) {
        if (h) {
            *h = (Handler) {};
        }
        return;
    }
    if (!h) {
        h = find_handler(NULL);
    }
    *h = (Handler) {
        .notifier = notifier, .read = read, .poll = poll, .ready = ready,
    };
}

void __wrap_aio_set_event_notifier_poll(AioContext *ctx,
                                        EventNotifier *notifier,
                                        EventNotifierHandler *begin,
                                        EventNotifierHandler *end);
void __wrap_aio_set_event_notifier_poll(AioContext *ctx,
                                        EventNotifier *notifier,
                                        EventNotifierHandler *begin,
                                        EventNotifierHandler *end)
{
    Handler *h = find_handler(notifier);

    h->begin = begin;
    h->end = end;
}

QEMUBH *__wrap_aio_bh_new_full(AioContext *ctx, QEMUBHFunc *cb, void *opaque,
                               const char *name, MemReentrancyGuard *guard);
QEMUBH *__wrap_aio_bh_new_full(AioContext *ctx, QEMUBHFunc *cb, void *opaque,
                               const char *name, MemReentrancyGuard *guard)
{
    for (unsigned i = 0; i < ARRAY_SIZE(bottom_halves); i++) {
        QEMUBH *bh = &bottom_halves[i];

        if (!bh->used) {
            *bh = (QEMUBH) { .cb = cb, .opaque = opaque, .used = true };
            return bh;
        }
    }
    g_assert_not_reached();
}

void __wrap_qemu_bh_schedule(QEMUBH *bh);
void __wrap_qemu_bh_schedule(QEMUBH *bh)
{
    g_assert_true(bh->used);
    bh->scheduled = true;
}

void __wrap_qemu_bh_delete(QEMUBH *bh);
void __wrap_qemu_bh_delete(QEMUBH *bh)
{
    bh->used = bh->scheduled = false;
}

/* A request can be popped by one handler and completed by the next. */
static void handle(EventNotifierHandler *handler, EventNotifier *notifier)
{
    fuzz_check_before_handler();
    handler(notifier);
    fuzz_check_after_handler();
}

static bool run_bottom_halves(void)
{
    bool any = false;

    for (unsigned i = 0; i < ARRAY_SIZE(bottom_halves); i++) {
        QEMUBH *bh = &bottom_halves[i];

        if (bh->scheduled) {
            bh->scheduled = false;
            fuzz_check_before_handler();
            bh->cb(bh->opaque);
            fuzz_check_after_handler();
            any = true;
        }
    }
    return any;
}

static bool notifier_is_set(EventNotifier *notifier)
{
    GPollFD fd = {
        .fd = event_notifier_get_fd(notifier), .events = G_IO_IN,
    };

    return g_poll(&fd, 1, 0) == 1;
}

bool fuzz_loop_run(void)
{
    bool any = run_bottom_halves();

    for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
        Handler *h = &handlers[i];

        if (h->notifier && polling && h->poll && h->poll(h->notifier)) {
            handle(h->ready, h->notifier);
            any = true;
        }
        if (h->notifier && notifier_is_set(h->notifier)) {
            handle(h->read, h->notifier);
            any = true;
        }
    }
    return any;
}

void fuzz_loop_spurious(unsigned which)
{
    for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
        Handler *h = &handlers[i];

        if (h->notifier && (which & 1 << i)) {
            handle(h->read, h->notifier);
        }
    }
}

void fuzz_loop_poll(bool on)
{
    if (on == polling) {
        return;
    }
    polling = on;
    for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
        Handler *h = &handlers[i];

        if (h->notifier && h->begin) {
            handle(on ? h->begin : h->end, h->notifier);
            /* A loop that ends polling looks once more. */
            if (!on && h->notifier && h->poll(h->notifier)) {
                handle(h->ready, h->notifier);
            }
        }
    }
}

void fuzz_loop_reset(void)
{
    memset(handlers, 0, sizeof(handlers));
    memset(bottom_halves, 0, sizeof(bottom_halves));
    polling = false;
}

/* The object model: every cast is right. */

static VirtioBusClass bus_class;
static BusState bus;

BusState *qdev_get_parent_bus(const DeviceState *dev)
{
    return &bus;
}

ObjectClass *object_get_class(Object *obj)
{
    return (ObjectClass *)&bus_class;
}

Object *object_dynamic_cast_assert(Object *obj, const char *name,
                                   const char *file, int line,
                                   const char *func)
{
    return obj;
}

ObjectClass *object_class_dynamic_cast_assert(ObjectClass *class,
                                              const char *name,
                                              const char *file, int line,
                                              const char *func)
{
    return class;
}

static void bus_notify(DeviceState *parent, uint16_t vector)
{
    event_notifier_set(virtio_queue_get_guest_notifier(fuzz_virtqueue()));
}

static void __attribute__((constructor)) fuzz_machine_init(void)
{
    bus_class.notify = bus_notify;
}
