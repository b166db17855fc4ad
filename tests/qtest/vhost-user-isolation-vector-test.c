/*
 * Interrupt vectors that lead into a device.
 *
 * An interrupt is a store to an address that the guest has written into the
 * vector.  Here that is a register: the device's own status, so that each
 * interrupt resets it, or the slot control of its port, so that it is gone.
 * Neither may happen under the feet of who was about to tell the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/iov.h"
#include "qemu/units.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_pci.h"
#include "isolation-device.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum {
    Q35_PCIEXBAR = 0x60,
    ECAM = 0xb0000000,
    SLOT_OFF = PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF,
    /* Of the address's halves, the data and the mask. */
    VECTOR_BYTES = 16,
};

static bool zeros_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                        uint32_t *len)
{
    *len = iov_size(chain->in, chain->num_in);
    return true;
}

static void zeros_traffic(GuestDevice *d)
{
    uint8_t zeros[64] = { 1 };

    g_assert_cmpuint(device_request(d, 0, NULL, 0, zeros, sizeof(zeros)), ==,
                     sizeof(zeros));
    g_assert_true(buffer_is_zero(zeros, sizeof(zeros)));
}

static const DeviceKind zeros = {
    .device = "vhost-user-rng-pci",
    .model = { .num_queues = 1, .serve = zeros_serve },
    .traffic = zeros_traffic,
};

static const DeviceConfig configs[] = {
    { "main-loop", .isolated = true, .port = true },
    { "iothread", .isolated = true, .port = true, .iothread = true,
      .guest_packed = true },
};

/* Where vector 0 leads; whatever uses it, nothing else does. */
static void lead_vector(GuestDevice *d, uint64_t addr, uint32_t data)
{
    QPCIDevice *pdev = d->pci.pdev;
    uint32_t words[VECTOR_BYTES / 4] = { addr, addr >> 32, data };

    if (!pdev->msix_enabled) {
        qpci_msix_enable(pdev);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        qpci_io_writel(pdev, pdev->msix_table_bar,
                       pdev->msix_table_off + 4 * i, words[i]);
    }
}

static void lead_vector_to_own_status(GuestDevice *d)
{
    lead_vector(d, d->pci.bar.addr + d->pci.common_cfg_offset +
                COMMON(device_status), 0);
}

static void lead_vector_to_port(GuestDevice *d)
{
    QPCIDevice *port = qpci_device_find(d->bus, DEVICE_PORT);
    uint8_t express = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    g_assert_cmphex(express, !=, 0);
    d->bus->config_writel(d->bus, 0, Q35_PCIEXBAR, ECAM | 1);
    lead_vector(d, ECAM + (DEVICE_PORT << 12) + express + PCI_EXP_SLTCTL,
                SLOT_OFF);
    g_free(port);
}

/* More than is moved in one go. */
static void read_much(GuestDevice *d)
{
    GuestDesc descs[] = {
        { d->ram + 1 * MiB, 4 * MiB, VRING_DESC_F_WRITE },
        { d->ram + 1 * MiB, 4 * MiB, VRING_DESC_F_WRITE },
    };

    queue_offer(&d->queues[0], descs, G_N_ELEMENTS(descs));
}

/* Uses what is not there. */
static void break_queue(GuestDevice *d)
{
    MockBackend *b = d->backend;
    uint64_t one = 1;

    g_mutex_lock(&b->lock);
    qatomic_set(&((struct vring_used *)b->queues[0].ring.device)->idx,
                cpu_to_le16(0x7000));
    g_assert_cmpint(write(b->queues[0].call, &one, sizeof(one)), ==,
                    sizeof(one));
    g_mutex_unlock(&b->lock);
}

/* The interrupt of a batch, or of a fault. */

static void be_interrupted_by_queue(GuestDevice *d)
{
    guest_common_writew(&d->pci, COMMON(queue_msix_vector), 0);
    read_much(d);
}

static void be_interrupted_by_fault(GuestDevice *d)
{
    guest_common_writew(&d->pci, COMMON(msix_config), 0);
    break_queue(d);
}

static void wait_reset(GuestDevice *d)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (d->pci.vdev.bus->get_status(&d->pci.vdev)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
    mock_backend_wait_running(d->backend, 0);
}

static void expect_resets(const DeviceConfig *config,
                          void (*interrupt)(GuestDevice *d))
{
    GuestDevice *d = device_new(&zeros, config);

    device_start(d);
    zeros.traffic(d);
    lead_vector_to_own_status(d);
    for (unsigned i = 0; i < 2; i++) {
        interrupt(d);
        wait_reset(d);
        device_start(d);
        zeros.traffic(d);
    }
    device_free(d);
}

static void expect_unplug(const DeviceConfig *config,
                          void (*interrupt)(GuestDevice *d))
{
    GuestDevice *d = device_new(&zeros, config);

    device_start(d);
    zeros.traffic(d);
    lead_vector_to_port(d);
    interrupt(d);
    qtest_qmp_eventwait(d->qts, "DEVICE_DELETED");
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'query-status' }");
    g_assert_cmphex(d->bus->config_readw(d->bus, DEVICE_BEHIND_PORT,
                                         PCI_VENDOR_ID), ==, 0xffff);
    device_free(d);
}

static void test_queue_resets(const void *config)
{
    expect_resets(config, be_interrupted_by_queue);
}

static void test_queue_unplugs(const void *config)
{
    expect_unplug(config, be_interrupted_by_queue);
}

static void test_fault_resets(const void *config)
{
    expect_resets(config, be_interrupted_by_fault);
}

static void test_fault_unplugs(const void *config)
{
    expect_unplug(config, be_interrupted_by_fault);
}

static const struct {
    const char *claim;
    void (*test)(const void *config);
} tests[] = {
    { "completion-resets-the-device", test_queue_resets },
    { "completion-unplugs-the-device", test_queue_unplugs },
    { "fault-resets-the-device", test_fault_resets },
    { "fault-unplugs-the-device", test_fault_unplugs },
};

int main(int argc, char **argv)
{
    /* QEMU's own: what is used after it was freed is not as it was. */
    g_setenv("MALLOC_PERTURB_", "165", false);
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(tests); j++) {
            g_autofree char *path =
                g_strdup_printf("isolation-vector/%s/%s", configs[i].name,
                                tests[j].claim);

            qtest_add_data_func(path, &configs[i], tests[j].test);
        }
    }
    return g_test_run();
}
