/*
 * The interface of virtio 0.9, through the first BAR.
 *
 * The device's half of a ring has a fixed place behind the driver's, and the
 * driver's byte order is the guest's, as in "little endian" here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "conformance.h"

enum {
    HOST_FEATURES = VIRTIO_PCI_HOST_FEATURES,
    DRIVER = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER,
    PAGE = 4096,
    RAM_RINGS = 8 << 20,
};

static uint32_t read_long(Rig *r, unsigned at)
{
    return qpci_io_readl(r->pci.pdev, r->legacy, at);
}

static void write_long(Rig *r, unsigned at, uint32_t value)
{
    qpci_io_writel(r->pci.pdev, r->legacy, at, value);
}

static void set_status(Rig *r, uint8_t status)
{
    qpci_io_writeb(r->pci.pdev, r->legacy, VIRTIO_PCI_STATUS, status);
}

static void select_queue(Rig *r, uint16_t n)
{
    qpci_io_writew(r->pci.pdev, r->legacy, VIRTIO_PCI_QUEUE_SEL, n);
}

static uint16_t queue_num(Rig *r)
{
    return qpci_io_readw(r->pci.pdev, r->legacy, VIRTIO_PCI_QUEUE_NUM);
}

/* Ring @n at its own megabyte; the device says how long. */
static void set_up(Rig *r, unsigned n)
{
    GuestQueue *q = &r->queues[n];
    uint64_t at = RAM_RINGS + n * 0x100000;
    uint64_t avail;
    unsigned num;

    select_queue(r, n);
    num = queue_num(r);
    qtest_memset(r->qts, at, 0, 0x10000);
    *q = (GuestQueue) { .qts = r->qts, .index = n };
    avail = at + 16 * num;
    queue_init(q, at, avail, ROUND_UP(avail + 6 + 2 * num, PAGE), num);
    q->notify_addr = r->legacy.addr + VIRTIO_PCI_QUEUE_NOTIFY;
    write_long(r, VIRTIO_PCI_QUEUE_PFN, at / PAGE);
}

static void set_up_all(Rig *r)
{
    for (unsigned n = 0; n < r->kind->num_queues; n++) {
        set_up(r, n);
    }
}

static void begin(Rig *r, uint32_t features)
{
    set_status(r, 0);
    r->current = r->kind->queue;
    set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    set_status(r, DRIVER);
    write_long(r, VIRTIO_PCI_GUEST_FEATURES, features);
}

/* The notification is a port here, not memory. */
static void kick(Rig *r, unsigned n)
{
    qpci_io_writew(r->pci.pdev, r->legacy, VIRTIO_PCI_QUEUE_NOTIFY, n);
}

static const char *offer(Rig *r)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    GuestQueue *q = rig_queue(r);

    queue_write_chain(q, descs, r->kind->request(r, descs));
    queue_publish(q);
    kick(r, r->current);
    return NULL;
}

static const char *in_order(Rig *r, const Case *c)
{
    begin(r, c->arg);
    set_up_all(r);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    return offer(r);
}

static const char *all_features(Rig *r, const Case *c)
{
    set_status(r, 0);
    begin(r, read_long(r, HOST_FEATURES) & c->arg);
    set_up_all(r);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    kick(r, r->kind->queue);
    return IDLE;
}

/* Drivers of then kick before they say that they are ready. */
static const char *kick_before_driver_ok(Rig *r, const Case *c)
{
    begin(r, 0);
    set_up_all(r);
    offer(r);
    if (c->arg) {
        set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    }
    return NULL;
}

static const char *only_one_queue(Rig *r, const Case *c)
{
    begin(r, 0);
    set_up(r, r->kind->queue);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    offer(r);
    return c->arg ? rig_wait(r) : NULL;
}

static const char *queue_after_driver_ok(Rig *r, const Case *c)
{
    begin(r, 0);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    set_up_all(r);
    if (c->arg) {
        set_status(r, 0);
        return IDLE;
    }
    return offer(r);
}

