/*
 * Guests that place rings and buffers where there is no RAM, and change
 * everything while the device runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-move.h"

/* Not in RAM */

static void table_at(Disk *disk, uint64_t addr)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, addr, descs, 3);
    queue_offer(&disk->queue, &table, 1);
}

static void buffer_at(Disk *disk, uint64_t addr, int which)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[which].addr = addr;
    queue_offer(&disk->queue, descs, 3);
}

static void header_at(Disk *disk, uint64_t addr)
{
    buffer_at(disk, addr, 0);
}

static void data_at(Disk *disk, uint64_t addr)
{
    buffer_at(disk, addr, 1);
}

static void status_at(Disk *disk, uint64_t addr)
{
    buffer_at(disk, addr, 2);
}

static void header_at_own_doorbell(Disk *disk, uint64_t arg)
{
    buffer_at(disk, disk_notify_addr(disk), 0);
}

static void data_at_own_doorbell(Disk *disk, uint64_t arg)
{
    buffer_at(disk, disk_notify_addr(disk), 1);
}

static void ring_part_at(Disk *disk, uint64_t addr, int which)
{
    uint64_t desc = which == 0 ? addr : disk->queue.desc;
    uint64_t avail = which == 1 ? addr : disk->queue.avail;
    uint64_t used = which == 2 ? addr : disk->queue.used;

    disk_prepare(disk);
    disk_place_rings(disk, desc, avail, used, disk->queue.size);
    disk_driver_ok(disk);
    queue_kick(&disk->queue);
}

static void desc_ring_at(Disk *disk, uint64_t addr)
{
    ring_part_at(disk, addr, 0);
}

static void avail_ring_at(Disk *disk, uint64_t addr)
{
    ring_part_at(disk, addr, 1);
}

static void used_ring_at(Disk *disk, uint64_t addr)
{
    ring_part_at(disk, addr, 2);
}

/* Registers that a ring in use does not follow */

static void read_on(Disk *disk)
{
    for (int i = 0; i < 2 * disk->queue.size; i++) {
        disk_read_and_verify(disk, i);
    }
}

static void queue_size_becomes(Disk *disk, uint64_t size)
{
    disk_set_queue_size(disk, size);
    read_on(disk);
}

static void queue_size_flutters(Disk *disk, uint64_t times)
{
    GuestDesc descs[3];

    for (int i = 0; i < times; i++) {
        disk_make_read(disk, SECTOR, LEN, descs);
        queue_offer(&disk->queue, descs, 3);
        disk_set_queue_size(disk, i % 2 ? 1 : GUEST_QUEUE_MAX);
        queue_wait_used(&disk->queue);
        disk_assert_read(disk, SECTOR, LEN);
    }
}

static void rings_move_to(Disk *disk, uint64_t addr)
{
    disk_set_queue_addresses(disk, addr, addr + 0x1000, addr + 0x2000);
    disk_enable_queue(disk);
    read_on(disk);
}

static void queue_is_reset(Disk *disk, uint64_t arg)
{
    disk_reset_queue(disk);
    read_on(disk);
}

/* FEATURES_OK goes, DRIVER_OK stays, and the ring gets the other format. */
static void format_changes(Disk *disk, uint64_t arg)
{
    QVirtioDevice *vdev = &disk->pci.vdev;
    uint8_t status = disk_status(disk);

    disk_set_status(disk, status & ~VIRTIO_CONFIG_S_FEATURES_OK);
    vdev->bus->set_features(vdev, BIT_ULL(VIRTIO_F_VERSION_1) |
                            (disk->queue.packed ? 0 :
                             BIT_ULL(VIRTIO_F_RING_PACKED)));
    disk_set_status(disk, status);
    read_on(disk);
}

/* Things that change while the device runs */

static void driver_ok_flutters(Disk *disk, uint64_t times)
{
    uint8_t status = disk_status(disk);
    GuestDesc descs[3];

    for (int i = 0; i < times; i++) {
        disk_make_read(disk, SECTOR, LEN, descs);
        queue_offer(&disk->queue, descs, 3);
        g_usleep(i * 10);
        disk_set_status(disk, status & ~VIRTIO_CONFIG_S_DRIVER_OK);
        disk_set_status(disk, status);
        queue_wait_used(&disk->queue);
        disk_assert_read(disk, SECTOR, LEN);
    }
}

