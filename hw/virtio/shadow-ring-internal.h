/*
 * Shadow ring: what shadow-ring.c shares with the ring formats.
 *
 * Two things live here, for the ring files and nobody else: the types of
 * memory that the device can write at any time, with the only functions that
 * touch it, and the part of a ring that does not depend on its format.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_SHADOW_RING_INTERNAL_H
#define HW_VIRTIO_SHADOW_RING_INTERNAL_H

#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "hw/virtio/shadow-ring.h"

/*
 * Little-endian memory that the device can change at any time.  The wrappers
 * cannot be used as numbers: read once into a local, check the local, use the
 * local.  What we write is never read back.
 */
typedef struct ForeignLe16 {
    uint16_t raw;
} ForeignLe16;

typedef struct ForeignLe32 {
    uint32_t raw;
} ForeignLe32;

typedef struct ForeignLe64 {
    aligned_uint64_t raw;
} ForeignLe64;

static inline uint16_t foreign_read16(const ForeignLe16 *f)
{
    return le16_to_cpu(qatomic_read(&f->raw));
}

static inline uint32_t foreign_read32(const ForeignLe32 *f)
{
    return le32_to_cpu(qatomic_read(&f->raw));
}

/* Whatever the device stored before it stored *@f can be read after this. */
static inline uint16_t foreign_read16_acquire(const ForeignLe16 *f)
{
    return le16_to_cpu(qatomic_load_acquire(&f->raw));
}

static inline void foreign_write16(ForeignLe16 *f, uint16_t value)
{
    qatomic_set(&f->raw, cpu_to_le16(value));
}

static inline void foreign_write32(ForeignLe32 *f, uint32_t value)
{
    qatomic_set(&f->raw, cpu_to_le32(value));
}

static inline void foreign_write64(ForeignLe64 *f, uint64_t value)
{
    qatomic_set_u64(&f->raw, cpu_to_le64(value));
}

/* The device that reads @value from *@f can read all that we stored before. */
static inline void foreign_write16_release(ForeignLe16 *f, uint16_t value)
{
    qatomic_store_release(&f->raw, cpu_to_le16(value));
}

/**
 * RingCursor - a place in a packed ring (virtio 1.2, 2.8.1)
 * @idx: slot, below the ring's size
 * @wrap: the wrap counter there, true in the first lap
 *
 * The two travel together: a place and the same slot one lap later differ.
 */
typedef struct RingCursor {
    uint16_t idx;
    bool wrap;
} RingCursor;

/** ring_cursor_forward() - @num slots on, at most @size */
static inline RingCursor ring_cursor_forward(RingCursor c, uint32_t num,
                                             uint16_t size)
{
    uint32_t idx = c.idx + num;

    if (unlikely(idx >= size)) {
        return (RingCursor) { .idx = idx - size, .wrap = !c.wrap };
    }
    return (RingCursor) { .idx = idx, .wrap = c.wrap };
}

/** ring_cursor_back() - @num slots back, at most @size */
static inline RingCursor ring_cursor_back(RingCursor c, uint32_t num,
                                          uint16_t size)
{
    bool around = num > c.idx;

    return (RingCursor) {
        .idx = around ? c.idx + size - num : c.idx - num,
        .wrap = c.wrap ^ around,
    };
}

static inline bool ring_cursor_equal(RingCursor a, RingCursor b)
{
    return a.idx == b.idx && a.wrap == b.wrap;
}

/**
 * ring_cursor_passed() - was @event among the last @num slots before @now?
 * @now: the slot after the last one
 * @num: slots, since the question was asked last
 * @event: a slot; its index is below @size
 * @size: of the ring
 *
 * Virtio 1.2, 2.8.10.  Two laps are a circle of 2 * @size places.
 */
static inline bool ring_cursor_passed(RingCursor now, uint64_t num,
                                      RingCursor event, uint16_t size)
{
    /* How far @event lies behind the last slot; negative: before it. */
    int32_t behind = (int32_t)now.idx - 1 - event.idx +
                     (now.wrap == event.wrap ? 0 : size);

    return (uint64_t)(behind < 0 ? behind + 2 * size : behind) < num;
}

/** ring_cursor_encode() - as event words and vring bases have it */
static inline uint16_t ring_cursor_encode(RingCursor c)
{
    return c.idx | (uint16_t)c.wrap << 15;
}

/** ring_cursor_decode() - the index is unchecked */
static inline RingCursor ring_cursor_decode(uint16_t raw)
{
    return (RingCursor) { .idx = raw & 0x7fff, .wrap = raw >> 15 };
}

/**
 * ShadowRingEntry - one request that is out, by its id
 * @token: the caller's; NULL if no request has this id
 * @seq: requests that were added before it, ever
 * @num_descs: descriptors of the ring that it occupies
 */
