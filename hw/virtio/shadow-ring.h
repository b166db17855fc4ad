/*
 * Shadow ring: the driver side of one virtqueue that a device QEMU does not
 * trust can write to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_SHADOW_RING_H
#define HW_VIRTIO_SHADOW_RING_H

/**
 * ShadowRingFormat - layout of the ring in shared memory
 * @SHADOW_RING_SPLIT: virtio 1.2, 2.7
 * @SHADOW_RING_PACKED: virtio 1.2, 2.8
 */
typedef enum ShadowRingFormat {
    SHADOW_RING_SPLIT,
    SHADOW_RING_PACKED,
    SHADOW_RING__MAX
} ShadowRingFormat;

/**
 * ShadowRingResult - what shadow_ring_take() found
 * @SHADOW_RING_OK: a token came back
 * @SHADOW_RING_EMPTY: nothing is there now
 * @SHADOW_RING_BROKEN: the device broke the rules, now or earlier; the ring
 *     gives nothing any more, until it is made anew
 */
typedef enum ShadowRingResult {
    SHADOW_RING_OK,
    SHADOW_RING_EMPTY,
    SHADOW_RING_BROKEN,
} ShadowRingResult;

/**
 * ShadowRingConfig - what is fixed for the life of a ring
 * @format: ring format, which the device has acknowledged
 * @size: descriptors; for a split ring a power of two, 1 to 32768
 * @event_idx: VIRTIO_RING_F_EVENT_IDX was negotiated with the device
 * @indirect: VIRTIO_RING_F_INDIRECT_DESC was negotiated with the device
 * @mem: zeroed memory of shadow_ring_layout()'s size, aligned to 16 bytes,
 *     which the device can write at any time.  Borrowed; it outlives the ring.
 */
typedef struct ShadowRingConfig {
    ShadowRingFormat format;
    uint16_t size;
    bool event_idx;
    bool indirect;
    void *mem;
} ShadowRingConfig;

/**
 * ShadowRingLayout - where the three areas lie, in bytes from @mem
 * @desc: descriptor area
 * @driver: driver area (split: available ring)
 * @device: device area (split: used ring)
 * @bytes: all of it
 */
typedef struct ShadowRingLayout {
    uint64_t desc;
    uint64_t driver;
    uint64_t device;
    uint64_t bytes;
} ShadowRingLayout;

/**
 * ShadowRingBuf - one descriptor to be
 * @addr: address as the device knows it
 * @len: bytes, not 0
 */
typedef struct ShadowRingBuf {
    uint64_t addr;
    uint32_t len;
} ShadowRingBuf;

/**
 * ShadowRingChain - one request to be
 * @bufs: @num_out device-readable buffers, then @num_in device-writable ones.
 *     Borrowed for the call.
 * @num_out: device-readable buffers
 * @num_in: device-writable buffers; at least one of either kind
 * @table: NULL, or memory for an indirect table of 16 bytes for each buffer,
 *     aligned to 16 bytes.  It stays the device's until the token comes back.
 * @table_addr: address of @table as the device knows it
 */
typedef struct ShadowRingChain {
    const ShadowRingBuf *bufs;
    uint16_t num_out;
    uint16_t num_in;
    void *table;
    uint64_t table_addr;
} ShadowRingChain;

/** Bytes of one indirect descriptor, in either format (virtio 1.2, 2.7.5.3). */
#define SHADOW_RING_DESC_BYTES 16

typedef struct ShadowRing ShadowRing;

/**
 * shadow_ring_layout() - where a ring's areas lie
 * @format: ring format
 * @size: descriptors
 *
 * Pure.  The areas are aligned as virtio 1.2, 2.7 and 2.8 ask, and no two
 * share a cache line.
 */
ShadowRingLayout shadow_ring_layout(ShadowRingFormat format, uint16_t size);

/**
 * shadow_ring_new() - make an empty ring
 * @config: copied
 *
 * The caller owns the ring and uses it from one thread at a time.  Allocates;
 * nothing else in this file does.
 */
ShadowRing *shadow_ring_new(const ShadowRingConfig *config);

/**
 * shadow_ring_free() - forget a ring
 * @ring: may be NULL
 *
 * Tokens that are still out are the caller's business.  The shared memory is
 * not touched.
 */
