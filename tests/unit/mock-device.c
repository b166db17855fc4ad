/*
 * Mock device: the device side of a split virtqueue, for tests of drivers.
 *
 * Honest unless a test makes it write something else: it fetches in order,
 * uses in the order in which it is told, and asserts every rule of virtio
 * 1.2, 2.7 that a driver must keep.
 *
 * Indices and event words are atomic, the rest is not: an honest device may
 * rely on the order in which the driver shows things, and ThreadSanitizer
 * tells when it cannot.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "mock-device.h"

void mock_device_init(MockDevice *d, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);
    uint8_t *mem = config->mem;

    *d = (MockDevice) {
        .size = config->size,
        .event_idx = config->event_idx,
        .desc = (struct vring_desc *)(mem + layout.desc),
        .avail = (struct vring_avail *)(mem + layout.driver),
        .used = (struct vring_used *)(mem + layout.device),
    };
}

static __virtio16 *used_event(const MockDevice *d)
{
    return &d->avail->ring[d->size];
}

static __virtio16 *avail_event(const MockDevice *d)
{
    return (__virtio16 *)&d->used->ring[d->size];
}

static uint16_t read_avail_idx(const MockDevice *d)
{
    return le16_to_cpu(qatomic_load_acquire(&d->avail->idx));
}

bool mock_device_has_avail(const MockDevice *d)
{
    uint16_t num = read_avail_idx(d) - d->next_avail;

    /* Virtio 1.2, 2.7.13: no more than there are descriptors. */
    g_assert_cmpuint(num, <=, d->size);
    return num > 0;
}

static void fetch_buf(MockRequest *request, const struct vring_desc *desc,
                      uint16_t flags)
{
    unsigned num = request->num_out + request->num_in;

    g_assert_cmpuint(num, <, MOCK_BUFS_MAX);
    request->bufs[num].addr = le64_to_cpu(desc->addr);
    request->bufs[num].len = le32_to_cpu(desc->len);
    if (flags & VRING_DESC_F_WRITE) {
        request->num_in++;
    } else {
        /* 2.7.4.2: device-readable buffers come first. */
        g_assert_cmpuint(request->num_in, ==, 0);
        request->num_out++;
    }
}

/* Walk @table from descriptor @i on. */
static void fetch_chain(MockRequest *request, const struct vring_desc *table,
                        unsigned num_descs, uint16_t i)
{
    for (unsigned n = 0; ; n++) {
        const struct vring_desc *desc = &table[i];
        uint16_t flags = le16_to_cpu(desc->flags);

        g_assert_cmpuint(n, <, num_descs);
        g_assert_cmphex(flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE),
                        ==, 0);
        fetch_buf(request, desc, flags);
        if (!(flags & VRING_DESC_F_NEXT)) {
            break;
        }
        i = le16_to_cpu(desc->next);
        g_assert_cmpuint(i, <, num_descs);
    }
}

/* Virtio 1.2, 2.7.5.3 */
static void fetch_table(const MockDevice *d, MockRequest *request,
                        const struct vring_desc *desc)
{
    uint32_t bytes = le32_to_cpu(desc->len);
    uint64_t offset = le64_to_cpu(desc->addr) - d->tables_addr;
    unsigned num = bytes / sizeof(*desc);

    g_assert_cmpuint(bytes % sizeof(*desc), ==, 0);
    g_assert_cmpuint(offset, <=, d->tables_bytes);
    g_assert_cmpuint(bytes, <=, d->tables_bytes - offset);
    fetch_chain(request, (const struct vring_desc *)(d->tables + offset),
                num, 0);
    g_assert_cmpuint(request->num_out + request->num_in, ==, num);
}

bool mock_device_fetch(MockDevice *d, MockRequest *request)
{
    uint16_t slot = d->next_avail & (d->size - 1);
    const struct vring_desc *desc;
    uint16_t head;

    if (!mock_device_has_avail(d)) {
        return false;
    }
    head = le16_to_cpu(d->avail->ring[slot]);
    g_assert_cmpuint(head, <, d->size);
    d->next_avail++;

    request->id = head;
    request->num_out = 0;
    request->num_in = 0;

    desc = &d->desc[head];
    request->indirect = desc->flags ==
                        cpu_to_le16(VRING_DESC_F_INDIRECT);
    if (request->indirect) {
        fetch_table(d, request, desc);
    } else {
        fetch_chain(request, d->desc, d->size, head);
    }
    return true;
}

void mock_device_write_used_elem(MockDevice *d, uint16_t idx, uint32_t id,
                                 uint32_t len)
{
    vring_used_elem_t *elem = &d->used->ring[idx & (d->size - 1)];

    elem->id = cpu_to_le32(id);
    elem->len = cpu_to_le32(len);
}

void mock_device_write_used_idx(MockDevice *d, uint16_t idx)
{
    qatomic_store_release(&d->used->idx, cpu_to_le16(idx));
}

void mock_device_write_used_flags(MockDevice *d, uint16_t flags)
{
    qatomic_set(&d->used->flags, cpu_to_le16(flags));
}

void mock_device_write_avail_event(MockDevice *d, uint16_t event)
{
    qatomic_set(avail_event(d), cpu_to_le16(event));
}

void mock_device_use(MockDevice *d, uint16_t id, uint32_t len)
{
    mock_device_write_used_elem(d, d->next_used, id, len);
    d->next_used++;
}

void mock_device_publish(MockDevice *d)
{
    d->sent_used = d->next_used;
    mock_device_write_used_idx(d, d->sent_used);
}

bool mock_event_passed(uint16_t event, uint16_t old, uint32_t num)
{
    for (uint32_t i = 0; i < num; i++) {
        if ((uint16_t)(old + i) == event) {
            return true;
        }
    }
    return false;
}

bool mock_device_should_call(MockDevice *d)
{
    uint16_t old = d->seen_call;
    uint16_t num = d->sent_used - old;

    d->seen_call = d->sent_used;
    /*
     * Our store of used.idx before our load of used_event or avail.flags; the
     * driver stores those, then loads used.idx.  Without both, a call can be
     * lost.
     */
    smp_mb();
    if (num == 0) {
        return false;
    }
    if (d->event_idx) {
        return mock_event_passed(le16_to_cpu(qatomic_read(used_event(d))),
                                 old, num);
    }
    return !(le16_to_cpu(qatomic_read(&d->avail->flags)) &
             VRING_AVAIL_F_NO_INTERRUPT);
}

void mock_device_arm_kicks(MockDevice *d)
{
    if (d->event_idx) {
        mock_device_write_avail_event(d, d->next_avail);
    } else {
        mock_device_write_used_flags(d, 0);
    }
    /*
     * Our store of avail_event or used.flags before our next load of
     * avail.idx; the driver stores avail.idx, then loads those.
     */
    smp_mb();
}

void mock_device_suppress_kicks(MockDevice *d)
{
    if (d->event_idx) {
        mock_device_write_avail_event(d, d->next_avail - 1);
    } else {
        mock_device_write_used_flags(d, VRING_USED_F_NO_NOTIFY);
    }
}
