/*
 * A machine with one vhost-user device, its driver and its backend.
 *
 * With the property on, guest RAM is what QEMU makes of "-m": private.  All of
 * it is filled with a pattern before the device is touched.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "libqos/pci-pc.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "isolation-device.h"
#include "isolation-target.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* What isolation does not do with a guest's ring, whatever the backend can. */
#define NEVER_OFFERED (BIT_ULL(VIRTIO_F_IN_ORDER) | \
                       BIT_ULL(VIRTIO_F_NOTIFICATION_DATA) | \
                       BIT_ULL(VIRTIO_F_RING_RESET))

enum {
    PCI_SLOT_OF_DEVICE = 4,
    /* Where a machine for Arm has its RAM; the others are offsets in it. */
    ARM_RAM = 0x40000000,
    RAM_QUEUES = 0x800000,
    RAM_QUEUE_STRIDE = 0x4000,
    RAM_DATA = 0x900000,
};

void device_random(void *data, size_t len)
{
    uint8_t *byte = data;

    for (size_t i = 0; i < len; i++) {
        byte[i] = g_test_rand_int_range(0, 256);
    }
}

/* The machine */

/* Only a bridge that ACPI leaves alone has PCIe's own hotplug. */
static const char *device_machine(const DeviceConfig *config)
{
    return config->port ? "q35 -global ICH9-LPC.acpi-pci-hotplug-with-bridge-"
                          "support=off -device pcie-root-port,id=root,addr=3"
                        : target_machine();
}

static char *device_place(const DeviceConfig *config)
{
    return config->port ? g_strdup("bus=root")
                        : g_strdup_printf("addr=%d", PCI_SLOT_OF_DEVICE);
}

/* Of whatever has the connection. */
static char *device_isolation(const DeviceConfig *config)
{
    return g_strconcat(",chardev=socket",
                       config->isolated && !config->policy ?
                       ",memory-isolation=on" : "",
                       config->iothread ? ",iothread=thread" : "",
                       config->pins, NULL);
}

static char *device_options(const DeviceKind *kind, const DeviceConfig *config)
{
    g_autofree char *place = device_place(config);
    g_autofree char *rest = kind->object ?
        g_strdup_printf(",%s=object", kind->link) : device_isolation(config);

    /* What is asked for in order is not offered all the same. */
    return g_strdup_printf("%s,id=device,%s,packed=%s%s%s", kind->device,
                           place, config->guest_packed ? "on" : "off",
                           config->isolated ? ",in_order=on" : "", rest);
}

static char *device_args(GuestDevice *d, const char *socket)
{
    const DeviceKind *kind = d->kind;
    const DeviceConfig *config = d->config;
    GString *args = g_string_new("-nodefaults -m 16M"
                                 " -object memory-backend-shm,id=shared,"
                                 "size=16M -object iothread,id=thread");
    bool says = config->isolated && !config->policy;
    g_autofree char *options = device_options(kind, config);

    g_string_append_printf(args, " -M %s%s", device_machine(config),
                           says ? "" : ",memory-backend=shared");
    if (config->policy) {
        g_string_append_printf(args, " -object vhost-user-isolation,id=iso0,%s",
                               config->policy);
    }
    g_string_append_printf(args, " -chardev socket,id=socket,path=%s%s",
                           socket, config->dials ?: ",server=on");
    if (kind->object) {
        g_autofree char *isolation = device_isolation(config);

        g_string_append_printf(args, " %s,id=object%s", kind->object,
                               isolation);
    }
    g_string_append_printf(args, " -device %s", options);
    if (config->incoming) {
        g_string_append(args, " -incoming defer");
    }
    return g_string_free(args, false);
}

static void device_remove_files(void *opaque)
{
    GuestDevice *d = opaque;
    g_autofree char *socket = g_strdup_printf("%s/socket", d->dir);

    unlink(socket);
    rmdir(d->dir);
}

/* Bus 1, and a window from where libqos begins to place BARs. */
static void device_open_port(GuestDevice *d)
{
    QPCIDevice *port = qpci_device_find(d->bus, DEVICE_PORT);

    g_assert_nonnull(port);
    qpci_config_writel(port, PCI_PRIMARY_BUS, 0x00010100);
    qpci_config_writel(port, PCI_MEMORY_BASE, 0xe0f0e000);
    qpci_device_enable(port);
    g_free(port);
}