/* The second request has to wait for room; stopping gives it back. */
static void driver_ok_ends_while_a_request_waits(Disk *disk, uint64_t arg)
{
    uint8_t status = disk_status(disk);
    uint32_t len = MACHINE_HALF_REGION;
    g_autofree uint8_t *data = g_malloc(len);
    GuestDesc descs[3];

    disk_freeze_backend(disk);
    disk_make_read(disk, SECTOR, len, descs);
    queue_offer(&disk->queue, descs, 3);
    descs[1].addr += 2 * len;
    descs[2].addr++;
    queue_offer(&disk->queue, descs, 3);
    g_usleep(20000);

    disk_thaw_backend_later(disk);
    disk_set_status(disk, status & ~VIRTIO_CONFIG_S_DRIVER_OK);
    disk_set_status(disk, status);
    disk_thaw_backend(disk);

    for (int i = 0; i < 2; i++) {
        g_assert_cmpuint(queue_wait_used(&disk->queue), ==, len + 1);
        disk_assert_read(disk, SECTOR, len);
        qtest_memread(disk->qts, descs[1].addr, data, len);
        qtest_memwrite(disk->qts, disk_data_addr(disk), data, len);
    }
    g_assert_true(queue_used_is_empty(&disk->queue));
    disk_assert_read(disk, SECTOR, len);
}

static void bus_mastering_ends(Disk *disk, uint64_t in_flight)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    disk_freeze_backend(disk);
    if (in_flight) {
        queue_offer(&disk->queue, descs, 3);
        queue_wait_forwarded(&disk->queue);
    }
    disk_thaw_backend(disk);
    disk_set_bus_master(disk, false);
    queue_kick(&disk->queue);
    machine_assert_alive(disk->machine);
    disk_set_bus_master(disk, true);
}

static void buffer_becomes_rom(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3];

    machine_set_shadow_ram(disk->machine, true);
    disk_make_read(disk, SECTOR, LEN, descs);
    descs[1].addr = MACHINE_SHADOW;
    disk_freeze_backend(disk);
    queue_offer(&disk->queue, descs, 3);
    queue_wait_forwarded(&disk->queue);
    machine_set_shadow_ram(disk->machine, false);
    disk_thaw_backend(disk);
}

static void rings_become_rom(Disk *disk, uint64_t in_flight)
{
    GuestDesc descs[3];

    machine_set_shadow_ram(disk->machine, true);
    disk_prepare(disk);
    disk_place_rings(disk, MACHINE_SHADOW, MACHINE_SHADOW + 0x1000,
                     MACHINE_SHADOW + 0x2000, disk->queue.size);
    qtest_memset(disk->qts, MACHINE_SHADOW, 0, 0x3000);
    disk_driver_ok(disk);
    disk_read_and_verify(disk, SECTOR);
    disk_make_read(disk, SECTOR, LEN, descs);
    if (in_flight) {
        disk_freeze_backend(disk);
        queue_offer(&disk->queue, descs, 3);
        queue_wait_forwarded(&disk->queue);
    }
    machine_set_shadow_ram(disk->machine, false);
    disk_thaw_backend(disk);
    queue_kick(&disk->queue);
    g_usleep(10000);
}

static void offer_endless_chain(Disk *disk)
{
    GuestDesc descs[GUEST_QUEUE_MAX];

    for (int i = 0; i < disk->queue.size; i++) {
        descs[i] = (GuestDesc) { disk_data_addr(disk), 1, WRITE | NEXT };
    }
    queue_offer(&disk->queue, descs, disk->queue.size);
}

static void limit_migration(Disk *disk, int64_t bytes_per_second)
{
    qtest_qmp_assert_success(disk->qts,
        "{ 'execute': 'migrate-set-parameters',"
        "  'arguments': { 'max-bandwidth': %" PRId64 " } }",
        bytes_per_second);
}

