/*
 * The driver side of a virtqueue, for tests that are a guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "isolation-driver.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* Registers */

uint16_t guest_common_readw(QVirtioPCIDevice *pci, size_t offset)
{
    return qpci_io_readw(pci->pdev, pci->bar, pci->common_cfg_offset + offset);
}

void guest_common_writew(QVirtioPCIDevice *pci, size_t offset, uint16_t value)
{
    qpci_io_writew(pci->pdev, pci->bar, pci->common_cfg_offset + offset,
                   value);
}

void guest_common_writeq(QVirtioPCIDevice *pci, size_t offset, uint64_t value)
{
    uint64_t addr = pci->common_cfg_offset + offset;

    qpci_io_writel(pci->pdev, pci->bar, addr, value);
    qpci_io_writel(pci->pdev, pci->bar, addr + 4, value >> 32);
}

/* Rings */

void queue_init(GuestQueue *q, uint64_t desc, uint64_t avail, uint64_t used,
                uint16_t size)
{
    q->desc = desc;
    q->avail = avail;
    q->used = used;
    q->size = size;
    q->next_avail = q->next_slot = q->next_used = 0;
    q->avail_wrap = q->used_wrap = true;
}

void queue_put_desc(GuestQueue *q, uint64_t addr, GuestDesc desc, uint16_t link)
{
    struct QEMU_PACKED {
        uint64_t addr;
        uint32_t len;
        uint16_t word[2];       /* flags and next, or id and flags */
    } raw = {
        .addr = cpu_to_le64(desc.addr + q->iova),
        .len = cpu_to_le32(desc.len),
    };

    raw.word[q->packed] = cpu_to_le16(desc.flags);
    raw.word[!q->packed] = cpu_to_le16(link);
    qtest_memwrite(q->qts, addr, &raw, sizeof(raw));
}

GuestDesc queue_put_table(GuestQueue *q, uint64_t addr, const GuestDesc *descs,
                        unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        GuestDesc desc = descs[i];

        if (!q->packed && i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        queue_put_desc(q, addr + i * 16, desc, q->packed ? 0 : i + 1);
    }
    return (GuestDesc) { addr, num * 16, VRING_DESC_F_INDIRECT };
}

static void queue_write_split(GuestQueue *q, const GuestDesc *descs,
                              unsigned num)
{
    q->head_slot = q->next_slot;
    for (unsigned i = 0; i < num; i++) {
        uint16_t slot = q->next_slot;
        GuestDesc desc = descs[i];

        q->next_slot = (slot + 1) % q->size;
        if (i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        queue_put_desc(q, q->desc + slot * 16, desc, q->next_slot);
    }
}

static void queue_write_packed(GuestQueue *q, const GuestDesc *descs,
                               unsigned num)
{
    uint16_t id = q->next_avail;

    q->head_slot = id;
    q->ndescs[id] = num;
    for (unsigned i = 0; i < num; i++) {
        uint16_t slot = q->next_avail;
        GuestDesc desc = descs[i];

        if (i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        desc.flags |= q->avail_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
                                       : 1 << VRING_PACKED_DESC_F_USED;
        if (i == 0) {
            /* Not available yet: as it was before. */
            q->head_flags = desc.flags;
            desc.flags = qtest_readw(q->qts, q->desc + slot * 16 + 14);
        }
        queue_put_desc(q, q->desc + slot * 16, desc, id);
        q->next_avail = slot + 1;
        if (q->next_avail == q->size) {
            q->next_avail = 0;
            q->avail_wrap = !q->avail_wrap;
        }
    }
}

void queue_write_chain(GuestQueue *q, const GuestDesc *descs, unsigned num)
{
    g_assert_cmpuint(num, <=, q->size);
    if (q->packed) {
        queue_write_packed(q, descs, num);
    } else {
        queue_write_split(q, descs, num);
    }
}

void queue_publish(GuestQueue *q)
{
    if (q->packed) {
        qtest_writew(q->qts, q->desc + q->head_slot * 16 + 14,
                     q->head_flags);
        return;
    }
    qtest_writew(q->qts,
                 q->avail + 4 + q->next_avail % q->size * 2,
                 q->head_slot);
    qtest_writew(q->qts, q->avail + 2, ++q->next_avail);
}

void queue_kick(GuestQueue *q)
{
    qtest_writew(q->qts, q->notify_addr, q->index);
}

void queue_offer(GuestQueue *q, const GuestDesc *descs, unsigned num)
{
    queue_write_chain(q, descs, num);
    queue_publish(q);
    queue_kick(q);
}

bool queue_used_is_empty(GuestQueue *q)
{
    uint16_t flags;

    if (!q->packed) {
        return qtest_readw(q->qts, q->used + 2) == q->next_used;
    }
    flags = qtest_readw(q->qts, q->desc + q->next_used * 16 + 14);
    return !(flags & 1 << VRING_PACKED_DESC_F_AVAIL) == q->used_wrap ||
           !(flags & 1 << VRING_PACKED_DESC_F_USED) == q->used_wrap;
}

uint32_t queue_wait_used(GuestQueue *q)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    uint64_t entry;
    uint16_t id;

    while (queue_used_is_empty(q)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
    if (!q->packed) {
        entry = q->used + 4 + q->next_used++ % q->size * 8;
        return qtest_readl(q->qts, entry + 4);
    }
    entry = q->desc + q->next_used * 16;
    id = qtest_readw(q->qts, entry + 12);
    g_assert_cmpuint(id, <, q->size);
    q->next_used += q->ndescs[id];
    if (q->next_used >= q->size) {
        q->next_used -= q->size;
        q->used_wrap = !q->used_wrap;
    }
    return qtest_readl(q->qts, entry + 8);
}

/* virtio 1.2, 2.7.8 and 2.8.10 */
static bool queue_event_is_armed(GuestQueue *q)
{
    uint16_t event, flags;

    if (!q->packed) {
        event = qtest_readw(q->qts, q->used + 4 + q->size * 8);
        return event == q->next_avail;
    }
    event = qtest_readw(q->qts, q->used);
    flags = qtest_readw(q->qts, q->used + 2);
    return flags == VRING_PACKED_EVENT_FLAG_DESC &&
           event == (q->next_avail | q->avail_wrap << 15);
}

void queue_wait_forwarded(GuestQueue *q)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (!queue_event_is_armed(q)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}
