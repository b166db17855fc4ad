/*
 * The device side of a split virtqueue (virtio 1.2, 2.7).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "isolation-ring.h"

static void split_bytes(const MockRing *ring, uint64_t bytes[3])
{
    /* An event word ends the driver's and the device's part. */
    bytes[0] = 16 * ring->size;
    bytes[1] = 2 * ring->size + 6;
    bytes[2] = 8 * ring->size + 6;
}

static void split_set_base(MockRing *ring, uint32_t base)
{
    struct vring_used *used = ring->device;

    g_assert_cmphex(base, <=, UINT16_MAX);
    ring->next_avail.idx = base;
    /* Where the device's half stands is in the ring. */
    ring->next_used.idx = le16_to_cpu(qatomic_read(&used->idx));
}

static uint32_t split_base(const MockRing *ring)
{
    return ring->next_avail.idx;
}

/* Walk @table of @num descriptors from entry @i on. */
static void split_walk(MockRing *ring, MockChain *chain,
                       const struct vring_desc *table, unsigned num,
                       uint16_t i)
{
    for (unsigned n = 0; n < num; n++) {
        const struct vring_desc *desc = &table[i];
        uint16_t flags = le16_to_cpu(desc->flags);

        g_assert_cmphex(flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE), ==,
                        0);
        mock_chain_add(ring, chain, le64_to_cpu(desc->addr),
                       le32_to_cpu(desc->len), flags & VRING_DESC_F_WRITE);
        if (!(flags & VRING_DESC_F_NEXT)) {
            return;
        }
        i = le16_to_cpu(desc->next);
        g_assert_cmpuint(i, <, num);
    }
    g_assert_not_reached();
}

static bool split_fetch(MockRing *ring, MockChain *chain)
{
    const struct vring_avail *avail = ring->driver;
    const struct vring_desc *descs = ring->desc;
    const struct vring_desc *head;
    uint16_t num;

    num = le16_to_cpu(qatomic_load_acquire(&avail->idx)) -
          ring->next_avail.idx;
    g_assert_cmpuint(num, <=, ring->size);
    if (num == 0) {
        return false;
    }
    chain->id = le16_to_cpu(avail->ring[ring->next_avail.idx % ring->size]);
    chain->slots = 1;
    g_assert_cmpuint(chain->id, <, ring->size);
    ring->next_avail.idx++;

    head = &descs[chain->id];
    if (le16_to_cpu(head->flags) == VRING_DESC_F_INDIRECT) {
        uint32_t len = le32_to_cpu(head->len);

        split_walk(ring, chain,
                   mock_ring_table(ring, le64_to_cpu(head->addr), len),
                   len / 16, 0);
    } else {
        split_walk(ring, chain, descs, ring->size, chain->id);
    }
    return true;
}

static void split_use(MockRing *ring, const MockChain *chain, uint32_t len)
{
    struct vring_used *used = ring->device;
    vring_used_elem_t *elem = &used->ring[ring->next_used.idx % ring->size];

    elem->id = cpu_to_le32(chain->id);
    elem->len = cpu_to_le32(len);
    ring->next_used.idx++;
    qatomic_store_release(&used->idx, cpu_to_le16(ring->next_used.idx));
}

static bool split_wants_call(MockRing *ring)
{
    struct vring_avail *avail = ring->driver;
    uint16_t event;

    if (!ring->event_idx) {
        return !(le16_to_cpu(qatomic_read(&avail->flags)) &
                 VRING_AVAIL_F_NO_INTERRUPT);
    }
    event = le16_to_cpu(qatomic_read(&avail->ring[ring->size]));
    for (uint16_t i = ring->called.idx; i != ring->next_used.idx; i++) {
        if (i == event) {
            return true;
        }
    }
    return false;
}

static void split_set_event(MockRing *ring, uint16_t event)
{
    struct vring_used *used = ring->device;

    qatomic_set((uint16_t *)&used->ring[ring->size], cpu_to_le16(event));
}

static void split_arm(MockRing *ring)
{
    struct vring_used *used = ring->device;

    if (ring->event_idx) {
        split_set_event(ring, ring->next_avail.idx);
    } else {
        qatomic_set(&used->flags, 0);
    }
}

static void split_suppress(MockRing *ring)
{
    struct vring_used *used = ring->device;

    if (ring->event_idx) {
        split_set_event(ring, ring->next_avail.idx - 1);
    } else {
        qatomic_set(&used->flags, cpu_to_le16(VRING_USED_F_NO_NOTIFY));
    }
}

const MockRingOps mock_ring_split_ops = {
    .bytes = split_bytes,
    .set_base = split_set_base,
    .base = split_base,
    .fetch = split_fetch,
    .use = split_use,
    .wants_call = split_wants_call,
    .arm = split_arm,
    .suppress = split_suppress,
};
