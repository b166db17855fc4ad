/*
 * The guest's side of an isolated queue: its ring, its buffers, and
 * notification both ways.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_GUEST_CHAIN_H
#define HW_VIRTIO_GUEST_CHAIN_H

#include "guest-iotlb.h"
#include "virtio-chain.h"

/**
 * GuestQueue - a VirtQueue as the data path sees it
 * @vdev: the device
 * @vq: the queue
 * @iotlb: where the ring and the buffers of its chains are; NULL: there is no
 *     IOMMU.  Changes only while nobody owns the queue.
 * @refused: QEMU would not take one that was pushed since the last flush
 * @asks: what is to be popped next is behind an IOMMU that is being asked
 *
 * All functions below are for the queue's owner only.
 */
typedef struct GuestQueue {
    VirtIODevice *vdev;
    VirtQueue *vq;
    GuestIotlb *iotlb;
    bool refused;
    bool asks;
} GuestQueue;

/**
 * guest_chain_pop() - virtqueue_pop_chain() on @queue
 *
 * EMPTY too while @asks of @queue is set: GuestIotlbUser.again follows.
 */
VirtQueueChainResult guest_chain_pop(GuestQueue *queue, VirtQueueChain *chain,
                                     const char **fault);

/** guest_chain_unpop() - virtqueue_unpop_chain() on @queue */
void guest_chain_unpop(GuestQueue *queue, const VirtQueueChain *chain);

/**
 * guest_chain_restore() - so much of the ring was popped before it was saved
 * @queue: the queue, as virtio_load() made it
 * @slots: what the requests have that are out
 *
 * The used index of a split queue follows from it, whatever stands in guest
 * memory, where virtio_load() has read it.  BQL held.
 *
 * Returns: false, and nothing is changed, if that is more than the ring has, or
 * a packed queue was saved with another number.
 */
bool guest_chain_restore(GuestQueue *queue, unsigned slots);

/**
 * guest_chain_is_newest() - was @chain popped last of all, by whomever?
 * @queue: the queue, in which nothing was made available twice
 * @chain: popped, and neither pushed nor un-popped
 *
 * The guest's ring tells, and only what is in RAM is asked: false if in doubt.
 * The head of a chain that is out cannot be made available again before it
 * comes back (virtio 1.2, 2.7.13 and 2.8.6), so the entry before the next one
 * to pop has it if nothing was popped since.  A guest that writes something
 * else there misleads itself.
 */
bool guest_chain_is_newest(GuestQueue *queue, const VirtQueueChain *chain);

/**
 * guest_chain_reach() - where is a part of a buffer?
 * @queue: behind an IOMMU
 * @addr: of the device
 * @len: bytes, not 0
 * @is_write: to be written, else to be read
 * @piece: set unless NEVER is returned: what can be had at once.  Its length is
 *     at most @len, its address one of guest memory, on NOW only.
 */
GuestReach guest_chain_reach(GuestQueue *queue, hwaddr addr, uint32_t len,
                             bool is_write, VirtQueueBuf *piece);

/**
 * guest_chain_reach_rings() - can the rings be accessed?
 * @queue: the queue
 *
 * Any thread.  NOW without an IOMMU.
 */
GuestReach guest_chain_reach_rings(const GuestQueue *queue);

/**
 * guest_chain_read() - copy one guest buffer out
 * @queue: the queue
 * @buf: a device-readable buffer, or a part of one
 * @dest: @buf->len bytes
 *
 * Called within rcu_read_lock().  Guest memory is translated and copied on one
 * FlatView; nothing stays mapped.
 *
 * Returns: false if part of the buffer is not direct RAM (a device, a ROM
 * device, nothing): the guest's fault.
 */
bool guest_chain_read(GuestQueue *queue, const VirtQueueBuf *buf, void *dest);

/**
 * guest_chain_write() - copy into one guest buffer
 * @queue: the queue
 * @buf: a device-writable buffer, or a part of one
 * @src: @buf->len bytes, which the backend may change meanwhile: read once
 *
 * Called within rcu_read_lock().  Exactly what is written is marked dirty.
 *
 * Returns: false if part of the buffer is not direct, writable RAM; what comes
 * before it may have been written.
 */
bool guest_chain_write(GuestQueue *queue, const VirtQueueBuf *buf,
                       const void *src);

/**
 * guest_chain_write_piece() - guest_chain_write(), to a piece, or a part of one
 * @queue: the queue
 * @piece: as guest_chain_reach() has set it, perhaps long ago: a driver that
 *     unmaps a buffer which is out gets it written all the same, as from QEMU's
 *     own devices
 * @src: as many bytes
 */
bool guest_chain_write_piece(GuestQueue *queue, const VirtQueueBuf *piece,
                             const void *src);

/**
 * guest_chain_push() - enter one completion
 * @queue: the queue
 * @chain: popped earlier
 * @len: bytes written to it
 * @idx: completions entered since the last flush
 *
 * Called within rcu_read_lock().  The guest sees it after guest_chain_flush(),
 * which comes with nothing else in between.
 */
void guest_chain_push(GuestQueue *queue, const VirtQueueChain *chain,
                      uint32_t len, unsigned idx);

/**
 * guest_chain_flush() - show the guest what was pushed, and notify it
 * @queue: the queue
 * @count: completions pushed, not 0: on a packed ring a flush of nothing
 *     would publish a stale entry
 * @called: set unless false is returned: the guest wanted to be notified
 *
 * Called within rcu_read_lock().  The interrupt itself comes later, from the
 * main loop or KVM.
 *
 * Returns: false if the guest cannot be told now, since it has taken bus
 * mastering away or broken the device.  Then it is as if nothing had been
 * pushed: all of it is to be pushed again later.
 */
bool guest_chain_flush(GuestQueue *queue, unsigned count, bool *called);

/**
 * guest_chain_usable() - can requests be completed now?
 *
 * Not while the guest has taken bus mastering away or has put the rings where
 * there is no RAM, or where nobody knows: QEMU would drop the completion.
 */
bool guest_chain_usable(GuestQueue *queue);

/** guest_chain_kick_fd() - where the guest's kicks arrive; borrowed */
int guest_chain_kick_fd(const GuestQueue *queue);

/** guest_chain_pending() - one look whether something can be popped */
bool guest_chain_pending(GuestQueue *queue);

/** guest_chain_suppress_kicks() - ask the driver not to kick */
void guest_chain_suppress_kicks(GuestQueue *queue);

/**
 * guest_chain_arm_kicks() - ask for a kick at the next available buffer
 * @queue: the queue
 *
 * Returns: true if there is something to pop already.
 */
bool guest_chain_arm_kicks(GuestQueue *queue);

#endif /* HW_VIRTIO_GUEST_CHAIN_H */
