/*
 * The machine of the conformance cases, its backend, and a plain driver.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include <sys/prctl.h>
#include "conformance.h"

enum {
    SLOT = 4,
    RAM_BYTES = 16 * MiB,
    RAM_QUEUES = 1 * MiB,
    RAM_QUEUE_STRIDE = 64 * KiB,
    RAM_TABLE = 3 * MiB,
    RAM_DATA = 4 * MiB,
    LISTENING = 0x10000,
    /* What is known to come may take long on a busy machine. */
    PATIENCE_US = 30 * G_USEC_PER_SEC,
    /* Nobody knows what comes, or that it does. */
    CURIOSITY_US = G_USEC_PER_SEC,
    NOTHING_US = 40 * 1000,
};

/* The backend */

static bool is_listening(const char *path)
{
    g_autofree char *table = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents("/proc/net/unix", &table, NULL, NULL));
    lines = g_strsplit(table, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned flags = 0;

        if (g_str_has_suffix(*line, path) &&
            sscanf(*line, "%*s %*s %*s %x", &flags) == 1 &&
            flags & LISTENING) {
            return true;
        }
    }
    return false;
}

static void run_backend(const char *command)
{
    g_auto(GStrv) argv = NULL;
    int null = open("/dev/null", O_RDWR);

    if (!g_shell_parse_argv(command, NULL, &argv, NULL)) {
        _exit(1);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    execvp(argv[0], argv);
    _exit(1);
}

/* One that went before us may not be gone yet: no two have the same name. */
static char *socket_path(Rig *r)
{
    return g_strdup_printf("%s/socket.%d", r->dir, getpid());
}

bool rig_start_backend(Rig *r)
{
    g_autofree char *socket = socket_path(r);
    const char *wanted = getenv(r->kind->backend);
    g_autofree char *command = NULL;
    g_auto(GStrv) parts = NULL;
    int64_t end = g_get_monotonic_time() + PATIENCE_US;

    if (!wanted) {
        return false;
    }
    parts = g_strsplit(wanted, "{socket}", -1);
    command = g_strjoinv(socket, parts);
    unlink(socket);
    r->backend = fork();
    g_assert_cmpint(r->backend, >=, 0);
    if (r->backend == 0) {
        run_backend(command);
    }
    while (!is_listening(socket)) {
        g_assert_true(rig_backend_lives(r));
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    return true;
}

bool rig_backend_lives(Rig *r)
{
    if (r->mode == MODE_INSIDE) {
        return true;
    }
    if (r->backend && waitpid(r->backend, NULL, WNOHANG) == r->backend) {
        r->backend = 0;
    }
    return r->backend;
}

/* The machine */

static char *machine_args(Rig *r, const char *socket)
{
    GString *args = g_string_new("-nodefaults -m 16M -no-user-config");
    g_autofree char *device = NULL;

    if (r->mode == MODE_INSIDE) {
        g_string_append_printf(args, " -M pc %s", r->kind->inside);
    } else {
        device = g_strdup_printf(r->kind->vhost, r->mode == MODE_ON ?
                                 ",memory-isolation=on" : "");
        g_string_append_printf(
            args, " -object memory-backend-memfd,id=shared,size=16M,share=on"
            " -M pc%s -chardev socket,id=c,path=%s%s %s",
            r->mode == MODE_ON ? "" : ",memory-backend=shared", socket,
            r->kind->reconnects ? ",reconnect-ms=20" : "", device);
    }
    g_string_append_printf(args, ",addr=%d,packed=%s", SLOT,
                           r->packed ? "on" : "off");
    return g_string_free(args, false);
}

static void find_device(Rig *r)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };

    virtio_pci_init(&r->pci, r->bus, &addr);
    qvirtio_pci_device_enable(&r->pci);
    if (r->kind->legacy) {
        r->legacy = qpci_iomap(r->pci.pdev, 0, NULL);
    }
}

/* In memory; the device does not know of it, but it is selected. */
static void place_queue(Rig *r, unsigned n)
{
    QVirtioPCIDevice *pci = &r->pci;
    GuestQueue *q = &r->queues[n];
    uint64_t ram = RAM_QUEUES + n * RAM_QUEUE_STRIDE;

    qtest_memset(r->qts, ram, 0, RAM_QUEUE_STRIDE);
    *q = (GuestQueue) { .qts = r->qts, .packed = r->packed, .index = n };
    queue_init(q, ram, ram + 0x4000, ram + 0x8000, RIG_QUEUE_SIZE);
    guest_common_writew(pci, COMMON(queue_select), n);
    q->notify_addr = pci->bar.addr + pci->notify_cfg_offset +
        guest_common_readw(pci, COMMON(queue_notify_off)) *
        pci->notify_off_multiplier;
}

bool rig_start(Rig *r)
{
    g_autofree char *socket = socket_path(r);
    g_autofree char *args = NULL;

    if (r->mode == MODE_INSIDE ? !r->kind->inside
                               : !rig_start_backend(r)) {
        return false;
    }
    args = machine_args(r, socket);
    r->qts = qtest_init(args);
    r->bus = qpci_new_pc(r->qts, NULL);
    find_device(r);
    /* A case may offer requests in one that it does not set up. */
    for (unsigned n = 0; n < r->kind->num_queues; n++) {
        place_queue(r, n);
    }
    return !r->packed || rig_offered(r) & BIT_ULL(VIRTIO_F_RING_PACKED);
}

