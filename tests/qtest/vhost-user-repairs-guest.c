/*
 * A machine with one vhost-user device behind a root port.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "qemu/bitops.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_gpio.h"
#include "standard-headers/linux/virtio_net.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vhost-user-repairs.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum {
    PORT = 3 << 3,
    BEHIND_PORT = 1 << 8,
    Q35_PCIEXBAR = 0x60,
    ECAM = 0xb0000000,
    SLOT_OFF = PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF,
    PROTOCOL_STATUS = 16,
    PROTOCOL_SHARED_OBJECT = 18,
};

const RepairsKind repairs_blk = {
    .name = "blk",
    .device = "vhost-user-blk-pci,num-queues=2",
    .mock = { .config_size = 256, .num_queues = 2,
              .protocol_features = BIT_ULL(PROTOCOL_SHARED_OBJECT) },
    .num_rings = 2,
};

const RepairsKind repairs_blk_wce = {
    .name = "blk-wce",
    .device = "vhost-user-blk-pci,num-queues=2",
    .mock = { .config_size = 256, .num_queues = 2,
              .features = BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) },
    .num_rings = 2,
    .driver_features = BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE),
};

const RepairsKind repairs_scsi = {
    .name = "scsi",
    .device = "vhost-user-scsi-pci,num_queues=1",
    .mock = { .num_queues = 3 },
    .num_rings = 3,
};

const RepairsKind repairs_fs = {
    .name = "fs",
    .device = "vhost-user-fs-pci,tag=tag",
    .mock = { .num_queues = 2 },
    .num_rings = 2,
};

const RepairsKind repairs_vsock = {
    .name = "vsock",
    .device = "vhost-user-vsock-pci",
    .mock = { .config_size = 8, .num_queues = 2 },
    .num_rings = 2,
    .num_others = 1,
};

const RepairsKind repairs_rng = {
    .name = "rng",
    .device = "vhost-user-rng-pci",
    .mock = { .num_queues = 1 },
    .num_rings = 1,
};

const RepairsKind repairs_gpio = {
    .name = "gpio",
    .device = "vhost-user-gpio-pci",
    .mock = { .features = BIT_ULL(VIRTIO_GPIO_F_IRQ), .config_size = 8,
              .num_queues = 2 },
    .num_rings = 2,
    .driver_features = BIT_ULL(VIRTIO_GPIO_F_IRQ),
};

const RepairsKind repairs_input = {
    .name = "input",
    .device = "vhost-user-input-pci",
    .mock = { .config_size = 136, .num_queues = 2 },
    .num_rings = 2,
};

const RepairsKind repairs_net = {
    .name = "net",
    .device = "virtio-net-pci,netdev=backend",
    .backend = "-netdev vhost-user,id=backend",
    .mock = { .features = BIT_ULL(VIRTIO_NET_F_STATUS), .num_queues = 2 },
    .num_rings = 2,
    .driver_features = BIT_ULL(VIRTIO_NET_F_STATUS),
};

const RepairsKind repairs_crypto = {
    .name = "crypto",
    .device = "virtio-crypto-pci,cryptodev=backend",
    .backend = "-object cryptodev-vhost-user,id=backend",
    .mock = { .protocol_features = BIT_ULL(7), .num_queues = 1 },
    .num_rings = 1,
    .num_others = 1,
};

/* The machine */

/* A bridge that ACPI leaves alone has PCIe's own hotplug. */
static char *machine_args(RepairsGuest *g, bool plugged)
{
    const RepairsSetup *setup = g->setup;
    const RepairsKind *kind = g->kind;
    GString *args = g_string_new(
        "-nodefaults -m 64M -object memory-backend-shm,id=shared,size=64M"
        " -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");

    g_string_append_printf(args, " -M q35%s",
                           setup->private_ram ? "" : ",memory-backend=shared");
    g_string_append(args, " -device pcie-root-port,id=root,addr=3");
    g_string_append_printf(args,
                           " -chardev socket,id=socket,server=on,path=%s/socket",
                           g->dir);
    if (kind->backend) {
        g_string_append_printf(args, " %s,chardev=socket%s", kind->backend,
                               setup->options);
    }
    if (plugged) {
        g_string_append_printf(args, " -device %s,id=device,bus=root",
                               kind->device);
        if (!kind->backend) {
            g_string_append_printf(args, ",chardev=socket%s", setup->options);
        }
    }
    return g_string_free(args, false);
}

