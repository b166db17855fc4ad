/*
 * A packed virtqueue whose requests the device drops.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "standard-headers/linux/virtio_ring.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)

enum {
    SLOT = 4,
    TRANSMIT = 1,
    RING_SIZE = 8,
    RING = 0x800000,
    EVENTS = 0x801000,
    PACKET = 0x802000,
    PACKET_BYTES = 76,          /* a header, too */
};

static void write_address(QVirtioPCIDevice *d, size_t offset, uint64_t value)
{
    uint64_t at = d->common_cfg_offset + offset;

    qpci_io_writel(d->pdev, d->bar, at, value);
    qpci_io_writel(d->pdev, d->bar, at + 4, value >> 32);
}

static void write_word(QVirtioPCIDevice *d, size_t offset, uint16_t value)
{
    qpci_io_writew(d->pdev, d->bar, d->common_cfg_offset + offset, value);
}

static void start(QVirtioPCIDevice *d)
{
    qvirtio_pci_device_enable(d);
    qvirtio_start_device(&d->vdev);
    qvirtio_set_features(&d->vdev, BIT_ULL(VIRTIO_F_VERSION_1) |
                         BIT_ULL(VIRTIO_F_RING_PACKED));
    write_word(d, COMMON(queue_select), TRANSMIT);
    write_word(d, COMMON(queue_size), RING_SIZE);
    write_address(d, COMMON(queue_desc_lo), RING);
    write_address(d, COMMON(queue_avail_lo), EVENTS);
    write_address(d, COMMON(queue_used_lo), EVENTS + 8);
    write_word(d, COMMON(queue_enable), 1);
    qvirtio_set_driver_ok(&d->vdev);
}

static bool is_used(QTestState *qts, unsigned slot)
{
    uint16_t flags = qtest_readw(qts, RING + slot * 16 + 14);

    return flags & BIT(VRING_PACKED_DESC_F_USED);
}

/* In the first round of the ring. */
static void transmit(QTestState *qts, QVirtioPCIDevice *d, unsigned slot)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    uint64_t desc = RING + slot * 16;

    qtest_writeq(qts, desc, PACKET);
    qtest_writel(qts, desc + 8, PACKET_BYTES);
    qtest_writew(qts, desc + 12, slot);
    qtest_writew(qts, desc + 14, BIT(VRING_PACKED_DESC_F_AVAIL));
    write_word(d, COMMON(queue_select), TRANSMIT);
    qpci_io_writew(d->pdev, d->bar, d->notify_cfg_offset +
                   qpci_io_readw(d->pdev, d->bar, d->common_cfg_offset +
                                 COMMON(queue_notify_off)) *
                   d->notify_off_multiplier, TRANSMIT);
    while (!is_used(qts, slot)) {
        g_assert_cmphex(d->vdev.bus->get_status(&d->vdev) &
                        VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

static void set_link(QTestState *qts, bool up)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'set_link', 'arguments':"
                             " { 'name': 'net', 'up': %i } }", up);
}

static void test_dropped_while_link_is_down(void)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };
    QTestState *qts = qtest_initf(
        "-M pc -m 16M -nodefaults -netdev hubport,id=net,hubid=0"
        " -netdev hubport,id=other,hubid=0"
        " -device virtio-net-pci,netdev=net,packed=on,disable-legacy=on,"
        "addr=%d", SLOT);
    QPCIBus *bus = qpci_new_pc(qts, NULL);
    QVirtioPCIDevice *d = virtio_pci_new(bus, &addr);

    start(d);
    transmit(qts, d, 0);
    set_link(qts, false);
    transmit(qts, d, 1);
    transmit(qts, d, 2);
    set_link(qts, true);
    transmit(qts, d, 3);
    g_free(d->pdev);
    g_free(d);
    qpci_free_pc(bus);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("virtio-packed/dropped-while-link-is-down",
                   test_dropped_while_link_is_down);
    return g_test_run();
}
