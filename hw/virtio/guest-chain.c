/*
 * The guest's side of an isolated queue.
 *
 * The only file of the data path that knows VirtQueue.  A request goes out by
 * pop and read, and comes back by write, push and flush.
 *
 * Buffers are copied, never mapped: each copy translates the guest's address
 * anew, on one FlatView, and what it finds is used within the caller's RCU read
 * section only.  The address space functions would do that too, but where there
 * is no RAM they call a device, and take the BQL for it, which the owner of a
 * queue may not wait for: a thread that holds it may be waiting for the owner.
 * So memory that is not RAM is refused.  The guest can bring that about at any
 * moment, also between pop and completion.
 *
 * Behind an IOMMU, addresses are those of guest-iotlb.h.  A buffer is looked up
 * before it is copied, all of it, and what is to be written is remembered by its
 * place in guest memory.
 *
 * Completions enter the used ring with virtqueue_fill() and an element that has
 * no buffers: nothing was mapped, so nothing is to be unmapped.
 *
 * Not here: which rings can be accessed from the owner's thread (see
 * virtqueue_rings()), and what is in a buffer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/rcu.h"
#include "standard-headers/linux/virtio_ring.h"
#include "guest-chain.h"

/*
 * How much of [@addr, @addr + *@len) lies in one piece of RAM?  Returns where,
 * as region and offset, or NULL if its first byte is not in RAM.
 */
static MemoryRegion *guest_ram_find(FlatView *fv, hwaddr addr, hwaddr *offset,
                                    hwaddr *len, bool is_write)
{
    MemoryRegion *mr = flatview_translate(fv, addr, offset, len, is_write,
                                          MEMTXATTRS_UNSPECIFIED);

    /*
     * A ROM device can be read directly too, but it is not RAM, and only for
     * RAM does a translation end where the region ends.
     */
    if (!memory_region_is_ram(mr) ||
        !memory_access_is_direct(mr, is_write, MEMTXATTRS_UNSPECIFIED)) {
        return NULL;
    }
    return mr;
}

/*
 * Tell migration, display and TCG what was written.  The function that does
 * that for any region is private to the memory core; a cache of the region is
 * the way to it that takes an offset and a length, and no reference.
 */
static void guest_ram_mark_dirty(MemoryRegion *mr, void *host, hwaddr offset,
                                 hwaddr len)
{
    MemoryRegionCache written = {
        .ptr = host,
        .xlat = offset,
        .len = len,
        .mrs.mr = mr,
        .is_write = true,
    };

    address_space_cache_invalidate(&written, 0, len);
}

GuestReach guest_chain_reach(GuestQueue *queue, hwaddr addr, uint32_t len,
                             bool is_write, VirtQueueBuf *piece)
{
    hwaddr gpa = addr, bytes;
    GuestReach reach = guest_iotlb_find(queue->iotlb, addr, is_write, &gpa,
                                        &bytes);

    piece->addr = gpa;
    piece->len = MIN(bytes, len);
    return reach;
}

bool guest_chain_read(GuestQueue *queue, const VirtQueueBuf *buf, void *dest)
{
    FlatView *fv = address_space_to_flatview(virtio_ring_as(queue->vdev));
    uint8_t *to = dest;
    hwaddr done = 0;

    while (done < buf->len) {
        hwaddr len = buf->len - done;
        hwaddr offset;
        MemoryRegion *mr = guest_ram_find(fv, buf->addr + done, &offset, &len,
                                          false);

        if (!mr) {
            return false;
        }
        memcpy(to + done, qemu_map_ram_ptr(mr->ram_block, offset), len);
        done += len;
    }
    return true;
}

static bool guest_ram_write(AddressSpace *as, hwaddr addr, const void *src,
                            uint32_t len)
{
    FlatView *fv = address_space_to_flatview(as);
    const uint8_t *from = src;
    hwaddr done = 0;

    while (done < len) {
        hwaddr part = len - done;
        hwaddr offset;
        void *host;
        MemoryRegion *mr = guest_ram_find(fv, addr + done, &offset, &part,
                                          true);

        if (!mr) {
            return false;
        }
        host = qemu_map_ram_ptr(mr->ram_block, offset);
        memcpy(host, from + done, part);
        guest_ram_mark_dirty(mr, host, offset, part);
        done += part;
    }
    return true;
}

bool guest_chain_write(GuestQueue *queue, const VirtQueueBuf *buf,
                       const void *src)
{
    return guest_ram_write(virtio_ring_as(queue->vdev), buf->addr, src,
                           buf->len);
}

bool guest_chain_write_piece(GuestQueue *queue, const VirtQueueBuf *piece,
                             const void *src)
{
    return guest_ram_write(&address_space_memory, piece->addr, src, piece->len);
}

VirtQueueChainResult guest_chain_pop(GuestQueue *queue, VirtQueueChain *chain,
                                     const char **fault)
{
    unsigned wanted = queue->iotlb ? guest_iotlb_wanted(queue->iotlb) : 0;
    VirtQueueChainResult result = virtqueue_pop_chain(queue->vq, chain, fault);

    /*
     * Perhaps it was another queue that wanted something: then this one is
     * woken too, and what is bad is so the next time.
     */
    queue->asks = result == VIRTQUEUE_CHAIN_BAD && queue->iotlb &&
                  guest_iotlb_wanted(queue->iotlb) != wanted;
    return queue->asks ? VIRTQUEUE_CHAIN_EMPTY : result;
}

void guest_chain_unpop(GuestQueue *queue, const VirtQueueChain *chain)
{
    virtqueue_unpop_chain(queue->vq, chain);
}

bool guest_chain_restore(GuestQueue *queue, unsigned slots)
{
    return virtqueue_restore_popped(queue->vq, slots);
}