static char *migration_status(Disk *disk, int64_t *pages)
{
    QDict *info = qtest_qmp_assert_success_ref(
        disk->qts, "{ 'execute': 'query-migrate' }");
    QDict *ram = qdict_get_qdict(info, "ram");
    char *status = g_strdup(qdict_get_str(info, "status"));

    *pages = ram ? qdict_get_int(ram, "duplicate") +
                   qdict_get_int(ram, "normal") : 0;
    qobject_unref(info);
    return status;
}

/* Wait until so many pages were sent, or to the end. */
static void wait_for_migration(Disk *disk, int64_t until)
{
    int64_t pages = 0;
    bool completed = false;

    while (!completed && pages < until) {
        g_autofree char *status = migration_status(disk, &pages);

        g_assert_cmpstr(status, !=, "failed");
        completed = g_str_equal(status, "completed");
        g_usleep(1000);
    }
}

/*
 * Migration has sent the zeros that were in a page; then the device writes
 * there.  So the page has to be sent again.  Nothing but the device writes.
 */
static void written_while_migrated(Disk *disk, uint64_t arg)
{
    /* Both halves of memory have been begun, and the page is in one. */
    const int64_t enough_pages = MACHINE_RAM_END / 4096 * 6 / 10;
    g_autofree char *path = g_strdup_printf("%s/stream", disk->machine->dir);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    g_autofree uint8_t *marker = g_malloc(LEN);
    g_autofree char *stream = NULL;
    GuestDesc descs[3];
    size_t len;

    for (int i = 0; i < LEN; i++) {
        marker[i] = g_test_rand_int();
    }
    disk_make_write(disk, SCRATCH_SECTOR, LEN, descs);
    qtest_memwrite(disk->qts, descs[1].addr, marker, LEN);
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, 1);
    disk_make_read(disk, SCRATCH_SECTOR, LEN, descs);
    /* Zeros are sent fast, also where other tests have left data. */
    qtest_memset(disk->qts, descs[1].addr, 0, 16 * MiB);

    limit_migration(disk, 200000);
    qtest_qmp_assert_success(disk->qts,
        "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }", uri);
    wait_for_migration(disk, enough_pages);
    limit_migration(disk, 1000);
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, LEN + 1);
    limit_migration(disk, 1 * GiB);
    wait_for_migration(disk, INT64_MAX);

    g_assert_true(g_file_get_contents(path, &stream, &len, NULL));
    unlink(path);
    g_assert_nonnull(memmem(stream, len, marker, LEN));
    qtest_qmp_assert_success(disk->qts, "{ 'execute': 'cont' }");
}

static void broken_while_reset(Disk *disk, uint64_t arg)
{
    for (int i = 0; i < 50; i++) {
        disk_start(disk);
        offer_endless_chain(disk);
        g_usleep(i * 10);
        disk_reset(disk);
    }
}

static void broken_while_vm_stops(Disk *disk, uint64_t arg)
{
    for (int i = 0; i < 20; i++) {
        disk_start(disk);
        offer_endless_chain(disk);
        g_usleep(i * 10);
        qtest_qmp_assert_success(disk->qts, "{ 'execute': 'stop' }");
        qtest_qmp_assert_success(disk->qts, "{ 'execute': 'cont' }");
    }
}

#define TABLE "a descriptor table is not in RAM"
#define READABLE "a device-readable buffer is not in RAM"
#define WRITABLE "a device-writable buffer is not in RAM"
#define RING "a ring is not in RAM"