static void remove_files(void *opaque)
{
    RepairsGuest *g = opaque;
    g_autofree char *socket = g_strdup_printf("%s/socket", g->dir);

    unlink(socket);
    rmdir(g->dir);
}

/* Bus 1, and a window from where libqos begins to place BARs. */
static void open_port(RepairsGuest *g)
{
    QPCIDevice *port = qpci_device_find(g->bus, PORT);

    g_assert_nonnull(port);
    qpci_config_writel(port, PCI_PRIMARY_BUS, 0x00010100);
    qpci_config_writel(port, PCI_MEMORY_BASE, 0xe0f0e000);
    qpci_device_enable(port);
    g_free(port);
}

RepairsGuest *repairs_new(const RepairsSetup *setup, const RepairsKind *kind,
                          bool plugged)
{
    RepairsGuest *g = g_new0(RepairsGuest, 1);
    g_autofree char *socket = NULL;
    g_autofree char *args = NULL;

    g->setup = setup;
    g->kind = kind;
    g->dir = g_dir_make_tmp("repairs-XXXXXX", NULL);
    g_assert_nonnull(g->dir);
    qtest_add_abrt_handler(remove_files, g);
    socket = g_strdup_printf("%s/socket", g->dir);
    g->mock = vu_mock_new(&kind->mock, socket);
    args = machine_args(g, plugged);
    g->qts = qtest_init(args);
    pc_alloc_init(&g->alloc, g->qts, 0);
    g->bus = qpci_new_pc(g->qts, &g->alloc);
    open_port(g);
    g->bus->config_writel(g->bus, 0, Q35_PCIEXBAR, ECAM | 1);
    if (plugged) {
        repairs_find(g);
    }
    return g;
}

void repairs_free(RepairsGuest *g)
{
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'query-status' }");
    for (unsigned i = 0; i < REPAIRS_RINGS; i++) {
        g_free(g->rings[i]);
    }
    g_free(g->pci.pdev);
    qpci_free_pc(g->bus);
    alloc_destroy(&g->alloc);
    qtest_quit(g->qts);
    qtest_remove_abrt_handler(g);
    vu_mock_free(g->mock);
    remove_files(g);
    g_free(g->dir);
    g_free(g);
}

static void put_option(QDict *args, const char *option, const char *dflt)
{
    g_auto(GStrv) words = g_strsplit(option, "=", 2);

    if (!words[1]) {
        qdict_put_str(args, dflt, words[0]);
    } else if (g_ascii_isdigit(words[1][0])) {
        qdict_put_int(args, words[0], g_ascii_strtoull(words[1], NULL, 10));
    } else {
        qdict_put_str(args, words[0], words[1]);
    }
}

QDict *repairs_plug(RepairsGuest *g)
{
    g_autofree char *all = g_strconcat(
        g->kind->device, ",id=device,bus=root",
        g->kind->backend ? NULL : ",chardev=socket", g->setup->options, NULL);
    g_auto(GStrv) options = g_strsplit(all, ",", -1);
    QDict *args = qdict_new();

    for (unsigned i = 0; options[i]; i++) {
        put_option(args, options[i], "driver");
    }
    return qtest_qmp(g->qts, "{ 'execute': 'device_add', 'arguments': %p }",
                     args);
}

/* The driver */

void repairs_find(RepairsGuest *g)
{
    QPCIAddress addr = { .devfn = BEHIND_PORT };

    g_free(g->pci.pdev);
    memset(&g->pci, 0, sizeof(g->pci));
    virtio_pci_init(&g->pci, g->bus, &addr);
    qvirtio_pci_device_enable(&g->pci);
}

void repairs_set_up_ring(RepairsGuest *g, unsigned n)
{
    g_free(g->rings[n]);
    g->rings[n] = qvirtqueue_setup(&g->pci.vdev, &g->alloc, n);
}

