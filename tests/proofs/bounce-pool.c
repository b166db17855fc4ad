/*
 * Proof of the span allocator: one take or give in any state that satisfies
 * the invariant, which holds again afterwards; so it holds after any number of
 * them.
 *
 * The invariant is the whole truth about the share: spans that are held (the
 * user keeps a list), spans on the stack of recent ones and extents lie inside
 * it, overlap nowhere, and add up to it.
 *
 * The stack has two places here instead of 64, or the states would be too many
 * (table.py has the change); nothing depends on how high it is.  STEP is
 * how many spans are on it and how many extents there are to begin with.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

/* What GLib and the C library would do, on an object of the pool's type. */
static void *pool_memory(size_t bytes);
static void move_extents(void *to, const void *from, size_t bytes);

#undef g_malloc0
#define g_malloc0(bytes) pool_memory(bytes)
#define memmove(to, from, bytes) move_extents((to), (from), (bytes))

#include "hw/virtio/bounce-pool.c"

/* Offsets are not special anywhere; sizes are two pages of eight granules. */
#define START (3 * BOUNCE_ALIGN_MAX)
#define SHARE (2 * BOUNCE_ALIGN_MAX)
#define NUM_EXTENTS (MAX_SPANS + RECENT_MAX + 1)
#define NUM_SPANS (MAX_SPANS + RECENT_MAX + NUM_EXTENTS)

static BouncePool pool_mem;
static BounceExtent held[MAX_SPANS];        /* empty: nothing is held there */

static void *pool_memory(size_t bytes)
{
    PROVE(bytes == sizeof(pool_mem) + sizeof(pool_mem.extent),
          "there is room for as many extents as there can be");
    return &pool_mem;
}

/* @num of @array from @lower on; element by element: no index is symbolic. */
static void move_in(BounceExtent *array, unsigned size, size_t lower,
                    size_t num, bool down)
{
    PROVE(lower + num < size, "what is moved lies in its array");
    for (unsigned i = 0; down && i + 1 < size; i++) {
        if (i >= lower && i < lower + num) {
            array[i] = array[i + 1];
        }
    }
    for (unsigned i = size - 1; !down && i > 0; i--) {
        if (i > lower && i <= lower + num) {
            array[i] = array[i - 1];
        }
    }
}

static void move_extents(void *to, const void *from, size_t bytes)
{
    size_t begin = __CPROVER_POINTER_OFFSET(from);
    size_t end = __CPROVER_POINTER_OFFSET(to);
    size_t lower = MIN(begin, end);
    size_t num = bytes / sizeof(BounceExtent);

    if (num == 0) {
        return;
    }
    PROVE(MAX(begin, end) - lower == sizeof(BounceExtent),
          "spans move by one place");
    if (lower < offsetof(BouncePool, extent)) {
        lower -= offsetof(BouncePool, recent);
        move_in(pool_mem.recent, RECENT_MAX, lower / sizeof(BounceExtent),
                num, end < begin);
    } else {
        lower -= offsetof(BouncePool, extent);
        move_in(pool_mem.extent, NUM_EXTENTS, lower / sizeof(BounceExtent),
                num, end < begin);
    }
}

/* All spans there are, in one list; those that are not there are empty. */
static void list_spans(const BouncePool *pool, BounceExtent *list)
{
    for (unsigned i = 0; i < NUM_SPANS; i++) {
        list[i] = (BounceExtent) { 0, 0 };
    }
    for (unsigned i = 0; i < MAX_SPANS; i++) {
        list[i] = held[i];
    }
    for (unsigned i = 0; i < RECENT_MAX && i < pool->num_recent; i++) {
        list[MAX_SPANS + i] = pool->recent[i];
    }
    for (unsigned i = 0; i < NUM_EXTENTS && i < pool->num_extents; i++) {
        list[MAX_SPANS + RECENT_MAX + i] = pool->extent[i];
    }
}

static bool is_empty(const BounceExtent *e)
{
    return e->start == e->end;
}

static bool spans_overlap_nowhere(const BounceExtent *list)
{
    for (unsigned i = 0; i < NUM_SPANS; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (!is_empty(&list[i]) && !is_empty(&list[j]) &&
                list[i].start < list[j].end && list[j].start < list[i].end) {
                return false;
            }
        }
    }
    return true;
}

