/*
 * Bounce pool: which spans of one queue's share are held.
 *
 * Free bytes are in one of two places:
 *
 * - recent[], a short stack of spans as they were given back.  A queue asks
 *   for a few sizes over and over, so a take finds its size at the top or
 *   near it, in constant time, and gets memory that is still in the cache.
 * - extent[], the rest: sorted by offset, merged with its neighbours, taken
 *   first fit.  First fit keeps the share's tail untouched as long as it can,
 *   so memory that is never needed never becomes resident.
 *
 * Spans leave the stack for the extents when it is full (the older half), and
 * all at once when no extent fits: the hole may be there, in pieces.
 *
 * Two neighbours in extent[] are always kept apart by a span that is held or
 * recent, which bounds their number by max_spans + RECENT_MAX + 1; so nothing
 * is allocated after bounce_pool_new().
 *
 * "Fresh" is a high-water mark: what lies above it was never held, or cleared
 * since.  A gap below, which an alignment left, counts as used; that errs to
 * the safe side.
 *
 * Invariants:  held + recent + extents == size;  no two of them overlap;
 *              extents ascend and do not touch.
 * Not here:    the memory behind the offsets, and who holds what.  A span
 *              that comes back is believed, since only QEMU's own code
 *              gives; what does not fit between the extents is an assert.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/bounce.h"

/* Most of a batch of completions; what is searched stays within 1 KiB. */
#define RECENT_MAX 64

typedef struct BounceExtent {
    uint64_t start;
    uint64_t end;             /* first byte after it */
} BounceExtent;

struct BouncePool {
    /* Fixed by bounce_pool_new(). */
    uint64_t start;
    uint64_t size;
    unsigned max_spans;

    /* The queue's thread, no lock. */
    uint64_t held;            /* bytes                                   */
    unsigned num_held;        /* spans                                   */
    uint64_t high_water;      /* offset: nothing above was ever held     */
    unsigned num_recent;
    unsigned num_extents;
    BounceExtent recent[RECENT_MAX];
    BounceExtent extent[];
};

static unsigned max_extents(const BouncePool *pool)
{
    return pool->max_spans + RECENT_MAX + 1;
}

BouncePool *bounce_pool_new(uint64_t start, uint64_t size, unsigned max_spans)
{
    BouncePool *pool;

    assert(QEMU_IS_ALIGNED(start, BOUNCE_ALIGN_MAX));
    assert(QEMU_IS_ALIGNED(size, BOUNCE_ALIGN_MAX));
    assert(size > 0 && start <= UINT64_MAX - size);
    assert(max_spans > 0 && max_spans <= UINT_MAX - RECENT_MAX - 1);

    pool = g_malloc0(sizeof(*pool) + sizeof(pool->extent[0]) *
                     ((size_t)max_spans + RECENT_MAX + 1));
    pool->start = start;
    pool->size = size;
    pool->max_spans = max_spans;
    pool->high_water = start;
    pool->num_extents = 1;
    pool->extent[0] = (BounceExtent) { start, start + size };
    return pool;
}

void bounce_pool_free(BouncePool *pool)
{
    g_free(pool);
}

uint64_t bounce_pool_size(const BouncePool *pool)
{
    return pool->size;
}

uint64_t bounce_pool_held(const BouncePool *pool)
{
    return pool->held;
}

uint64_t bounce_pool_high_water(const BouncePool *pool)
{
    return pool->high_water - pool->start;
}

static uint64_t extent_bytes(const BounceExtent *e)
{
    return e->end - e->start;
}

static void extent_remove(BounceExtent *array, unsigned *num, unsigned i)
{
    memmove(&array[i], &array[i + 1], (*num - i - 1) * sizeof(array[0]));
    (*num)--;
}

static void extent_insert(BouncePool *pool, unsigned i, BounceExtent e)
{
    assert(pool->num_extents < max_extents(pool));
    memmove(&pool->extent[i + 1], &pool->extent[i],
            (pool->num_extents - i) * sizeof(pool->extent[0]));
    pool->extent[i] = e;
    pool->num_extents++;
}