static void device_find_bus(GuestDevice *d)
{
    if (target_is_arm()) {
        qpci_init_generic(&d->arm_bus, d->qts, NULL, false);
        d->bus = &d->arm_bus.bus;
        d->ram = ARM_RAM;
    } else {
        d->bus = qpci_new_pc(d->qts, NULL);
    }
    if (d->config->port) {
        device_open_port(d);
    }
}

static void device_find(GuestDevice *d)
{
    QPCIAddress addr = {
        .devfn = d->config->port ? DEVICE_BEHIND_PORT
                                 : QPCI_DEVFN(PCI_SLOT_OF_DEVICE, 0),
    };

    virtio_pci_init(&d->pci, d->bus, &addr);
    qvirtio_pci_device_enable(&d->pci);
}

bool device_skip_if_missing(const DeviceKind *kind)
{
    g_auto(GStrv) parts = g_strsplit(kind->device, ",", 2);

    if (qtest_has_device(parts[0])) {
        return false;
    }
    g_test_skip("this QEMU is built without the device");
    return true;
}

GuestDevice *device_new(const DeviceKind *kind, const DeviceConfig *config)
{
    GuestDevice *d = g_new0(GuestDevice, 1);
    g_autofree char *socket = NULL;
    g_autofree char *args = NULL;

    d->kind = kind;
    d->config = config;
    d->state = g_malloc0(DEVICE_STATE);
    d->dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_assert_nonnull(d->dir);
    qtest_add_abrt_handler(device_remove_files, d);
    socket = g_strdup_printf("%s/socket", d->dir);
    d->backend = (config->dials ? mock_backend_new_listening
                                : mock_backend_new)(
        &kind->model, config->backend_features, d->state, socket);
    d->backend->expect_zeros = config->isolated;
    args = device_args(d, socket);
    d->qts = qtest_init(args);
    device_find_bus(d);
    d->pattern = guest_pattern_fill_at(d->qts, d->ram, DEVICE_RAM);
    d->next_free = d->ram + RAM_DATA;
    device_find(d);
    return d;
}

void device_free(GuestDevice *d)
{
    qtest_quit(d->qts);
    qtest_remove_abrt_handler(d);
    mock_backend_free(d->backend);
    device_remove_files(d);
    g_free(d->pci.pdev);
    if (d->bus != &d->arm_bus.bus) {
        qpci_free_pc(d->bus);
    }
    g_free(d->dir);
    g_free(d->state);
    g_free(d);
}

void device_unplug(GuestDevice *d)
{
    g_clear_pointer(&d->pci.pdev, g_free);
    qpci_unplug_acpi_device_test(d->qts, "device", PCI_SLOT_OF_DEVICE);
}

void device_plug(GuestDevice *d)
{
    g_autofree char *options = device_options(d->kind, d->config);
    g_autofree char *said = qtest_hmp(d->qts, "device_add %s", options);
    int64_t end = g_get_monotonic_time() + WAIT_US;

    /*
     * What has gone lets its chardev go a little later; and one that connects
     * by itself may be about to.
     */
    while (strstr(said, "already in use") || strstr(said, "try again")) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
        g_free(said);
        said = qtest_hmp(d->qts, "device_add %s", options);
    }
    g_assert_cmpstr(said, ==, "");
    memset(&d->pci, 0, sizeof(d->pci));
    device_find(d);
}

/* The driver */

static void device_set_up_queue(GuestDevice *d, unsigned n)
{
    QVirtioPCIDevice *pci = &d->pci;
    GuestQueue *q = &d->queues[n];
    uint64_t ram = d->ram + RAM_QUEUES + n * RAM_QUEUE_STRIDE;
    /* Virtio 1.2, 2.8: a packed ring's size need not be a power of two. */
    uint16_t size = d->config->guest_packed ? 7 : 8;

    qtest_memset(d->qts, ram, 0, RAM_QUEUE_STRIDE);
    q->qts = d->qts;
    q->packed = d->config->guest_packed;
    q->index = n;
    queue_init(q, ram, ram + 0x1000, ram + 0x2000, size);
    guest_common_writew(pci, COMMON(queue_select), n);
    guest_common_writew(pci, COMMON(queue_size), size);
    guest_common_writeq(pci, COMMON(queue_desc_lo), q->desc);
    guest_common_writeq(pci, COMMON(queue_avail_lo), q->avail);
    guest_common_writeq(pci, COMMON(queue_used_lo), q->used);
    q->notify_addr = pci->bar.addr + pci->notify_cfg_offset +
        guest_common_readw(pci, COMMON(queue_notify_off)) *
        pci->notify_off_multiplier;
    guest_common_writew(pci, COMMON(queue_enable), 1);
}

