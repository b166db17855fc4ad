/*
 * A machine with two isolated vhost-user disks.
 *
 * Its memory is private and made of two RAM blocks.  Each disk has a backend
 * process of its own, so that one can be stopped while the other one goes on.
 * A machine is kept over the tests that want the same: whatever a test did to
 * a disk, a reset must have been enough.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "qemu/bswap.h"
#include "libqos/pci-pc.h"
#include "isolation-disk.h"

#define IMAGE_SIZE (4 * MiB)

/* So small that two requests of MACHINE_HALF_REGION do not fit. */
#define REGION_SIZE "4M"

/* Where the driver of each disk has its memory. */
static const uint64_t disk_ram[] = { 0x1000000, 0x3000000 };

static Machine *current;

uint8_t machine_image_byte(uint64_t offset)
{
    return offset / DISK_SECTOR * 7 + offset % DISK_SECTOR;
}

static void image_create(const char *path)
{
    g_autofree uint8_t *data = g_malloc(IMAGE_SIZE);

    for (size_t i = 0; i < IMAGE_SIZE; i++) {
        data[i] = machine_image_byte(i);
    }
    g_assert_true(g_file_set_contents(path, (char *)data, IMAGE_SIZE, NULL));
}

static pid_t backend_start(const char *image, int listen_fd)
{
    const char *binary = getenv("QTEST_QEMU_STORAGE_DAEMON_BINARY");
    g_autofree char *node =
        g_strdup_printf("driver=file,node-name=disk,filename=%s", image);
    g_autofree char *export =
        g_strdup_printf("type=vhost-user-blk,id=export,node-name=disk,"
                        "writable=on,addr.type=fd,addr.str=%d", listen_fd);
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        /* The harness waits until nobody has its pipe open any more. */
        int null = open("/dev/null", O_RDWR);

        dup2(null, 0);
        dup2(null, 1);
        execlp(binary, binary, "--blockdev", node, "--export", export, NULL);
        _exit(1);
    }
    close(listen_fd);
    return pid;
}

static char *machine_stderr_path(const Machine *machine)
{
    return g_strdup_printf("%s/stderr", machine->dir);
}

static void machine_kill_backends(Machine *machine)
{
    for (int i = 0; i < G_N_ELEMENTS(machine->backends); i++) {
        if (machine->backends[i] > 0) {
            kill(machine->backends[i], SIGKILL);
            waitpid(machine->backends[i], NULL, 0);
            machine->backends[i] = 0;
        }
    }
}

/* The test ends here: show what QEMU said, a sanitizer's report perhaps. */
static void machine_abort(void *opaque)
{
    Machine *machine = opaque;
    g_autofree char *path = machine_stderr_path(machine);
    g_autofree char *text = NULL;

    machine_kill_backends(machine);
    if (g_file_get_contents(path, &text, NULL, NULL)) {
        fputs(text, stderr);
    }
}

static void machine_add_disk(Machine *machine, int i, GString *args)
{
    g_autofree char *image = g_strdup_printf("%s/disk%d", machine->dir, i);
    g_autofree char *socket = g_strdup_printf("%s/socket%d", machine->dir, i);

    image_create(image);
    machine->backends[i] = backend_start(image, qtest_socket_server(socket));
    g_string_append_printf(args,
        " -chardev socket,id=socket%d,path=%s,reconnect-ms=20"
        " -device vhost-user-blk-pci,id=disk%d,chardev=socket%d,addr=%d"
        ",memory-isolation=on,memory-isolation-size=" REGION_SIZE
        ",packed=%s%s%s",
        i, socket, i, i, i + 4,
        machine->config->packed ? "on" : "off",
        machine->config->iothread ? ",iothread=thread" : "",
        machine->config->iommu && i == 0 ?
        ",iommu_platform=on,disable-legacy=on" : "");
}

enum {
    VTD_BASE = 0xfed90000,
    VTD_GCMD = VTD_BASE + 0x18,
    VTD_RTADDR = VTD_BASE + 0x20,
    VTD_IOTLB = VTD_BASE + 0xf8,
    VTD_ROOT = 0x200000,
    VTD_CONTEXT = 0x201000,
    VTD_LEVEL3 = 0x202000,
    VTD_LEVEL2 = 0x203000,
    VTD_LEVEL1 = 0x204000,
    VTD_PRESENT = 1,
    VTD_READ_WRITE = MACHINE_MAP_READ | MACHINE_MAP_WRITE,
    VTD_WIDTH_39_DOMAIN_1 = 0x101,
};

/*
 * Intel VT-d: three levels of tables, 4 KiB pages,
 * [MACHINE_IOVA, MACHINE_IOVA + RAM) to [0, RAM).
 */
static void machine_prepare_iommu(Machine *machine)
{
    QTestState *qts = machine->qts;
    uint64_t context = VTD_CONTEXT + QPCI_DEVFN(4, 0) * 16;
    size_t num_pages = MACHINE_RAM_END / 4096;
    g_autofree uint64_t *level1 = g_new(uint64_t, num_pages);

    qtest_writeq(qts, VTD_ROOT, VTD_CONTEXT | VTD_PRESENT);
    qtest_writeq(qts, context, VTD_LEVEL3 | VTD_PRESENT);
    qtest_writeq(qts, context + 8, VTD_WIDTH_39_DOMAIN_1);
    qtest_writeq(qts, VTD_LEVEL3 + MACHINE_IOVA / GiB * 8,
                 VTD_LEVEL2 | VTD_READ_WRITE);
    for (int i = 0; i < num_pages / 512; i++) {
        qtest_writeq(qts, VTD_LEVEL2 + i * 8,
                     (VTD_LEVEL1 + i * 4096) | VTD_READ_WRITE);
    }
    for (size_t i = 0; i < num_pages; i++) {
        level1[i] = cpu_to_le64(i * 4096 | VTD_READ_WRITE);
    }
    qtest_memwrite(qts, VTD_LEVEL1, level1, num_pages * 8);
    qtest_writeq(qts, VTD_RTADDR, VTD_ROOT);
    qtest_writel(qts, VTD_GCMD, 1U << 30);
}