static bool spans_add_up(const BouncePool *pool, const BounceExtent *list)
{
    uint64_t bytes = 0, bytes_held = 0;
    unsigned num_held = 0;

    for (unsigned i = 0; i < NUM_SPANS; i++) {
        const BounceExtent *e = &list[i];

        if (is_empty(e)) {
            continue;
        }
        if (e->start > e->end || e->start < START || e->end > START + SHARE ||
            e->start % BOUNCE_GRANULE || e->end % BOUNCE_GRANULE ||
            (i < MAX_SPANS + RECENT_MAX && e->end > pool->high_water)) {
            return false;
        }
        bytes += extent_bytes(e);
        bytes_held += i < MAX_SPANS ? extent_bytes(e) : 0;
        num_held += i < MAX_SPANS;
    }
    return bytes == SHARE && bytes_held == pool->held &&
           num_held == pool->num_held;
}

static bool extents_ascend(const BouncePool *pool)
{
    if (pool->num_extents > NUM_EXTENTS || pool->num_recent > RECENT_MAX) {
        return false;
    }
    for (unsigned i = 0; i < NUM_EXTENTS && i < pool->num_extents; i++) {
        if (is_empty(&pool->extent[i]) ||
            (i > 0 && pool->extent[i - 1].end >= pool->extent[i].start)) {
            return false;
        }
    }
    for (unsigned i = 0; i < RECENT_MAX && i < pool->num_recent; i++) {
        if (is_empty(&pool->recent[i])) {
            return false;
        }
    }
    return true;
}

static BounceExtent any_extent(void)
{
    return (BounceExtent) { nondet_u64(), nondet_u64() };
}

static BouncePool *any_pool(void)
{
    BouncePool *pool = bounce_pool_new(START, SHARE, MAX_SPANS);
    BounceExtent list[NUM_SPANS];

    list_spans(pool, list);
    PROVE(spans_overlap_nowhere(list) && spans_add_up(pool, list) &&
          extents_ascend(pool), "a new pool satisfies the invariant");

    pool->num_recent = STEP % (RECENT_MAX + 1);
    pool->num_extents = STEP / (RECENT_MAX + 1);
    pool->held = nondet_u64();
    pool->num_held = nondet_u32();
    pool->high_water = nondet_u64();
    ASSUME(pool->high_water <= START + SHARE);
    for (unsigned i = 0; i < MAX_SPANS; i++) {
        held[i] = any_extent();
    }
    for (unsigned i = 0; i < pool->num_recent; i++) {
        pool->recent[i] = any_extent();
    }
    for (unsigned i = 0; i < pool->num_extents; i++) {
        pool->extent[i] = any_extent();
    }
    list_spans(pool, list);
    ASSUME(spans_add_up(pool, list) && extents_ascend(pool) &&
           spans_overlap_nowhere(list));
    return pool;
}

static void step_take(BouncePool *pool)
{
    uint64_t size = nondet_u64();
    uint32_t align = nondet_bool() ? BOUNCE_GRANULE : BOUNCE_ALIGN_MAX;
    uint64_t high_water = pool->high_water;
    uint64_t offset;
    bool fresh;
    unsigned i = 0;

    ASSUME(size > 0);
    if (!bounce_pool_take(pool, size, align, &offset, &fresh)) {
        return;
    }
    while (i < MAX_SPANS && !is_empty(&held[i])) {
        i++;
    }
    PROVE(i < MAX_SPANS, "no more spans are held than agreed");
    PROVE(QEMU_IS_ALIGNED(offset, align), "a span is aligned as asked");
    PROVE(!fresh || offset >= high_water,
          "no byte of a fresh span was held before");
    held[i] = (BounceExtent) { offset,
                               offset + ROUND_UP(size, BOUNCE_GRANULE) };
}

static void step_give(BouncePool *pool)
{
    unsigned i = nondet_bool() ? 0 : MAX_SPANS - 1;
    /* As it was asked for: not rounded up. */
    unsigned less = nondet_u16();

    ASSUME(!is_empty(&held[i]) && less < BOUNCE_GRANULE);
    bounce_pool_give(pool, held[i].start, extent_bytes(&held[i]) - less);
    held[i] = (BounceExtent) { 0, 0 };
}

void proof_any_state(void)
{
    BouncePool *pool = any_pool();
    BounceExtent list[NUM_SPANS];

    if (nondet_bool()) {
        step_take(pool);
    } else {
        step_give(pool);
    }
    list_spans(pool, list);
    PROVE(spans_overlap_nowhere(list), "no two spans overlap, held or free");
    PROVE(spans_add_up(pool, list), "held and free spans are the share");
    PROVE(extents_ascend(pool), "extents ascend and do not touch");
}