typedef struct ShadowRingEntry {
    void *token;
    uint64_t seq;
    uint16_t num_descs;
} ShadowRingEntry;

/**
 * ShadowRingOps - what a ring format does
 * @layout: see shadow_ring_layout()
 * @new: allocate the format's ring; shadow-ring.c fills in the neutral part
 * @free: free what @new allocated
 * @add: write descriptors for the request number next_seq; returns its id,
 *     which no other request that is out has
 * @publish: show the device the requests up to sent_seq
 * @should_kick: see shadow_ring_should_kick()
 * @has_used: see shadow_ring_has_used()
 * @take: find the next used buffer, check it, claim it
 * @suppress_calls: see shadow_ring_suppress_calls()
 * @arm_calls: see shadow_ring_arm_calls()
 * @base: see shadow_ring_base()
 * @unfetched: see shadow_ring_unfetched(); false only, shadow-ring.c breaks
 *     the ring
 * @take_back: forget request @id, the newest; sent_seq has moved back already
 *
 * None is called on a broken ring but @free, @suppress_calls and @base.
 */
typedef struct ShadowRingOps {
    ShadowRingLayout (*layout)(uint16_t size);
    ShadowRing *(*new)(const ShadowRingConfig *config);
    void (*free)(ShadowRing *ring);
    uint16_t (*add)(ShadowRing *ring, const ShadowRingChain *chain);
    void (*publish)(ShadowRing *ring);
    bool (*should_kick)(ShadowRing *ring);
    bool (*has_used)(const ShadowRing *ring);
    ShadowRingResult (*take)(ShadowRing *ring, void **token,
                             uint32_t *raw_len);
    void (*suppress_calls)(ShadowRing *ring);
    bool (*arm_calls)(ShadowRing *ring);
    uint32_t (*base)(const ShadowRing *ring);
    bool (*unfetched)(const ShadowRing *ring, uint32_t raw_base,
                      uint16_t *num);
    void (*take_back)(ShadowRing *ring, uint16_t id);
} ShadowRingOps;

/**
 * ShadowRing - the part that does not depend on the format
 *
 * A format embeds it.  All of it is process memory: the device writes none.
 * Requests are counted in 64 bits, so their numbers never wrap.
 */
struct ShadowRing {
    /* Fixed by shadow_ring_new(). */
    const ShadowRingOps *ops;
    uint16_t size;            /* descriptors                             */
    uint16_t order_mask;      /* @order has this many elements, plus one */
    bool event_idx;
    bool indirect;

    /* Ours alone; the thread that uses the ring, no lock. */
    const char *fault;        /* a sentence; not NULL: broken for good   */
    uint16_t num_free;        /* descriptors                             */
    uint16_t num_in_flight;   /* requests that are out, published or not */
    uint64_t next_seq;        /* number of the next request to be added  */
    uint64_t sent_seq;        /* requests below this one are published   */
    ShadowRingEntry *entry;   /* by id, @size of them                    */
    uint16_t *order;          /* id of request n: order[n & order_mask]  */
};

extern const ShadowRingOps shadow_ring_split_ops;
extern const ShadowRingOps shadow_ring_packed_ops;

/** Requests that the device has been shown and has not given back. */
static inline uint16_t shadow_ring_published(const ShadowRing *ring)
{
    return ring->num_in_flight - (uint16_t)(ring->next_seq - ring->sent_seq);
}

/** Latch @fault, which is static.  Nobody looks at a broken ring again. */
static inline void shadow_ring_break(ShadowRing *ring, const char *fault)
{
    assert(!ring->fault);
    ring->fault = fault;
}

/** Forget request @id, which is out; its descriptors are the format's. */
static inline void *shadow_ring_forget(ShadowRing *ring, uint16_t id)
{
    ShadowRingEntry *entry = &ring->entry[id];
    void *token = entry->token;

    entry->token = NULL;
    ring->num_free += entry->num_descs;
    ring->num_in_flight--;
    return token;
}

/**
 * The only way from an id that the device wrote to a token.
 *
 * Returns: the token, which is out no more; NULL if the device must not have
 * written this id.  The ring is broken then.
 */
static inline void *shadow_ring_claim(ShadowRing *ring, uint32_t raw_id)
{
    if (unlikely(raw_id >= ring->size)) {
        shadow_ring_break(ring, "device used an id beyond the ring");
        return NULL;
    }
    if (unlikely(!ring->entry[raw_id].token ||
                 ring->entry[raw_id].seq >= ring->sent_seq)) {
        shadow_ring_break(ring, "device used an id that is not in flight");
        return NULL;
    }
    return shadow_ring_forget(ring, raw_id);
}

#endif /* HW_VIRTIO_SHADOW_RING_INTERNAL_H */