void machine_set_iommu(Machine *machine, bool on)
{
    qtest_writel(machine->qts, VTD_GCMD, on ? 1U << 31 : 0);
}

void machine_map(Machine *machine, uint64_t addr, uint64_t to, unsigned flags)
{
    qtest_writeq(machine->qts, VTD_LEVEL1 + addr / 4096 * 8, to | flags);
}

void machine_map_table(Machine *machine, uint64_t addr, uint64_t table)
{
    qtest_writeq(machine->qts, VTD_LEVEL2 + addr / (2 * MiB) * 8,
                 (table ?: VTD_LEVEL1 + addr / (2 * MiB) * 4096) |
                 VTD_READ_WRITE);
}

void machine_invalidate(Machine *machine)
{
    /* All of it, and it is done when the write is. */
    qtest_writeq(machine->qts, VTD_IOTLB, 9ULL << 60);
}

static Machine *machine_new(const MachineConfig *config)
{
    Machine *machine = g_new0(Machine, 1);
    g_autoptr(GString) args = g_string_new(
        "-nodefaults -m 256M"
        " -object memory-backend-ram,id=low,size=128M"
        " -object memory-backend-ram,id=high,size=128M"
        " -numa node,memdev=low,cpus=0 -numa node,memdev=high"
        " -object iothread,id=thread");
    g_autofree char *errors = NULL;

    machine->config = config;
    g_string_append(args, config->iommu ?
                    " -M q35 -device intel-iommu,aw-bits=39" : " -M pc");
    machine->dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_assert_nonnull(machine->dir);
    qtest_add_abrt_handler(machine_abort, machine);
    for (int i = 0; i < G_N_ELEMENTS(machine->disks); i++) {
        machine_add_disk(machine, i, args);
    }
    errors = machine_stderr_path(machine);
    g_string_append_printf(args, " 2> %s", errors);
    machine->qts = qtest_init(args->str);
    machine->bus = qpci_new_pc(machine->qts, NULL);

    for (int i = 0; i < G_N_ELEMENTS(machine->disks); i++) {
        Disk *disk = &machine->disks[i];
        QPCIAddress addr = { .devfn = QPCI_DEVFN(i + 4, 0) };

        disk->machine = machine;
        disk->qts = machine->qts;
        disk->queue.qts = machine->qts;
        disk->queue.packed = config->packed;
        disk->ram = disk_ram[i];
        virtio_pci_init(&disk->pci, machine->bus, &addr);
        disk->iommu = config->iommu && i == 0;
        qvirtio_pci_device_enable(&disk->pci);
    }
    if (config->iommu) {
        machine_prepare_iommu(machine);
    }
    return machine;
}

void machine_end(void)
{
    Machine *machine = current;
    g_autofree char *errors = NULL;

    if (!machine) {
        return;
    }
    current = NULL;
    errors = machine_stderr_path(machine);
    qtest_quit(machine->qts);
    qtest_remove_abrt_handler(machine);
    machine_kill_backends(machine);
    for (int i = 0; i < G_N_ELEMENTS(machine->disks); i++) {
        g_autofree char *image = g_strdup_printf("%s/disk%d", machine->dir, i);
        g_autofree char *socket =
            g_strdup_printf("%s/socket%d", machine->dir, i);

        unlink(image);
        unlink(socket);
        g_free(machine->disks[i].pci.pdev);
    }
    unlink(errors);
    rmdir(machine->dir);
    g_free(machine->dir);
    qpci_free_pc(machine->bus);
    g_free(machine);
}

Machine *machine_get(const MachineConfig *config)
{
    if (!current || current->config != config) {
        machine_end();
        current = machine_new(config);
    }
    return current;
}

void machine_assert_alive(Machine *machine)
{
    qtest_qmp_assert_success(machine->qts, "{ 'execute': 'query-status' }");
}

char *machine_messages(Machine *machine)
{
    g_autofree char *path = machine_stderr_path(machine);
    g_autofree char *text = NULL;
    size_t seen = machine->messages_seen;

    g_assert_true(g_file_get_contents(path, &text, &machine->messages_seen,
                                      NULL));
    return g_strdup(text + seen);
}

void machine_set_shadow_ram(Machine *machine, bool ram)
{
    /* i440FX: PAM register for 0xd0000 to 0xd7fff, two fields of 16 KiB */
    enum { PAM_D0000 = 0x5c, PAM_ROM = 0x00, PAM_RAM = 0x33 };

    machine->bus->config_writeb(machine->bus, QPCI_DEVFN(0, 0), PAM_D0000,
                                ram ? PAM_RAM : PAM_ROM);
}

static pid_t disk_backend(const Disk *disk)
{
    return disk->machine->backends[disk - disk->machine->disks];
}

void disk_freeze_backend(Disk *disk)
{
    g_assert_cmpint(kill(disk_backend(disk), SIGSTOP), ==, 0);
}

void disk_thaw_backend(Disk *disk)
{
    if (disk->thawer) {
        waitpid(disk->thawer, NULL, 0);
        disk->thawer = 0;
    }
    g_assert_cmpint(kill(disk_backend(disk), SIGCONT), ==, 0);
}

void disk_thaw_backend_later(Disk *disk)
{
    pid_t backend = disk_backend(disk);
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        g_usleep(G_USEC_PER_SEC / 5);
        kill(backend, SIGCONT);
        _exit(0);
    }
    disk->thawer = pid;
}
