/*
 * Mock device, split ring: device side of virtio 1.2, 2.7.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "mock-device-internal.h"

static struct vring_desc *desc_table(const MockDevice *d)
{
    return (struct vring_desc *)d->desc;
}

static struct vring_avail *avail_ring(const MockDevice *d)
{
    return (struct vring_avail *)d->driver;
}

static struct vring_used *used_ring(const MockDevice *d)
{
    return (struct vring_used *)d->device;
}

static __virtio16 *used_event(const MockDevice *d)
{
    return &avail_ring(d)->ring[d->size];
}

static __virtio16 *avail_event(const MockDevice *d)
{
    return (__virtio16 *)&used_ring(d)->ring[d->size];
}

static void split_init(MockDevice *d)
{
    d->cycle = 65536;
    d->driver_bytes = 6 + 2 * d->size;
}

static bool split_has_avail(const MockDevice *d)
{
    uint16_t idx = le16_to_cpu(qatomic_load_acquire(&avail_ring(d)->idx));
    uint16_t num = idx - d->next_avail;

    /* Virtio 1.2, 2.7.13: no more than there are descriptors. */
    g_assert_cmpuint(num, <=, d->size);
    return num > 0;
}

/* Walk @table from descriptor @i on.  Returns: how many it has. */
static unsigned fetch_chain(MockRequest *request,
                            const struct vring_desc *table,
                            unsigned num_descs, uint16_t i)
{
    for (unsigned n = 1; ; n++) {
        const struct vring_desc *desc = &table[i];
        uint16_t flags = le16_to_cpu(desc->flags);

        g_assert_cmpuint(n, <=, num_descs);
        g_assert_cmphex(flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE),
                        ==, 0);
        mock_request_add(request, le64_to_cpu(desc->addr),
                         le32_to_cpu(desc->len), flags & VRING_DESC_F_WRITE);
        if (!(flags & VRING_DESC_F_NEXT)) {
            return n;
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
    const void *table = mock_device_table(d, le64_to_cpu(desc->addr), bytes);
    unsigned num = bytes / sizeof(*desc);

    g_assert_cmpuint(fetch_chain(request, table, num, 0), ==, num);
}

static void split_fetch(MockDevice *d, MockRequest *request)
{
    uint16_t slot = d->next_avail & (d->size - 1);
    uint16_t head = le16_to_cpu(avail_ring(d)->ring[slot]);
    const struct vring_desc *desc = &desc_table(d)[head];

    g_assert_cmpuint(head, <, d->size);
    request->id = head;
    request->indirect = desc->flags == cpu_to_le16(VRING_DESC_F_INDIRECT);
    if (request->indirect) {
        fetch_table(d, request, desc);
        request->num_descs = 1;
    } else {
        request->num_descs = fetch_chain(request, desc_table(d), d->size,
                                         head);
    }
}

/* A request is one index, however long it is. */
static void split_fetched(MockDevice *d, uint16_t num_descs, bool forward)
{
    d->next_avail = mock_device_place(d, d->next_avail, forward ? 1 : -1);
}

void mock_device_write_used_elem(MockDevice *d, uint16_t idx, uint32_t id,
                                 uint32_t len)
{
    vring_used_elem_t *elem = &used_ring(d)->ring[idx & (d->size - 1)];

    elem->id = cpu_to_le32(id);
    elem->len = cpu_to_le32(len);
}

void mock_device_write_used_idx(MockDevice *d, uint16_t idx)
{
    qatomic_store_release(&used_ring(d)->idx, cpu_to_le16(idx));
}

static void split_use(MockDevice *d, uint32_t id, uint32_t len,
                      uint16_t num_descs)
{
    mock_device_write_used_elem(d, d->next_used, id, len);
    d->next_used = mock_device_place(d, d->next_used, 1);
}

static void split_publish(MockDevice *d)
{
    mock_device_write_used_idx(d, d->next_used);
}

static bool split_wants_call(const MockDevice *d)
{
    uint32_t old = mock_device_place(d, d->sent_used,
                                     -(int64_t)d->num_uncalled);

    if (d->event_idx) {
        uint16_t event = le16_to_cpu(qatomic_read(used_event(d)));

        return mock_device_event_passed(d, event, old, d->num_uncalled);
    }
    return !(le16_to_cpu(qatomic_read(&avail_ring(d)->flags)) &
             VRING_AVAIL_F_NO_INTERRUPT);
}

static bool split_wants_kick(const MockDevice *d, uint32_t old, uint64_t num)
{
    if (d->event_idx) {
        return mock_device_event_passed(d, le16_to_cpu(*avail_event(d)), old,
                                        num);
    }
    return !(le16_to_cpu(used_ring(d)->flags) & VRING_USED_F_NO_NOTIFY);
}

static void split_write_event(MockDevice *d, uint32_t place)
{
    qatomic_set(avail_event(d), cpu_to_le16(place));
}

static void split_write_flags(MockDevice *d, uint16_t flags)
{
    qatomic_set(&used_ring(d)->flags, cpu_to_le16(flags));
}

static void split_arm(MockDevice *d)
{
    if (d->event_idx) {
        split_write_event(d, d->next_avail);
    } else {
        split_write_flags(d, 0);
    }
}

static void split_suppress(MockDevice *d)
{
    if (d->event_idx) {
        split_write_event(d, d->next_avail - 1);
    } else {
        split_write_flags(d, VRING_USED_F_NO_NOTIFY);
    }
}

static uint32_t split_base_at(const MockDevice *d, uint32_t place)
{
    return place;
}

static void split_resume(MockDevice *d, uint32_t base)
{
    g_assert_cmphex(base, <, d->cycle);
    d->next_avail = base;
    d->next_used = le16_to_cpu(qatomic_read(&used_ring(d)->idx));
}

static void split_run_ahead(MockDevice *d, unsigned num)
{
    mock_device_write_used_idx(d, d->next_used + num);
}

static void split_write_kick_words(MockDevice *d, uint16_t flags,
                                   uint16_t event)
{
    split_write_flags(d, flags);
    split_write_event(d, event);
}

static void split_scribble(MockDevice *d)
{
    memset(d->desc, 0xff, d->desc_bytes);
    memset(d->driver, 0xff, d->driver_bytes);
}

const MockDeviceOps mock_device_split_ops = {
    .init = split_init,
    .has_avail = split_has_avail,
    .fetch = split_fetch,
    .fetched = split_fetched,
    .use = split_use,
    .publish = split_publish,
    .wants_call = split_wants_call,
    .wants_kick = split_wants_kick,
    .write_event = split_write_event,
    .arm = split_arm,
    .suppress = split_suppress,
    .base_at = split_base_at,
    .resume = split_resume,
    .run_ahead = split_run_ahead,
    .write_kick_words = split_write_kick_words,
    .scribble = split_scribble,
};