void device_start_driver(GuestDevice *d)
{
    QVirtioDevice *vdev = &d->pci.vdev;
    uint64_t wanted = d->kind->model.features | BIT_ULL(VIRTIO_F_VERSION_1);
    uint64_t offered;

    if (d->config->guest_packed) {
        wanted |= BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    if (d->config->guest_event_idx) {
        wanted |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    }
    qvirtio_start_device(vdev);
    offered = qvirtio_get_features(vdev);
    g_assert_cmphex(offered & wanted, ==, wanted);
    if (d->config->isolated) {
        g_assert_cmphex(offered & NEVER_OFFERED, ==, 0);
    }
    qvirtio_set_features(vdev, wanted);
    for (unsigned n = 0;
         n < d->kind->model.num_queues + d->kind->num_others; n++) {
        device_set_up_queue(d, n);
    }
    qvirtio_set_driver_ok(vdev);
}

void device_start(GuestDevice *d)
{
    device_start_driver(d);
    mock_backend_wait_running(d->backend, d->kind->model.num_queues);
}

void device_stop(GuestDevice *d)
{
    qvirtio_reset(&d->pci.vdev);
    mock_backend_wait_running(d->backend, 0);
}

/* Requests */

/* Two descriptors if there is something to divide. */
static unsigned add_descs(GuestDesc *descs, uint64_t addr, size_t len,
                          uint16_t flags)
{
    size_t first = DIV_ROUND_UP(len, 2);

    if (len == 0) {
        return 0;
    }
    descs[0] = (GuestDesc) { addr, first, flags };
    if (len == first) {
        return 1;
    }
    descs[1] = (GuestDesc) { addr + first, len - first, flags };
    return 2;
}

/*
 * Room for the device, and what lies behind a buffer, still has the pattern in
 * it, which the backend must not see.
 */
uint64_t device_post(GuestDevice *d, unsigned queue,
                     const void *out, size_t out_len, size_t in_len)
{
    uint64_t out_addr = d->next_free;
    uint64_t in_addr = ROUND_UP(out_addr + out_len, 64);
    GuestDesc descs[4];
    unsigned num;

    d->next_free = ROUND_UP(in_addr + in_len, 64);
    g_assert_cmphex(d->next_free, <, d->ram + DEVICE_RAM);
    if (out_len) {
        qtest_memwrite(d->qts, out_addr, out, out_len);
    }
    num = add_descs(descs, out_addr, out_len, 0);
    num += add_descs(descs + num, in_addr, in_len, VRING_DESC_F_WRITE);
    queue_offer(&d->queues[queue], descs, num);
    return in_addr;
}

/* The interrupt's status: reading clears it. */
static void wait_interrupt(GuestDevice *d)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (!(qpci_io_readb(d->pci.pdev, d->pci.bar, d->pci.isr_cfg_offset) &
             1)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

static uint32_t device_complete(GuestDevice *d, unsigned queue)
{
    uint32_t len = queue_wait_used(&d->queues[queue]);

    /* With event indices it never asks for one. */
    if (!d->config->guest_event_idx) {
        wait_interrupt(d);
    }
    return len;
}

uint32_t device_request(GuestDevice *d, unsigned queue,
                        const void *out, size_t out_len,
                        void *in, size_t in_len)
{
    uint64_t addr = device_post(d, queue, out, out_len, in_len);
    uint32_t len = device_complete(d, queue);

    if (in_len) {
        qtest_memread(d->qts, addr, in, in_len);
    }
    return len;
}

void device_expect(GuestDevice *d, unsigned queue, uint64_t addr,
                   const void *data, size_t len)
{
    g_autofree uint8_t *got = g_malloc(len);

    g_assert_cmpuint(device_complete(d, queue), ==, len);
    qtest_memread(d->qts, addr, got, len);
    g_assert_cmpmem(got, len, data, len);
}

void device_receive(GuestDevice *d, unsigned queue, const void *data,
                    size_t len)
{
    uint64_t addr = device_post(d, queue, NULL, 0, len);

    mock_backend_deliver(d->backend, queue, data, len);
    device_expect(d, queue, addr, data, len);
}
