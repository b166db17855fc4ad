/*
 * Bounce region: the only memory that an isolated backend can map, and the
 * allocator of its spans.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BOUNCE_H
#define HW_VIRTIO_BOUNCE_H

#include "qemu/units.h"

/** Backends register memory in units of 2 MiB; the region is made of them. */
#define BOUNCE_REGION_UNIT (2 * MiB)

/** Span offsets and sizes are multiples of this. */
#define BOUNCE_GRANULE 512

/** The largest alignment that a span can have. */
#define BOUNCE_ALIGN_MAX 4096

/**
 * BounceRegion - one sealed memfd, mapped by QEMU and by the backend
 * @fd: owned; goes to the backend with SET_MEM_TABLE and nowhere else
 * @host: where QEMU has mapped it; never leaves QEMU
 * @size: bytes, a multiple of BOUNCE_REGION_UNIT
 * @guest_base: address of its first byte in descriptors ("guest physical" to
 *     the backend).  Made up.
 * @user_base: address of its first byte in SET_VRING_ADDR ("userspace" to the
 *     backend).  Made up, and different, so that mixing them up shows.
 *
 * Read-only after bounce_region_new().  All bytes are zero in the beginning,
 * and take no memory before they are touched.
 */
typedef struct BounceRegion {
    int fd;
    uint8_t *host;
    uint64_t size;
    uint64_t guest_base;
    uint64_t user_base;
} BounceRegion;

/**
 * bounce_region_new() - make a region
 * @size: bytes, rounded up to BOUNCE_REGION_UNIT
 * @errp: set on failure
 *
 * Sealed against shrinking, growing and further seals: a backend that could
 * truncate it would kill QEMU with SIGBUS.  No two regions of a process that
 * follow each other have the same addresses.
 *
 * Returns: the region, owned by the caller; NULL on failure.  BQL held.
 */
BounceRegion *bounce_region_new(uint64_t size, Error **errp);

/**
 * bounce_region_free() - unmap and close
 * @region: may be NULL; no queue uses it any more
 */
void bounce_region_free(BounceRegion *region);

/**
 * bounce_region_clear() - make bytes read as zero and give their memory back
 * @region: the region
 * @offset: of the first byte
 * @size: bytes; nobody holds a span there
 *
 * Both sides lose whole pages at once and get new ones at their next access.  A
 * backend that has pinned the old ones goes on with these, and is not seen any
 * more.  Any thread.
 */
void bounce_region_clear(const BounceRegion *region, uint64_t offset,
                         uint64_t size);

/**
 * BouncePool - which spans of one queue's share are held
 *
 * Knows offsets only: it never touches the memory behind them.
 * Invariant: held + free == size; two held spans never overlap.
 * One thread at a time.
 */
typedef struct BouncePool BouncePool;

/**
 * bounce_pool_new() - make an allocator
 * @start: first offset, a multiple of BOUNCE_ALIGN_MAX
 * @size: bytes, a multiple of BOUNCE_ALIGN_MAX, not 0
 * @max_spans: spans that may be held at once, at least 1
 *
 * Allocates; the other functions do not.
 */
BouncePool *bounce_pool_new(uint64_t start, uint64_t size, unsigned max_spans);

/** bounce_pool_free() - @pool may be NULL; spans still held are forgotten */
void bounce_pool_free(BouncePool *pool);

/** bounce_pool_size() - bytes of the share: no larger span can ever be had */
uint64_t bounce_pool_size(const BouncePool *pool);

/** bounce_pool_held() - bytes held now */
uint64_t bounce_pool_held(const BouncePool *pool);

/** bounce_pool_high_water() - bytes from its start to the end of any span yet */
uint64_t bounce_pool_high_water(const BouncePool *pool);

/**
 * bounce_pool_take() - hold a span
 * @pool: the allocator
 * @size: bytes, not 0; rounded up to BOUNCE_GRANULE
 * @align: BOUNCE_GRANULE or BOUNCE_ALIGN_MAX
 * @offset: set on success
 * @fresh: set on success: no byte of the span was held before, or all that
 *     were have been cleared since
 *
 * What was given last is taken first, where it fits: it is in the cache.
 *
 * Returns: false if there is no room now, or max_spans are held.
 */
bool bounce_pool_take(BouncePool *pool, uint64_t size, uint32_t align,
                      uint64_t *offset, bool *fresh);

/**
 * bounce_pool_give() - give a span back
 * @pool: the allocator
 * @offset: as bounce_pool_take() set it
 * @size: as it was asked for
 */
void bounce_pool_give(BouncePool *pool, uint64_t offset, uint64_t size);

/**
 * BouncePoolTrimFunc - clear bytes that nobody holds
 * @opaque: what bounce_pool_trim() was given
 * @offset: of the first byte
 * @size: bytes
 */
typedef void BouncePoolTrimFunc(void *opaque, uint64_t offset, uint64_t size);

/**
 * bounce_pool_trim() - have everything cleared that is free and was held once
 * @pool: the allocator
 * @clear: called for each range, in ascending order
 * @opaque: for @clear
 *
 * What lies above all spans that are held is fresh again.
 */
void bounce_pool_trim(BouncePool *pool, BouncePoolTrimFunc *clear,
                      void *opaque);

/**
 * bounce_pool_check() - assert the invariants
 *
 * For tests: it looks at every free span.
 */
void bounce_pool_check(const BouncePool *pool);

/**
 * BounceLayout - buffers placed one after the other in a span to be
 * @bytes: size of the span so far
 * @align: alignment that the span needs
 */
typedef struct BounceLayout {
    uint64_t bytes;
    uint32_t align;
} BounceLayout;

/** From this length on a buffer keeps the alignment that the guest gave it. */
#define BOUNCE_KEEP_ALIGN_MIN 512

/** ... and a smaller one starts at a multiple of this. */
#define BOUNCE_SMALL_ALIGN 16

/** bounce_layout_init() - an empty span */
static inline void bounce_layout_init(BounceLayout *layout)
{
    layout->bytes = 0;
    layout->align = BOUNCE_GRANULE;
}

/* That bounce_layout_place() keeps. */
static inline uint32_t bounce_buffer_align(uint64_t guest_addr, uint32_t len)
{
    if (len < BOUNCE_KEEP_ALIGN_MIN) {
        return BOUNCE_SMALL_ALIGN;
    }
    if (QEMU_IS_ALIGNED(guest_addr, BOUNCE_ALIGN_MAX)) {
        return BOUNCE_ALIGN_MAX;
    }
    if (QEMU_IS_ALIGNED(guest_addr, BOUNCE_GRANULE)) {
        return BOUNCE_GRANULE;
    }
    return BOUNCE_SMALL_ALIGN;
}

/**
 * bounce_layout_place() - place the next buffer
 * @layout: the span to be
 * @guest_addr: where the buffer lies in the guest
 * @len: bytes
 *
 * A buffer of BOUNCE_KEEP_ALIGN_MIN bytes and more starts at a multiple of
 * 4096 or 512 if it does so in the guest: backends hand it to O_DIRECT.
 * Smaller ones start at a multiple of 16.  Place the large ones first.
 *
 * Returns: offset of the buffer from the start of the span.
 */
static inline uint64_t bounce_layout_place(BounceLayout *layout,
                                           uint64_t guest_addr, uint32_t len)
{
    uint32_t align = bounce_buffer_align(guest_addr, len);
    uint64_t offset = ROUND_UP(layout->bytes, align);

    layout->bytes = offset + len;
    layout->align = MAX(layout->align, align);
    return offset;
}

#endif /* HW_VIRTIO_BOUNCE_H */
