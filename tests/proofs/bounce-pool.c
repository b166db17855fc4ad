/*
 * Proofs of the span allocator: any sequence of takes and gives.
 *
 * The user keeps a list of what it holds, which is what the allocator is held
 * to: no span overlaps another one, all lie inside the share, sizes and
 * alignment are as asked for, held and free bytes add up to the share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

/* What GLib and the C library would do, on an object of the pool's type. */
static void *pool_memory(size_t bytes);
static void move_extents(void *to, const void *from, size_t bytes);

#undef g_malloc0
#define g_malloc0(bytes) pool_memory(bytes)
#define memmove(to, from, bytes) move_extents(to, from, bytes)

#include "hw/virtio/bounce-pool.c"

/* A share of so many granules, of which so many spans may be held. */
#define GRANULES 16
#define SHARE (GRANULES * BOUNCE_GRANULE)

#define NUM_EXTENTS (MAX_SPANS + RECENT_MAX + 1)

static BouncePool pool_mem;

static void *pool_memory(size_t bytes)
{
    PROVE(bytes == sizeof(pool_mem) + NUM_EXTENTS * sizeof(BounceExtent) &&
          sizeof(pool_mem.extent) == NUM_EXTENTS * sizeof(BounceExtent),
          "the pool has room for as many extents as there can be");
    return &pool_mem;
}

static void move_extents(void *to, const void *from, size_t bytes)
{
    BounceExtent *dst = to;
    const BounceExtent *src = from;
    size_t num = bytes / sizeof(*dst);

    PROVE(__CPROVER_w_ok(to, bytes) && __CPROVER_r_ok(from, bytes),
          "what is moved lies inside the pool");
    for (size_t i = 0; dst < src && i < num; i++) {
        dst[i] = src[i];
    }
    for (size_t i = num; dst > src && i-- > 0; ) {
        dst[i] = src[i];
    }
}

typedef struct Span {
    uint64_t offset;
    uint64_t size;            /* as it was asked for; 0: not held */
} Span;

static Span spans[MAX_SPANS];

static uint64_t span_end(const Span *span)
{
    return span->offset + ROUND_UP(span->size, BOUNCE_GRANULE);
}

/* A span that was just taken, against all that are held. */
static void check_taken(uint64_t start, const Span *taken)
{
    PROVE(taken->offset >= start && span_end(taken) <= start + SHARE,
          "a span lies inside the share");
    for (unsigned i = 0; i < MAX_SPANS; i++) {
        const Span *span = &spans[i];

        PROVE(span == taken || span->size == 0 ||
              span_end(span) <= taken->offset ||
              span_end(taken) <= span->offset,
              "no two spans that are held overlap");
    }
}

static void step_take(BouncePool *pool, uint64_t start, uint64_t *high_water)
{
    uint64_t size = nondet_u64();
    uint32_t align = nondet_bool() ? BOUNCE_GRANULE : BOUNCE_ALIGN_MAX;
    unsigned i = 0;
    Span taken = { .size = size };
    bool fresh, has_room;

    ASSUME(size > 0);
    while (i < MAX_SPANS && spans[i].size) {
        i++;
    }
    has_room = i < MAX_SPANS;
    if (!bounce_pool_take(pool, size, align, &taken.offset, &fresh)) {
        return;
    }
    PROVE(has_room, "no more spans are held than agreed");
    PROVE(QEMU_IS_ALIGNED(taken.offset, align), "a span is aligned as asked");
    PROVE(!fresh || taken.offset >= *high_water,
          "no byte of a fresh span was held before");
    spans[i] = taken;
    check_taken(start, &spans[i]);
    *high_water = MAX(*high_water, span_end(&taken));
}

static void step_give(BouncePool *pool)
{
    unsigned i = nondet_u16();

    ASSUME(i < MAX_SPANS && spans[i].size);
    bounce_pool_give(pool, spans[i].offset, spans[i].size);
    spans[i].size = 0;
}

void proof_steps(void)
{
    uint64_t start = nondet_u64();
    uint64_t high_water = start;
    uint64_t held = 0;
    BouncePool *pool;

    ASSUME(start % BOUNCE_ALIGN_MAX == 0 && start <= UINT64_MAX - SHARE);
    pool = bounce_pool_new(start, SHARE, MAX_SPANS);
    for (unsigned i = 0; i < NUM_STEPS; i++) {
        if (nondet_bool()) {
            step_take(pool, start, &high_water);
        } else {
            step_give(pool);
        }
    }
    for (unsigned i = 0; i < MAX_SPANS; i++) {
        held += ROUND_UP(spans[i].size, BOUNCE_GRANULE);
    }
    PROVE(bounce_pool_held(pool) == held, "what is held is counted");
    /* Held and free bytes add up, the free ones do not overlap. */
    bounce_pool_check(pool);
}