void repairs_set_up(RepairsGuest *g, unsigned num)
{
    QVirtioDevice *vdev = &g->pci.vdev;

    qvirtio_start_device(vdev);
    qvirtio_set_features(vdev, qvirtio_get_features(vdev) &
                         (g->kind->driver_features |
                          BIT_ULL(VIRTIO_F_VERSION_1)));
    for (unsigned n = 0; n < num; n++) {
        repairs_set_up_ring(g, n);
    }
}

void repairs_start_driver(RepairsGuest *g, unsigned num)
{
    repairs_set_up(g, num);
    qvirtio_set_driver_ok(&g->pci.vdev);
}

void repairs_start(RepairsGuest *g)
{
    repairs_start_driver(g, g->kind->num_rings + g->kind->num_others);
    vu_mock_wait_running(g->mock, g->kind->num_rings);
}

void repairs_write_config(RepairsGuest *g, unsigned offset, unsigned size,
                          uint32_t value)
{
    uint64_t at = g->pci.device_cfg_offset + offset;

    if (size == 1) {
        qpci_io_writeb(g->pci.pdev, g->pci.bar, at, value);
    } else {
        qpci_io_writel(g->pci.pdev, g->pci.bar, at, value);
    }
}

/* Unplug */

static uint64_t slot_control(RepairsGuest *g)
{
    QPCIDevice *port = qpci_device_find(g->bus, PORT);
    uint8_t express = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    g_assert_cmphex(express, !=, 0);
    g_free(port);
    return ECAM + (PORT << 12) + express + PCI_EXP_SLTCTL;
}

void repairs_wait_unplugged(RepairsGuest *g)
{
    qtest_qmp_eventwait(g->qts, "DEVICE_DELETED");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'query-status' }");
    g_assert_cmphex(g->bus->config_readw(g->bus, BEHIND_PORT, PCI_VENDOR_ID),
                    ==, 0xffff);
}

void repairs_unplug(RepairsGuest *g)
{
    qtest_writew(g->qts, slot_control(g), SLOT_OFF);
    repairs_wait_unplugged(g);
}

void repairs_lead_vector_to_port(RepairsGuest *g)
{
    QPCIDevice *pdev = g->pci.pdev;
    uint64_t addr = slot_control(g);
    uint32_t words[] = { addr, addr >> 32, SLOT_OFF, 0 };

    qpci_msix_enable(pdev);
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        qpci_io_writel(pdev, pdev->msix_table_bar,
                       pdev->msix_table_off + 4 * i, words[i]);
    }
    qpci_io_writew(pdev, g->pci.bar, g->pci.common_cfg_offset +
                   offsetof(struct virtio_pci_common_cfg, msix_config), 0);
}

/* The connection */

static bool chardev_is_open(RepairsGuest *g)
{
    QDict *answer = qtest_qmp(g->qts, "{ 'execute': 'query-chardev' }");
    const QListEntry *e;
    bool open = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(answer, "return"), e) {
        QDict *chardev = qobject_to(QDict, qlist_entry_obj(e));

        open |= g_str_equal(qdict_get_str(chardev, "label"), "socket") &&
                g_str_has_prefix(qdict_get_str(chardev, "filename"), "unix:");
    }
    qobject_unref(answer);
    return open;
}

static void wait_open(RepairsGuest *g, bool open)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (chardev_is_open(g) != open) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

void repairs_wait_back(RepairsGuest *g)
{
    wait_open(g, true);
}

void repairs_wait_away(RepairsGuest *g)
{
    wait_open(g, false);
    /* What it has scheduled then is done before the next command. */
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'query-status' }");
}

void repairs_freeze(RepairsGuest *g)
{
    pid_t pid = qtest_pid(g->qts);
    siginfo_t info;

    g_assert_cmpint(kill(pid, SIGSTOP), ==, 0);
    g_assert_cmpint(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), ==, 0);
}

void repairs_thaw(RepairsGuest *g)
{
    g_assert_cmpint(kill(qtest_pid(g->qts), SIGCONT), ==, 0);
}
