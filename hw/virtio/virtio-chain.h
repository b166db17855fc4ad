/*
 * Descriptor chains popped from the guest without mapping their buffers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VIRTIO_CHAIN_H
#define HW_VIRTIO_VIRTIO_CHAIN_H

#include "hw/virtio/virtio.h"

/**
 * VirtQueueBuf - one descriptor of the guest
 * @addr: address in the device's DMA address space, unchecked
 * @len: bytes, not 0
 */
typedef struct VirtQueueBuf {
    hwaddr addr;
    uint32_t len;
} VirtQueueBuf;

/**
 * VirtQueueChain - one request of the guest
 * @head: buffer id for the used ring
 * @ndescs: ring slots that it takes: 1, or on a packed ring the length of a
 *     direct chain
 * @num_out: device-readable buffers
 * @num_in: device-writable buffers, behind them
 * @bytes_out: sum of the device-readable lengths
 * @bytes_in: sum of the device-writable lengths
 * @capacity: what @bufs has room for
 * @bufs: owned by whoever owns the chain
 */
typedef struct VirtQueueChain {
    uint16_t head;
    uint16_t ndescs;
    uint16_t num_out;
    uint16_t num_in;
    uint64_t bytes_out;
    uint64_t bytes_in;
    uint16_t capacity;
    VirtQueueBuf *bufs;
} VirtQueueChain;

/**
 * VirtQueueChainResult - what virtqueue_pop_chain() found
 * @VIRTQUEUE_CHAIN_OK: @chain holds a request
 * @VIRTQUEUE_CHAIN_EMPTY: nothing available (or the device is disabled)
 * @VIRTQUEUE_CHAIN_BAD: the guest broke the rules; nothing was popped
 */
typedef enum VirtQueueChainResult {
    VIRTQUEUE_CHAIN_OK,
    VIRTQUEUE_CHAIN_EMPTY,
    VIRTQUEUE_CHAIN_BAD,
} VirtQueueChainResult;

/**
 * VirtQueueRings - where the guest has put a queue's rings
 * @VIRTQUEUE_RINGS_DIRECT: in RAM that can be accessed from any thread
 * @VIRTQUEUE_RINGS_TRANSLATED: behind an IOMMU: only with the BQL, or where the
 *     address space of VirtIODevice.ring_as allows it
 * @VIRTQUEUE_RINGS_UNUSABLE: not mapped, or in a device or ROM
 */
typedef enum VirtQueueRings {
    VIRTQUEUE_RINGS_DIRECT,
    VIRTQUEUE_RINGS_TRANSLATED,
    VIRTQUEUE_RINGS_UNUSABLE,
} VirtQueueRings;

/**
 * virtqueue_rings() - where the rings lie now
 * @vq: queue with its addresses set
 */
VirtQueueRings virtqueue_rings(VirtQueue *vq);

/**
 * virtqueue_pop_chain() - pop one request
 * @vq: a queue whose rings can be accessed from this thread
 * @chain: @capacity and @bufs set by the caller, the rest set on OK.
 *     @capacity is at least VIRTQUEUE_MAX_SIZE.
 * @fault: set on BAD: a static sentence without a full stop
 *
 * Like virtqueue_pop(), but maps nothing, allocates nothing, and returns an
 * error instead of reporting it, so that it can run in any thread.  Split and
 * packed, direct, indirect, and direct followed by one indirect (virtio 1.2,
 * 2.7.5.3).  Descriptor tables behind memory that is not direct RAM are BAD
 * (translated: read under the BQL; without it, there is nothing to pop).  Only
 * the owner of the queue may call it.
 */
VirtQueueChainResult virtqueue_pop_chain(VirtQueue *vq, VirtQueueChain *chain,
                                         const char **fault);

/**
 * virtqueue_unpop_chain() - as if the newest request had not been popped
 * @vq: the queue
 * @chain: popped, and everything that was popped after it has been un-popped:
 *     were a younger one pushed, it would be popped again
 *
 * Nothing happens if the guest has reset the queue meanwhile.
 */
void virtqueue_unpop_chain(VirtQueue *vq, const VirtQueueChain *chain);

/**
 * virtqueue_restore_popped() - the queue was loaded, and so much of it is out
 * @vq: the queue
 * @slots: sum of @ndescs of the chains that were popped and not pushed
 *
 * The used index of a split queue follows from it, whatever stands in guest
 * memory, where virtio_load() has read it.  BQL held.
 *
 * Returns: false, and nothing is changed, if that is more than the ring has, or
 * a packed queue was saved with another number.
 */
bool virtqueue_restore_popped(VirtQueue *vq, unsigned slots);

#endif /* HW_VIRTIO_VIRTIO_CHAIN_H */