static const char *ring_at_page(Rig *r, const Case *c)
{
    begin(r, 0);
    set_up_all(r);
    select_queue(r, r->kind->queue);
    write_long(r, VIRTIO_PCI_QUEUE_PFN, c->arg);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    kick(r, r->kind->queue);
    return IDLE;
}

/* A page of 0 resets the device. */
static const char *page_of_zero(Rig *r, const Case *c)
{
    in_order(r, c);
    rig_wait(r);
    select_queue(r, r->kind->queue);
    write_long(r, VIRTIO_PCI_QUEUE_PFN, 0);
    return qpci_io_readb(r->pci.pdev, r->legacy, VIRTIO_PCI_STATUS) ?
        DIFFERS : IDLE;
}

static const char *ring_moves_while_it_runs(Rig *r, const Case *c)
{
    in_order(r, c);
    rig_wait(r);
    set_up(r, r->kind->queue);
    kick(r, r->kind->queue);
    return IDLE;
}

static const char *reset_under_request(Rig *r, const Case *c)
{
    in_order(r, c);
    set_status(r, 0);
    return IDLE;
}

static const char *kick_of(Rig *r, const Case *c)
{
    begin(r, 0);
    set_up_all(r);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    kick(r, c->arg);
    return offer(r);
}

static const char *queue_beyond(Rig *r, const Case *c)
{
    set_status(r, 0);
    select_queue(r, c->arg);
    return queue_num(r) ? DIFFERS : IDLE;
}

static const char *every_register_read(Rig *r, const Case *c)
{
    in_order(r, c);
    rig_wait(r);
    for (unsigned at = 0; at < 64; at++) {
        qpci_io_readb(r->pci.pdev, r->legacy, at);
    }
    return IDLE;
}

static const char *both_interfaces(Rig *r, const Case *c)
{
    begin(r, 0);
    set_up_all(r);
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_FEATURES_OK);
    rig_enable(r, r->kind->queue, 1);
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
    return offer(r);
}

static const char *loop(Rig *r, const Case *c)
{
    GuestDesc desc = { 0x400000, 1, VRING_DESC_F_NEXT };
    GuestQueue *q;

    begin(r, 0);
    set_up_all(r);
    set_status(r, DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    q = rig_queue(r);
    queue_put_desc(q, q->desc, desc, c->arg);
    queue_publish(q);
    kick(r, r->current);
    return IDLE;
}

static const Case cases[] = {
    { "in order", in_order },
    { "with event indices", in_order, .arg = 1u << 29 },
    { "all features", all_features, .arg = UINT32_MAX },
    { "bad feature bit", all_features, .arg = 1u << 30 },
    { "kick before driver-ok, which comes", kick_before_driver_ok,
      .arg = 1 },
    { "kick and no driver-ok", kick_before_driver_ok },
    { "one queue set up", only_one_queue },
    { "queues after driver-ok", queue_after_driver_ok },
    { "queues after driver-ok, then a reset", queue_after_driver_ok,
      .arg = 1 },
    { "ring beyond RAM", ring_at_page, .arg = 0x7ffffff },
    { "ring at the end of RAM", ring_at_page, .arg = 0xfff },
    { "ring in the screen", ring_at_page, .arg = 0xa0 },
    { "ring in ROM", ring_at_page, .arg = 0xfffc0 },
    { "page of zero while it runs", page_of_zero },
    { "ring moves while it runs", ring_moves_while_it_runs },
    { "reset under a request", reset_under_request },
    { "kick of queue 63", kick_of, .arg = 63 },
    { "kick of queue 1024", kick_of, .arg = 1024 },
    { "kick of queue 65535", kick_of, .arg = 65535 },
    { "queue 1023 has no size", queue_beyond, .arg = 1023 },
    { "queue 65535 has no size", queue_beyond, .arg = 65535 },
    { "every register read", every_register_read },
    { "both interfaces at once", both_interfaces },
    { "a loop", loop, .arg = 0 },
    { "next beyond the ring", loop, .arg = 0xffff },
};

const CaseTable conformance_legacy = { "legacy", cases,
                                       G_N_ELEMENTS(cases) };