static GuestReach reach_area(GuestIotlb *iotlb, hwaddr addr, hwaddr size,
                             bool is_write)
{
    GuestReach worst = GUEST_REACH_NOW;
    hwaddr gpa, len;

    for (hwaddr done = 0; done < size; done += len) {
        GuestReach reach = guest_iotlb_find(iotlb, addr + done, is_write,
                                            &gpa, &len);

        worst = MAX(worst, reach);
    }
    return worst;
}

GuestReach guest_chain_reach_rings(const GuestQueue *queue)
{
    VirtIODevice *vdev = queue->vdev;
    GuestIotlb *iotlb = queue->iotlb;
    int n = virtio_get_queue_index(queue->vq);
    hwaddr desc = virtio_queue_get_desc_addr(vdev, n);
    hwaddr desc_size = virtio_queue_get_desc_size(vdev, n);
    hwaddr used = virtio_queue_get_used_addr(vdev, n);
    hwaddr used_size = virtio_queue_get_used_size(vdev, n);
    GuestReach worst;

    if (!iotlb) {
        return GUEST_REACH_NOW;
    }
    worst = reach_area(iotlb, virtio_queue_get_avail_addr(vdev, n),
                       virtio_queue_get_avail_size(vdev, n), false);
    worst = MAX(worst, reach_area(iotlb, desc, desc_size, false));
    /* QEMU's accessors read what they write. */
    worst = MAX(worst, reach_area(iotlb, used, used_size, false));
    worst = MAX(worst, reach_area(iotlb, used, used_size, true));
    if (virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED)) {
        worst = MAX(worst, reach_area(iotlb, desc, desc_size, true));
    }
    return worst;
}

bool guest_chain_usable(GuestQueue *queue)
{
    return !virtio_device_disabled(queue->vdev) &&
           virtqueue_rings(queue->vq) != VIRTQUEUE_RINGS_UNUSABLE &&
           guest_chain_reach_rings(queue) == GUEST_REACH_NOW;
}

/*
 * Ring words of the guest.  An older driver's byte order is the host's, or the
 * device does not start.
 */
static uint16_t ring_word(const GuestQueue *queue, uint16_t raw)
{
    return virtio_vdev_has_feature(queue->vdev, VIRTIO_F_VERSION_1) ?
           le16_to_cpu(raw) : raw;
}

/* Where the head of the chain stands that was popped last. */
static hwaddr newest_head(const GuestQueue *queue)
{
    VirtIODevice *vdev = queue->vdev;
    int n = virtio_get_queue_index(queue->vq);
    unsigned num = virtio_queue_get_num(vdev, n);
    uint16_t next = virtio_queue_get_last_avail_idx(vdev, n);

    if (virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED)) {
        /* The highest bit is the wrap counter; the last one has the id. */
        next &= ~(1u << VRING_PACKED_EVENT_F_WRAP_CTR);
        return virtio_queue_get_desc_addr(vdev, n) +
               ((next ?: num) - 1) * sizeof(struct vring_packed_desc) +
               offsetof(struct vring_packed_desc, id);
    }
    return virtio_queue_get_avail_addr(vdev, n) +
           offsetof(struct vring_avail, ring[(uint16_t)(next - 1) % num]);
}

bool guest_chain_is_newest(GuestQueue *queue, const VirtQueueChain *chain)
{
    uint16_t raw_head;
    VirtQueueBuf word = { .len = sizeof(raw_head) };

    RCU_READ_LOCK_GUARD();
    /* No size: the guest may have written anything by now. */
    if (!guest_chain_usable(queue) ||
        !virtio_queue_get_num(queue->vdev,
                              virtio_get_queue_index(queue->vq))) {
        return false;
    }
    word.addr = newest_head(queue);
    return guest_chain_read(queue, &word, &raw_head) &&
           ring_word(queue, raw_head) == chain->head;
}

void guest_chain_push(GuestQueue *queue, const VirtQueueChain *chain,
                      uint32_t len, unsigned idx)
{
    const VirtQueueElement elem = {
        .index = chain->head,
        .ndescs = chain->ndescs,
    };

    assert(len <= chain->bytes_in);
    queue->refused |= virtio_device_disabled(queue->vdev);
    virtqueue_fill(queue->vq, &elem, len, idx);
}

bool guest_chain_flush(GuestQueue *queue, unsigned count, bool *called)
{
    bool refused = queue->refused || virtio_device_disabled(queue->vdev);

    assert(count > 0);
    /*
     * While the device is disabled, virtqueue_fill() and virtqueue_flush() do
     * nothing, and virtqueue_flush() counts as if it had.  The transport says
     * so from another thread, before it stops the device.  What was entered
     * until then nobody sees, and the next push overwrites it.
     */
    queue->refused = false;
    if (refused) {
        return false;
    }
    virtqueue_flush(queue->vq, count);
    /*
     * Never virtio_notify(): an interrupt is a store to an address that the
     * guest has written into its vector, which can lead into any device.  So
     * it can reset or unplug this one, and nothing of ours may be on the stack.
     */
    *called = virtio_notify_irqfd(queue->vdev, queue->vq);
    return true;
}

int guest_chain_kick_fd(const GuestQueue *queue)
{
    return event_notifier_get_fd(virtio_queue_get_host_notifier(queue->vq));
}

bool guest_chain_pending(GuestQueue *queue)
{
    return !virtio_queue_empty(queue->vq);
}

void guest_chain_suppress_kicks(GuestQueue *queue)
{
    if (virtio_queue_get_notification(queue->vq)) {
        virtio_queue_set_notification(queue->vq, 0);
    }
}

bool guest_chain_arm_kicks(GuestQueue *queue)
{
    virtio_queue_set_notification(queue->vq, 1);
    return guest_chain_pending(queue);
}