void shadow_ring_free(ShadowRing *ring);

/** shadow_ring_size() - descriptors the ring has when it is empty */
uint16_t shadow_ring_size(const ShadowRing *ring);

/** shadow_ring_indirect() - whether the device takes indirect tables */
bool shadow_ring_indirect(const ShadowRing *ring);

/**
 * shadow_ring_room() - free descriptors
 *
 * A chain needs one for each buffer, or one in all when it has a table.
 */
uint16_t shadow_ring_room(const ShadowRing *ring);

/** shadow_ring_in_flight() - tokens that are out, published or not */
uint16_t shadow_ring_in_flight(const ShadowRing *ring);

/**
 * shadow_ring_add() - write one request's descriptors
 * @ring: not broken, with room for @chain
 * @chain: the request
 * @token: not NULL; comes back once, from shadow_ring_take() or
 *     shadow_ring_take_back()
 *
 * The device does not see it before shadow_ring_publish().  Cannot fail.
 */
void shadow_ring_add(ShadowRing *ring, const ShadowRingChain *chain,
                     void *token);

/**
 * shadow_ring_publish() - make all that was added visible at once
 * @ring: any; nothing happens if nothing was added
 *
 * Virtio 1.2, 2.7.13.3.
 */
void shadow_ring_publish(ShadowRing *ring);

/**
 * shadow_ring_should_kick() - does the device want to hear of it?
 * @ring: any
 *
 * Call once after shadow_ring_publish(): it looks at everything published
 * since it was last asked (virtio 1.2, 2.7.13.4.1).  False on a broken ring.
 */
bool shadow_ring_should_kick(ShadowRing *ring);

/**
 * shadow_ring_has_used() - one look, without a barrier and without a change
 * @ring: any
 *
 * True if shadow_ring_take() would not say EMPTY.  A broken ring has nothing.
 */
bool shadow_ring_has_used(const ShadowRing *ring);

/**
 * shadow_ring_take() - take back what the device has used
 * @ring: any
 * @token: set on OK
 * @raw_len: set on OK: bytes that the device says it wrote, unchecked
 *
 * Each value that the device wrote is read once and checked; a bad one breaks
 * the ring, see shadow_ring_fault().
 */
ShadowRingResult shadow_ring_take(ShadowRing *ring, void **token,
                                  uint32_t *raw_len);

/**
 * shadow_ring_suppress_calls() - ask the device not to notify
 * @ring: any
 *
 * A hint (virtio 1.2, 2.7.10); the device may notify all the same.
 */
void shadow_ring_suppress_calls(ShadowRing *ring);

/**
 * shadow_ring_arm_calls() - ask for a notification at the next used buffer
 * @ring: any
 *
 * Returns: true if there is something to take already: look again, since no
 * notification may come for it.
 */
bool shadow_ring_arm_calls(ShadowRing *ring);

/**
 * shadow_ring_base() - argument for SET_VRING_BASE
 * @ring: any, nothing added and unpublished
 *
 * The next available index, in vhost-user's encoding for the format.
 */
uint32_t shadow_ring_base(const ShadowRing *ring);

/**
 * shadow_ring_unfetched() - what the device's answer to GET_VRING_BASE means
 * @ring: any
 * @raw_base: the answer, unchecked
 * @num: set on success: requests published that the device has not fetched,
 *     the newest ones
 *
 * Returns: false if the answer cannot be true; the ring is broken then.
 */
bool shadow_ring_unfetched(ShadowRing *ring, uint32_t raw_base,
                           uint16_t *num);

/**
 * shadow_ring_take_back() - take back the newest request
 * @ring: stopped by the device, nothing added and unpublished
 *
 * As if it had never been published.  Only for requests that the device says
 * it has not fetched.
 *
 * Returns: the token, or NULL if the newest request was used already: the
 * device contradicts itself, and the ring is broken.
 */
void *shadow_ring_take_back(ShadowRing *ring);

/**
 * shadow_ring_fault() - why the ring is broken
 *
 * Returns: a static sentence without a full stop, NULL if it is not broken.
 */
const char *shadow_ring_fault(const ShadowRing *ring);

#endif /* HW_VIRTIO_SHADOW_RING_H */
