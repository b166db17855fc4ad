/*
 * The device side of a packed virtqueue (virtio 1.2, 2.8).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "isolation-ring.h"

#define AVAIL BIT(VRING_PACKED_DESC_F_AVAIL)
#define USED BIT(VRING_PACKED_DESC_F_USED)
#define WRAP BIT(VRING_PACKED_EVENT_F_WRAP_CTR)

static void packed_bytes(const MockRing *ring, uint64_t bytes[3])
{
    bytes[0] = sizeof(struct vring_packed_desc) * ring->size;
    bytes[1] = sizeof(struct vring_packed_desc_event);
    bytes[2] = sizeof(struct vring_packed_desc_event);
}

static uint16_t cursor_encode(MockCursor cursor)
{
    return cursor.idx | (cursor.wrap ? WRAP : 0);
}

static MockCursor cursor_decode(const MockRing *ring, uint16_t word)
{
    MockCursor cursor = { .idx = word & ~WRAP, .wrap = word & WRAP };

    g_assert_cmpuint(cursor.idx, <, ring->size);
    return cursor;
}

static void cursor_advance(const MockRing *ring, MockCursor *cursor,
                           uint16_t num)
{
    g_assert_cmpuint(num, <=, ring->size);
    cursor->idx += num;
    if (cursor->idx >= ring->size) {
        cursor->idx -= ring->size;
        cursor->wrap = !cursor->wrap;
    }
}

static bool cursor_equal(MockCursor a, MockCursor b)
{
    return a.idx == b.idx && a.wrap == b.wrap;
}

/* vhost-user: the avail half below, the used half above. */
static void packed_set_base(MockRing *ring, uint32_t base)
{
    ring->next_avail = cursor_decode(ring, base);
    ring->next_used = cursor_decode(ring, base >> 16);
}

static uint32_t packed_base(const MockRing *ring)
{
    return cursor_encode(ring->next_avail) |
           (uint32_t)cursor_encode(ring->next_used) << 16;
}

/* Virtio 1.2, 2.8.1 */
static bool packed_is_avail(uint16_t flags, bool wrap)
{
    return !(flags & AVAIL) != wrap && !(flags & USED) == wrap;
}

static void packed_add_table(MockRing *ring, MockChain *chain,
                             const struct vring_packed_desc *desc)
{
    uint32_t len = le32_to_cpu(desc->len);
    const struct vring_packed_desc *table =
        mock_ring_table(ring, le64_to_cpu(desc->addr), len);

    /* 2.8.19: only WRITE means anything here. */
    for (unsigned i = 0; i < len / sizeof(*table); i++) {
        mock_chain_add(ring, chain, le64_to_cpu(table[i].addr),
                       le32_to_cpu(table[i].len),
                       le16_to_cpu(table[i].flags) & VRING_DESC_F_WRITE);
    }
}

static bool packed_fetch(MockRing *ring, MockChain *chain)
{
    struct vring_packed_desc *descs = ring->desc;
    uint16_t flags =
        le16_to_cpu(qatomic_load_acquire(&descs[ring->next_avail.idx].flags));

    if (!packed_is_avail(flags, ring->next_avail.wrap)) {
        return false;
    }
    chain->slots = 0;
    for (;;) {
        const struct vring_packed_desc *desc = &descs[ring->next_avail.idx];

        flags = le16_to_cpu(desc->flags);
        /* 2.8.16: the first descriptor's flags were written last. */
        g_assert_true(packed_is_avail(flags, ring->next_avail.wrap));
        chain->slots++;
        chain->id = le16_to_cpu(desc->id);
        cursor_advance(ring, &ring->next_avail, 1);
        if (flags & VRING_DESC_F_INDIRECT) {
            g_assert_cmphex(flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE),
                            ==, 0);
            packed_add_table(ring, chain, desc);
        } else {
            mock_chain_add(ring, chain, le64_to_cpu(desc->addr),
                           le32_to_cpu(desc->len),
                           flags & VRING_DESC_F_WRITE);
        }
        if (!(flags & VRING_DESC_F_NEXT)) {
            return true;
        }
        g_assert_cmpuint(chain->slots, <, ring->size);
    }
}

static void packed_use(MockRing *ring, const MockChain *chain, uint32_t len)
{
    struct vring_packed_desc *descs = ring->desc;
    struct vring_packed_desc *desc = &descs[ring->next_used.idx];
    uint16_t flags = ring->next_used.wrap ? AVAIL | USED : 0;

    desc->id = cpu_to_le16(chain->id);
    desc->len = cpu_to_le32(len);
    qatomic_store_release(&desc->flags, cpu_to_le16(
        flags | (len ? VRING_DESC_F_WRITE : 0)));
    cursor_advance(ring, &ring->next_used, chain->slots);
}

/* 2.8.10: did what was used since the last call pass the event? */
static bool packed_wants_call(MockRing *ring)
{
    struct vring_packed_desc_event *driver = ring->driver;
    uint16_t flags = le16_to_cpu(qatomic_read(&driver->flags));
    MockCursor event;

    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        g_assert_cmphex(flags, <=, VRING_PACKED_EVENT_FLAG_DISABLE);
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
    }
    g_assert_true(ring->event_idx);
    event = cursor_decode(ring, le16_to_cpu(qatomic_read(&driver->off_wrap)));
    for (MockCursor at = ring->called; !cursor_equal(at, ring->next_used);
         cursor_advance(ring, &at, 1)) {
        if (cursor_equal(at, event)) {
            return true;
        }
    }
    return false;
}

static void packed_arm(MockRing *ring)
{
    struct vring_packed_desc_event *device = ring->device;

    if (!ring->event_idx) {
        qatomic_set(&device->flags,
                    cpu_to_le16(VRING_PACKED_EVENT_FLAG_ENABLE));
        return;
    }
    qatomic_set(&device->off_wrap, cpu_to_le16(cursor_encode(
        ring->next_avail)));
    qatomic_store_release(&device->flags,
                          cpu_to_le16(VRING_PACKED_EVENT_FLAG_DESC));
}

static void packed_suppress(MockRing *ring)
{
    struct vring_packed_desc_event *device = ring->device;

    qatomic_set(&device->flags, cpu_to_le16(VRING_PACKED_EVENT_FLAG_DISABLE));
}

const MockRingOps mock_ring_packed_ops = {
    .bytes = packed_bytes,
    .set_base = packed_set_base,
    .base = packed_base,
    .fetch = packed_fetch,
    .use = packed_use,
    .wants_call = packed_wants_call,
    .arm = packed_arm,
    .suppress = packed_suppress,
};