/* Returns: how many extents begin below @offset. */
static unsigned extents_below(const BouncePool *pool, uint64_t offset)
{
    unsigned low = 0;
    unsigned high = pool->num_extents;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (pool->extent[mid].start < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Put @e among the extents and merge it with those that it touches. */
static void extents_give(BouncePool *pool, BounceExtent e)
{
    unsigned i = extents_below(pool, e.start);
    BounceExtent *prev = i > 0 ? &pool->extent[i - 1] : NULL;
    BounceExtent *next = i < pool->num_extents ? &pool->extent[i] : NULL;

    /* Given twice, or never taken. */
    assert(!prev || prev->end <= e.start);
    assert(!next || e.end <= next->start);

    if (prev && prev->end == e.start) {
        prev->end = e.end;
        if (next && next->start == e.end) {
            prev->end = next->end;
            extent_remove(pool->extent, &pool->num_extents, i);
        }
    } else if (next && next->start == e.end) {
        next->start = e.start;
    } else {
        extent_insert(pool, i, e);
    }
}

/* First fit. */
static bool extents_take(BouncePool *pool, uint64_t size, uint32_t align,
                         BounceExtent *taken)
{
    for (unsigned i = 0; i < pool->num_extents; i++) {
        BounceExtent *e = &pool->extent[i];
        uint64_t start = ROUND_UP(e->start, align);
        BounceExtent tail = { start + size, e->end };

        if (start >= e->end || e->end - start < size) {
            continue;
        }
        *taken = (BounceExtent) { start, start + size };
        e->end = start;
        if (extent_bytes(e) == 0) {
            *e = tail;
            if (extent_bytes(e) == 0) {
                extent_remove(pool->extent, &pool->num_extents, i);
            }
        } else if (extent_bytes(&tail) > 0) {
            extent_insert(pool, i + 1, tail);
        }
        return true;
    }
    return false;
}

/* Move the @num oldest spans of the stack to the extents. */
static void recent_flush(BouncePool *pool, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        extents_give(pool, pool->recent[i]);
    }
    pool->num_recent -= num;
    memmove(&pool->recent[0], &pool->recent[num],
            pool->num_recent * sizeof(pool->recent[0]));
}

static void recent_give(BouncePool *pool, BounceExtent e)
{
    if (pool->num_recent == RECENT_MAX) {
        recent_flush(pool, RECENT_MAX / 2);
    }
    pool->recent[pool->num_recent++] = e;
}

/* Exact size only: a part of a span would leave pieces nobody asks for. */
static bool recent_take(BouncePool *pool, uint64_t size, uint32_t align,
                        BounceExtent *taken)
{
    for (unsigned i = pool->num_recent; i-- > 0; ) {
        const BounceExtent *e = &pool->recent[i];

        if (extent_bytes(e) == size && QEMU_IS_ALIGNED(e->start, align)) {
            *taken = *e;
            extent_remove(pool->recent, &pool->num_recent, i);
            return true;
        }
    }
    return false;
}

static bool find_span(BouncePool *pool, uint64_t size, uint32_t align,
                      BounceExtent *taken)
{
    if (recent_take(pool, size, align, taken) ||
        extents_take(pool, size, align, taken)) {
        return true;
    }
    if (pool->num_recent == 0) {
        return false;
    }
    recent_flush(pool, pool->num_recent);
    return extents_take(pool, size, align, taken);
}

bool bounce_pool_take(BouncePool *pool, uint64_t size, uint32_t align,
                      uint64_t *offset, bool *fresh)
{
    BounceExtent taken;

    assert(size > 0);
    assert(align == BOUNCE_GRANULE || align == BOUNCE_ALIGN_MAX);

    if (size > pool->size - pool->held || pool->num_held == pool->max_spans) {
        return false;
    }
    size = ROUND_UP(size, BOUNCE_GRANULE);
    if (!find_span(pool, size, align, &taken)) {
        return false;
    }
    *offset = taken.start;
    *fresh = taken.start >= pool->high_water;
    pool->high_water = MAX(pool->high_water, taken.end);
    pool->held += size;
    pool->num_held++;
    return true;
}

void bounce_pool_give(BouncePool *pool, uint64_t offset, uint64_t size)
{
    size = ROUND_UP(size, BOUNCE_GRANULE);

    assert(pool->num_held > 0);
    assert(size > 0 && size <= pool->held);
    assert(QEMU_IS_ALIGNED(offset, BOUNCE_GRANULE));
    assert(offset >= pool->start && offset + size <= pool->high_water);

    pool->held -= size;
    pool->num_held--;
    recent_give(pool, (BounceExtent) { offset, offset + size });
}

void bounce_pool_trim(BouncePool *pool, BouncePoolTrimFunc *clear,
                      void *opaque)
{
    const BounceExtent *last;

    recent_flush(pool, pool->num_recent);
    for (unsigned i = 0; i < pool->num_extents; i++) {
        uint64_t start = pool->extent[i].start;
        uint64_t end = MIN(pool->extent[i].end, pool->high_water);

        if (start < end) {
            clear(opaque, start, end - start);
        }
    }
    last = pool->num_extents ? &pool->extent[pool->num_extents - 1] : NULL;
    if (last && last->end == pool->start + pool->size) {
        pool->high_water = MIN(pool->high_water, last->start);
    }
}

void bounce_pool_check(const BouncePool *pool)
{
    uint64_t bytes = pool->held;

    assert(pool->num_held <= pool->max_spans);
    assert(pool->num_extents <= max_extents(pool));
    for (unsigned i = 0; i < pool->num_extents; i++) {
        const BounceExtent *e = &pool->extent[i];

        assert(e->start < e->end && e->start >= pool->start);
        assert(e->end <= pool->start + pool->size);
        assert(i == 0 || pool->extent[i - 1].end < e->start);
        bytes += extent_bytes(e);
    }
    for (unsigned i = 0; i < pool->num_recent; i++) {
        const BounceExtent *r = &pool->recent[i];
        unsigned below = extents_below(pool, r->end);

        assert(below == 0 || pool->extent[below - 1].end <= r->start);
        for (unsigned j = 0; j < i; j++) {
            assert(pool->recent[j].end <= r->start ||
                   r->end <= pool->recent[j].start);
        }
        bytes += extent_bytes(r);
    }
    assert(bytes == pool->size);
}
