/*
 * An honest device, packed format (virtio 1.2, 2.8).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "standard-headers/linux/virtio_ring.h"
#include "device.h"

#define F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define F_USED (1 << VRING_PACKED_DESC_F_USED)

static struct vring_packed_desc *slot(const RingDevice *d, unsigned i)
{
    return (struct vring_packed_desc *)d->desc + i;
}

/* 2.8.1: the avail bit is the wrap counter's, the used bit is not. */
static bool is_avail(const RingDevice *d, uint16_t flags)
{
    return !!(flags & F_AVAIL) == d->avail_wrap &&
           !!(flags & F_USED) != d->avail_wrap;
}

static void skip(uint16_t *idx, bool *wrap, unsigned num, unsigned size)
{
    *idx += num;
    if (*idx >= size) {
        *idx -= size;
        *wrap = !*wrap;
    }
}

/* 2.8.7: the descriptors of a table are in order, the length says how many. */
static void fetch_table(const RingDevice *d, RingDeviceRequest *request,
                        const struct vring_packed_desc *desc)
{
    uint32_t len = qatomic_read(&desc->len);
    const struct vring_packed_desc *table = (const void *)
        ring_device_table(d, qatomic_read_u64(&desc->addr), len);

    for (unsigned i = 0; i < len / SHADOW_RING_DESC_BYTES; i++) {
        ring_device_add_buf(request, qatomic_read_u64(&table[i].addr),
                            qatomic_read(&table[i].len),
                            qatomic_read(&table[i].flags) &
                            VRING_DESC_F_WRITE);
    }
    request->num_descs = 1;
    request->id = qatomic_read(&desc->id);
}

/* The first descriptor is there, so all of its chain are (2.8.16). */
static void fetch_chain(RingDevice *d, RingDeviceRequest *request,
                        uint16_t flags)
{
    while (true) {
        struct vring_packed_desc *desc = slot(d, d->next_avail);

        if (!is_avail(d, flags)) {
            ring_device_fault("a chain with a part that is not available");
        }
        if (request->num_descs == d->config.size) {
            ring_device_fault("a chain longer than the ring");
        }
        ring_device_add_buf(request, qatomic_read_u64(&desc->addr),
                            qatomic_read(&desc->len),
                            flags & VRING_DESC_F_WRITE);
        request->id = qatomic_read(&desc->id);
        request->num_descs++;
        skip(&d->next_avail, &d->avail_wrap, 1, d->config.size);
        if (!(flags & VRING_DESC_F_NEXT)) {
            return;
        }
        flags = qatomic_read(&slot(d, d->next_avail)->flags);
    }
}

static bool packed_fetch(RingDevice *d, RingDeviceRequest *request)
{
    /* The driver stores the rest of a batch, then these. */
    uint16_t flags = qatomic_load_acquire(&slot(d, d->next_avail)->flags);

    if (!is_avail(d, flags)) {
        return false;
    }
    *request = (RingDeviceRequest) { 0 };
    if (flags & VRING_DESC_F_INDIRECT) {
        fetch_table(d, request, slot(d, d->next_avail));
        skip(&d->next_avail, &d->avail_wrap, 1, d->config.size);
    } else {
        fetch_chain(d, request, flags);
    }
    if (request->id >= d->config.size) {
        ring_device_fault("an id beyond the ring");
    }
    return true;
}

/* The flags of the first one used in a batch are kept back. */
static void packed_use(RingDevice *d, uint16_t id, uint16_t num_descs,
                       uint32_t len)
{
    struct vring_packed_desc *desc = slot(d, d->next_used);
    uint16_t flags = d->used_wrap ? F_AVAIL | F_USED : 0;

    qatomic_set(&desc->id, id);
    qatomic_set(&desc->len, len);
    if (d->has_batch) {
        qatomic_set(&desc->flags, flags);
    } else {
        d->has_batch = true;
        d->batch_slot = d->next_used;
        d->batch_flags = flags;
    }
    skip(&d->next_used, &d->used_wrap, num_descs, d->config.size);
}

static void packed_publish(RingDevice *d)
{
    /* The driver loads flags, then id and length. */
    qatomic_store_release(&slot(d, d->batch_slot)->flags, d->batch_flags);
    d->has_batch = false;
}

static void read_event(const RingDevice *d, uint16_t *event, uint16_t *flags)
{
    if (d->halves) {
        const uint16_t *half = (const uint16_t *)d->driver;

        /* Flags that ask for an event belong to it or to an older one. */
        *flags = qatomic_load_acquire(&half[1]);
        *event = qatomic_read(&half[0]);
    } else {
        uint32_t both = qatomic_read((const uint32_t *)d->driver);

        *event = (uint16_t)both;
        *flags = both >> 16;
    }
}

static void write_event(const RingDevice *d, uint16_t event, uint16_t flags)
{
    if (d->halves) {
        uint16_t *half = (uint16_t *)d->device;

        qatomic_set(&half[0], event);
        qatomic_store_release(&half[1], flags);
    } else {
        qatomic_set((uint32_t *)d->device, event | (uint32_t)flags << 16);
    }
}

/* A place among two laps: the first has wrap counter 1. */
static unsigned place(uint16_t idx, bool wrap, unsigned size)
{
    return wrap ? idx : idx + size;
}

static bool packed_should_call(RingDevice *d)
{
    unsigned size = d->config.size;
    unsigned old = place(d->asked_used, d->asked_wrap, size);
    unsigned now = place(d->next_used, d->used_wrap, size);
    uint16_t event, flags;
    unsigned at;

    d->asked_used = d->next_used;
    d->asked_wrap = d->used_wrap;
    /*
     * Our store of a slot's flags before our load of the event; the driver
     * stores the event, then loads the slot's flags.
     */
    smp_mb();
    read_event(d, &event, &flags);
    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    }
    if (!d->config.event_idx) {
        ring_device_fault("an event that was not negotiated");
    }
    at = event & 0x7fff;
    if (at >= size) {
        ring_device_fault("an event beyond the ring");
    }
    at = place(at, event >> 15, size);
    /* Is it one of the slots from @old on, before @now? (2.8.10) */
    return (at + 2 * size - old) % (2 * size) <
           (now + 2 * size - old) % (2 * size);
}

static void packed_suppress_kicks(RingDevice *d)
{
    write_event(d, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static bool packed_arm_kicks(RingDevice *d)
{
    if (d->config.event_idx) {
        write_event(d, d->next_avail | (uint16_t)d->avail_wrap << 15,
                    VRING_PACKED_EVENT_FLAG_DESC);
    } else {
        write_event(d, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
    }
    /*
     * Our store of the event before our load of the slot's flags; the driver
     * stores the flags, then loads the event.
     */
    smp_mb();
    return is_avail(d, qatomic_read(&slot(d, d->next_avail)->flags));
}

const RingDeviceOps ring_device_packed_ops = {
    .fetch = packed_fetch,
    .use = packed_use,
    .publish = packed_publish,
    .should_call = packed_should_call,
    .suppress_kicks = packed_suppress_kicks,
    .arm_kicks = packed_arm_kicks,
};