static const GuestMove moves[] = {
    { "table-in-a-device", table_at, MACHINE_IOAPIC, ON_BOTH, TABLE },
    { "table-nowhere", table_at, MACHINE_NOWHERE, ON_BOTH, TABLE },
    { "table-over-the-end-of-ram", table_at, MACHINE_RAM_END - 24, ON_BOTH,
      TABLE },
    { "table-over-the-end-of-addresses", table_at, -24, ON_BOTH, TABLE },

    { "header-in-a-device", header_at, MACHINE_IOAPIC, ON_BOTH, READABLE },
    { "header-nowhere", header_at, MACHINE_NOWHERE, ON_BOTH, READABLE },
    { "header-over-the-end-of-ram", header_at, MACHINE_RAM_END - 8, ON_BOTH,
      READABLE },
    { "header-at-the-own-doorbell", header_at_own_doorbell, 0, ON_BOTH,
      READABLE },
    { "data-in-a-device", data_at, MACHINE_IOAPIC, ON_BOTH, WRITABLE },
    { "data-nowhere", data_at, MACHINE_NOWHERE, ON_BOTH, WRITABLE },
    { "data-in-firmware", data_at, MACHINE_FIRMWARE, ON_BOTH, WRITABLE },
    { "data-over-the-end-of-ram", data_at, MACHINE_RAM_END - 512, ON_BOTH,
      WRITABLE },
    { "data-over-the-end-of-addresses", data_at, -512, ON_BOTH, WRITABLE },
    { "data-at-the-own-doorbell", data_at_own_doorbell, 0, ON_BOTH, WRITABLE },
    { "status-in-a-device", status_at, MACHINE_IOAPIC, ON_BOTH, WRITABLE },

    { "descriptors-in-a-device", desc_ring_at, MACHINE_IOAPIC, ON_BOTH, RING },
    { "descriptors-nowhere", desc_ring_at, MACHINE_NOWHERE, ON_BOTH, RING },
    { "descriptors-over-the-end-of-ram", desc_ring_at, MACHINE_RAM_END - 16,
      ON_BOTH, " map desc" },
    { "descriptors-in-firmware", desc_ring_at, MACHINE_FIRMWARE, ON_PACKED,
      RING },
    { "avail-ring-in-a-device", avail_ring_at, MACHINE_IOAPIC, ON_BOTH, RING },
    { "avail-ring-nowhere", avail_ring_at, MACHINE_NOWHERE, ON_BOTH, RING },
    { "used-ring-in-a-device", used_ring_at, MACHINE_IOAPIC, ON_BOTH, RING },
    { "used-ring-nowhere", used_ring_at, MACHINE_NOWHERE, ON_BOTH, RING },
    { "used-ring-in-firmware", used_ring_at, MACHINE_FIRMWARE, ON_BOTH, RING },
    { "queue-shrinks", queue_size_becomes, 2, ON_BOTH, WORKS },
    { "queue-becomes-one-entry", queue_size_becomes, 1, ON_BOTH, WORKS },
    { "queue-grows", queue_size_becomes, GUEST_QUEUE_MAX, ON_BOTH, WORKS },
    { "queue-grows-over-its-maximum", queue_size_becomes, 1024, ON_BOTH,
      WORKS },
    { "queue-size-becomes-zero", queue_size_becomes, 0, ON_BOTH, WORKS },
    { "queue-size-flutters", queue_size_flutters, 50, ON_BOTH, WORKS },
    { "rings-move", rings_move_to, 0x5000000, ON_BOTH, WORKS },
    { "rings-move-into-a-device", rings_move_to, MACHINE_IOAPIC, ON_BOTH,
      WORKS },
    { "rings-move-nowhere", rings_move_to, MACHINE_NOWHERE, ON_BOTH, WORKS },
    { "queue-is-reset", queue_is_reset, 0, ON_BOTH, WORKS },
    { "format-changes", format_changes, 0, ON_BOTH, WORKS },

    { "driver-ok-flutters", driver_ok_flutters, 20, ON_BOTH, WORKS },
    { "driver-ok-ends-while-a-request-waits",
      driver_ok_ends_while_a_request_waits, 0, ON_BOTH, WORKS },
    { "bus-mastering-ends", bus_mastering_ends, 0 },
    { "bus-mastering-ends-under-load", bus_mastering_ends, 1 },
    { "buffer-becomes-rom", buffer_becomes_rom, 0, ON_BOTH, WRITABLE },
    { "rings-become-rom", rings_become_rom, 0 },
    { "rings-become-rom-under-load", rings_become_rom, 1 },
    { "written-while-migrated", written_while_migrated, 0, ON_BOTH, WORKS },
    { "broken-while-reset", broken_while_reset },
    { "broken-while-vm-stops", broken_while_vm_stops },
};

int main(int argc, char **argv)
{
    return guest_moves_run(&argc, &argv, "guest", moves, G_N_ELEMENTS(moves));
}
