/*
 * An honest device, split format (virtio 1.2, 2.7).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "standard-headers/linux/virtio_ring.h"
#include "device.h"

static const struct vring_avail *avail(const RingDevice *d)
{
    return (const struct vring_avail *)d->driver;
}

static struct vring_used *used(const RingDevice *d)
{
    return (struct vring_used *)d->device;
}

static uint16_t avail_num(const RingDevice *d)
{
    /* The driver stores descriptors and ring, then idx. */
    uint16_t num = (uint16_t)(qatomic_load_acquire(&avail(d)->idx) -
                              d->next_avail);

    if (num > d->config.size) {
        ring_device_fault("more available than the ring is long");
    }
    return num;
}

static void fetch_chain(RingDeviceRequest *request, const uint8_t *table,
                        unsigned num, unsigned i)
{
    const struct vring_desc *desc = (const struct vring_desc *)table;
    unsigned left = num;
    uint16_t flags;

    do {
        if (i >= num || !left--) {
            ring_device_fault("a chain that leaves its table or is a loop");
        }
        flags = qatomic_read(&desc[i].flags);
        if (flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE)) {
            ring_device_fault("a flag that has no place there");
        }
        ring_device_add_buf(request, qatomic_read_u64(&desc[i].addr),
                            qatomic_read(&desc[i].len),
                            flags & VRING_DESC_F_WRITE);
        if (flags & VRING_DESC_F_NEXT) {
            i = qatomic_read(&desc[i].next);
        }
    } while (flags & VRING_DESC_F_NEXT);
}

static void fetch_table(const RingDevice *d, RingDeviceRequest *request,
                        const struct vring_desc *desc)
{
    uint32_t len = qatomic_read(&desc->len);

    fetch_chain(request,
                ring_device_table(d, qatomic_read_u64(&desc->addr), len),
                len / SHADOW_RING_DESC_BYTES, 0);
}

static bool split_fetch(RingDevice *d, RingDeviceRequest *request)
{
    const struct vring_desc *desc = (const struct vring_desc *)d->desc;
    uint16_t head;

    if (!avail_num(d)) {
        return false;
    }
    head = qatomic_read(&avail(d)->ring[d->next_avail & (d->config.size - 1)]);
    if (head >= d->config.size) {
        ring_device_fault("a head beyond the ring");
    }
    d->next_avail++;
    *request = (RingDeviceRequest) { .id = head };
    if (qatomic_read(&desc[head].flags) & VRING_DESC_F_INDIRECT) {
        fetch_table(d, request, &desc[head]);
    } else {
        fetch_chain(request, d->desc, d->config.size, head);
    }
    return true;
}

static void split_use(RingDevice *d, uint16_t id, uint16_t num_descs,
                      uint32_t len)
{
    vring_used_elem_t *elem = &used(d)->ring[d->next_used &
                                             (d->config.size - 1)];

    qatomic_set(&elem->id, id);
    qatomic_set(&elem->len, len);
    d->next_used++;
}

static void split_publish(RingDevice *d)
{
    /* The driver loads idx, then the elements. */
    qatomic_store_release(&used(d)->idx, d->next_used);
}

/* Virtio 1.2, 2.7.10.1: is event among the indices since we last asked? */
static bool split_should_call(RingDevice *d)
{
    uint16_t old = d->asked_used;
    uint16_t event;

    d->asked_used = d->next_used;
    /*
     * Our store of used.idx before our load of used_event or flags; the
     * driver stores those, then loads used.idx.
     */
    smp_mb();
    if (!d->config.event_idx) {
        return !(qatomic_read(&avail(d)->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    }
    event = qatomic_read(&avail(d)->ring[d->config.size]);
    return (uint16_t)(d->next_used - event - 1) <
           (uint16_t)(d->next_used - old);
}

static void split_suppress_kicks(RingDevice *d)
{
    if (!d->config.event_idx) {
        qatomic_set(&used(d)->flags, VRING_USED_F_NO_NOTIFY);
    }
}

static bool split_arm_kicks(RingDevice *d)
{
    if (d->config.event_idx) {
        qatomic_set((uint16_t *)&used(d)->ring[d->config.size],
                    d->next_avail);
    } else {
        qatomic_set(&used(d)->flags, 0);
    }
    /*
     * Our store of avail_event or flags before our load of avail.idx; the
     * driver stores avail.idx, then loads those.
     */
    smp_mb();
    return avail_num(d) > 0;
}

const RingDeviceOps ring_device_split_ops = {
    .fetch = split_fetch,
    .use = split_use,
    .publish = split_publish,
    .should_call = split_should_call,
    .suppress_kicks = split_suppress_kicks,
    .arm_kicks = split_arm_kicks,
};