void rig_end(Rig *r)
{
    if (r->qts) {
        g_free(r->pci.pdev);
        qpci_free_pc(r->bus);
        qtest_quit(r->qts);
        r->qts = NULL;
    }
    if (r->backend) {
        kill(r->backend, SIGKILL);
        waitpid(r->backend, NULL, 0);
        r->backend = 0;
    }
}

uint64_t rig_where(Rig *r, Where where)
{
    switch (where) {
    case WHERE_END:
        return RAM_BYTES - 8;
    case WHERE_MAX:
        return UINT64_MAX - 7;
    case WHERE_DEVICE:
        return r->pci.bar.addr;
    case WHERE_ROM:
        return 0xfffc0000;
    case WHERE_HOLE:
        return 0xa0000;
    case WHERE_HIGH:
        return 1ULL << 52;
    default:
        return 0xd0000000;
    }
}

/* Registers */

uint8_t rig_read8(Rig *r, size_t offset)
{
    return qpci_io_readb(r->pci.pdev, r->pci.bar,
                         r->pci.common_cfg_offset + offset);
}

void rig_write8(Rig *r, size_t offset, uint8_t value)
{
    qpci_io_writeb(r->pci.pdev, r->pci.bar,
                   r->pci.common_cfg_offset + offset, value);
}

uint32_t rig_read32(Rig *r, size_t offset)
{
    return qpci_io_readl(r->pci.pdev, r->pci.bar,
                         r->pci.common_cfg_offset + offset);
}

void rig_write32(Rig *r, size_t offset, uint32_t value)
{
    qpci_io_writel(r->pci.pdev, r->pci.bar,
                   r->pci.common_cfg_offset + offset, value);
}

uint8_t rig_status(Rig *r)
{
    return rig_read8(r, COMMON(device_status));
}

void rig_set_status(Rig *r, uint8_t status)
{
    rig_write8(r, COMMON(device_status), status);
}

uint64_t rig_offered(Rig *r)
{
    uint64_t low;

    rig_write32(r, COMMON(device_feature_select), 0);
    low = rig_read32(r, COMMON(device_feature));
    rig_write32(r, COMMON(device_feature_select), 1);
    return low | (uint64_t)rig_read32(r, COMMON(device_feature)) << 32;
}

void rig_accept(Rig *r, uint64_t features)
{
    for (unsigned i = 0; i < 2; i++) {
        rig_write32(r, COMMON(guest_feature_select), i);
        rig_write32(r, COMMON(guest_feature), features >> 32 * i);
    }
}

uint64_t rig_wanted(Rig *r)
{
    return rig_offered(r) & (BIT_ULL(VIRTIO_F_VERSION_1) |
                             BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |
                             (r->packed ? BIT_ULL(VIRTIO_F_RING_PACKED) : 0));
}

void rig_set_up_queue(Rig *r, unsigned n)
{
    QVirtioPCIDevice *pci = &r->pci;
    GuestQueue *q = &r->queues[n];

    place_queue(r, n);
    guest_common_writew(pci, COMMON(queue_size), RIG_QUEUE_SIZE);
    guest_common_writeq(pci, COMMON(queue_desc_lo), q->desc);
    guest_common_writeq(pci, COMMON(queue_avail_lo), q->avail);
    guest_common_writeq(pci, COMMON(queue_used_lo), q->used);
}

void rig_enable(Rig *r, unsigned n, uint16_t value)
{
    guest_common_writew(&r->pci, COMMON(queue_select), n);
    guest_common_writew(&r->pci, COMMON(queue_enable), value);
}

void rig_init(Rig *r)
{
    rig_set_status(r, 0);
    r->asked = 0;
    r->current = r->kind->queue;
    rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    rig_accept(r, rig_wanted(r));
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned n = 0; n < r->kind->num_queues; n++) {
        rig_set_up_queue(r, n);
        rig_enable(r, n, 1);
    }
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Requests */

GuestQueue *rig_queue(Rig *r)
{
    return &r->queues[r->current];
}

uint64_t rig_data(Rig *r, uint64_t offset)
{
    return RAM_DATA + offset;
}

uint64_t rig_table(Rig *r)
{
    return RAM_TABLE;
}

void rig_offer(Rig *r)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num = r->kind->request(r, descs);

    queue_offer(rig_queue(r), descs, num);
    r->asked++;
}

/* Something has come of it; NULL: not yet. */
static const char *seen(Rig *r)
{
    if (!rig_backend_lives(r)) {
        return BACKEND_ENDS;
    }
    if (rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET) {
        return STOPPED;
    }
    return rig_queue(r)->qts && !queue_used_is_empty(rig_queue(r)) ? WORKS
                                                                   : NULL;
}

const char *rig_wait(Rig *r)
{
    int64_t wait = CURIOSITY_US;
    int64_t end;
    const char *what;

    if (r->expected && g_str_has_prefix(r->expected, IDLE)) {
        wait = NOTHING_US;
    } else if (r->expected && r->mode == MODE_ON) {
        wait = PATIENCE_US;
    }
    end = g_get_monotonic_time() + wait;
    while (!(what = seen(r))) {
        if (g_get_monotonic_time() > end) {
            return IDLE;
        }
        g_usleep(200);
    }
    return what;
}

bool rig_recovers(Rig *r)
{
    const char *expected = r->expected;
    const char *what;

    if (!rig_backend_lives(r)) {
        return false;
    }
    rig_init(r);
    rig_offer(r);
    r->expected = r->mode == MODE_ON ? WORKS : NULL;
    what = rig_wait(r);
    r->expected = expected;
    return g_str_equal(what, WORKS) && r->kind->good(r);
}
