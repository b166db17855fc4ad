/*
 * A disk behind an IOMMU: what the driver maps, unmaps and maps elsewhere, and
 * page tables that lead nowhere good.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-move.h"

#define PAGE 4096
#define READ_WRITE (MACHINE_MAP_READ | MACHINE_MAP_WRITE)
/* Nobody's memory. */
#define ELSEWHERE 0x6000000
#define LONG_PAGES 16

#define RING "a ring is not in RAM, or the IOMMU does not allow the access"
#define BUFFER "a buffer is not in RAM, or the IOMMU does not allow the access"
#define TABLE "a descriptor table is not in RAM"

static void begin_at(Disk *disk, uint64_t used)
{
    disk_reset(disk);
    machine_set_iommu(disk->machine, true);
    machine_invalidate(disk->machine);
    disk_prepare(disk);
    disk->queue.iova = MACHINE_IOVA;
    disk_place_rings(disk, disk->queue.desc, disk->queue.avail, used,
                     disk->queue.size);
    disk_driver_ok(disk);
}

static void begin(Disk *disk)
{
    begin_at(disk, disk->queue.used);
}

/* What the test has mapped is mapped as it was. */
static void end(Disk *disk)
{
    for (unsigned i = 0; i < LONG_PAGES; i++) {
        uint64_t page = disk_data_addr(disk) + i * PAGE;

        machine_map(disk->machine, page, page, READ_WRITE);
    }
    machine_invalidate(disk->machine);
    machine_set_iommu(disk->machine, false);
    disk->queue.iova = 0;
}

static void end_broken(Disk *disk)
{
    disk_wait_needs_reset(disk);
    end(disk);
}

static void end_working(Disk *disk)
{
    disk_read_and_verify(disk, 3);
    disk_reset(disk);
    end(disk);
}

static void read_on(Disk *disk)
{
    for (int i = 0; i < 2 * disk->queue.size; i++) {
        disk_read_and_verify(disk, i);
    }
}

static void passes_through(Disk *disk, uint64_t arg)
{
    read_on(disk);
}

/* The rings are where nothing is mapped then. */
static void is_turned_on(Disk *disk, uint64_t arg)
{
    machine_set_iommu(disk->machine, true);
    queue_kick(&disk->queue);
    end_broken(disk);
}

static void starts(Disk *disk, uint64_t arg)
{
    begin(disk);
    read_on(disk);
    end_working(disk);
}

static void is_turned_on_and_off(Disk *disk, uint64_t times)
{
    for (unsigned i = 0; i < times; i++) {
        begin(disk);
        disk_read_and_verify(disk, i);
        disk_reset(disk);
        end(disk);
        disk_start(disk);
        disk_read_and_verify(disk, i);
    }
}

static void table(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3], table;

    begin(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    queue_offer(&disk->queue, &table, 1);
    queue_wait_used(&disk->queue);
    disk_assert_read(disk, SECTOR, LEN);
    end_working(disk);
}

/* Each page of one buffer is somewhere else, the last one first. */
static void scattered_buffer(Disk *disk, uint64_t arg)
{
    const uint64_t data = disk_data_addr(disk);
    const uint32_t len = LONG_PAGES * PAGE;
    g_autofree uint8_t *bytes = g_malloc(len);
    GuestDesc descs[3];

    for (unsigned i = 0; i < LONG_PAGES; i++) {
        machine_map(disk->machine, data + i * PAGE,
                    ELSEWHERE + (LONG_PAGES - 1 - i) * PAGE, READ_WRITE);
    }
    begin(disk);
    disk_make_read(disk, SECTOR, len, descs);
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, len + 1);
    qtest_memread(disk->qts, ELSEWHERE, bytes, len);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t page = LONG_PAGES - 1 - i / PAGE;

        g_assert_cmphex(bytes[i], ==, machine_image_byte(
            SECTOR * DISK_SECTOR + page * PAGE + i % PAGE));
    }
    disk_reset(disk);
    end(disk);
}

/* What was mapped before is never written again. */
static void mapped_elsewhere(Disk *disk, uint64_t times)
{
    const uint64_t data = disk_data_addr(disk);
    g_autofree uint8_t *bytes = g_malloc(PAGE);

    begin(disk);
    for (unsigned i = 0; i < times; i++) {
        uint64_t page = ELSEWHERE + i * PAGE;

        disk_read_and_verify(disk, i);
        qtest_memset(disk->qts, data, 0x55, PAGE);
        machine_map(disk->machine, data, page, READ_WRITE);
        machine_invalidate(disk->machine);
        for (unsigned k = 0; k < 3; k++) {
            GuestDesc descs[3];

            disk_make_read(disk, i + k, PAGE, descs);
            qtest_memset(disk->qts, data, 0x55, PAGE);
            queue_offer(&disk->queue, descs, 3);
            g_assert_cmpuint(queue_wait_used(&disk->queue), ==, PAGE + 1);
            qtest_memread(disk->qts, page, bytes, PAGE);
            for (unsigned n = 0; n < PAGE; n++) {
                g_assert_cmphex(bytes[n], ==, machine_image_byte(
                    (i + k) * DISK_SECTOR + n));
            }
            qtest_memread(disk->qts, data, bytes, PAGE);
            g_assert_true(bytes[0] == 0x55 && !memcmp(bytes, bytes + 1,
                                                      PAGE - 1));
        }
        machine_map(disk->machine, data, data, READ_WRITE);
        machine_invalidate(disk->machine);
    }
    end_working(disk);
}

/*
 * Each half of a used element that crosses a page goes where its page is.  The
 * driver of the test looks at the page behind, where nothing may be written.
 */
static void used_element_crosses_a_page(Disk *disk, uint64_t arg)
{
    const uint64_t behind = disk_table_addr(disk) + PAGE;
    const unsigned crossing = 3;
    const uint64_t used = behind - 4 - 8 * crossing - 4;
    const uint32_t marked = 0x55555555;
    GuestDesc descs[3];

    machine_map(disk->machine, behind, ELSEWHERE, READ_WRITE);
    begin_at(disk, used);
    qtest_writel(disk->qts, behind, marked);
    qtest_writel(disk->qts, ELSEWHERE, 0);
    for (unsigned i = 0; i <= crossing; i++) {
        disk_make_read(disk, i, LEN, descs);
        queue_offer(&disk->queue, descs, 3);
        g_assert_cmphex(queue_wait_used(&disk->queue), ==,
                        i == crossing ? marked : LEN + 1);
    }
    g_assert_cmpuint(qtest_readl(disk->qts, ELSEWHERE), ==, LEN + 1);
    disk_reset(disk);
    machine_map(disk->machine, behind, behind, READ_WRITE);
    end(disk);
}

/* All of it again and again, while the disk is read. */
static void invalidated_all_the_time(Disk *disk, uint64_t times)
{
    begin(disk);
    for (unsigned i = 0; i < times; i++) {
        GuestDesc descs[3];

        disk_make_read(disk, i, LEN, descs);
        queue_offer(&disk->queue, descs, 3);
        for (unsigned k = 0; k < i % 8; k++) {
            machine_invalidate(disk->machine);
        }
        queue_wait_used(&disk->queue);
        disk_assert_read(disk, i, LEN);
    }
    end_working(disk);
}

static void data_is(Disk *disk, uint64_t to, unsigned flags)
{
    GuestDesc descs[3];

    begin(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    machine_map(disk->machine, disk_data_addr(disk), to, flags);
    machine_invalidate(disk->machine);
    queue_offer(&disk->queue, descs, 3);
    end_broken(disk);
}

static void data_not_mapped(Disk *disk, uint64_t arg)
{
    data_is(disk, 0, 0);
}

static void data_for_reading_only(Disk *disk, uint64_t arg)
{
    data_is(disk, disk_data_addr(disk), MACHINE_MAP_READ);
}

static void data_leads_to(Disk *disk, uint64_t addr)
{
    data_is(disk, addr, READ_WRITE);
}

/* Page tables are read wherever the guest says that they are. */
static void page_table_at(Disk *disk, uint64_t addr)
{
    uint64_t far = 64 * MiB;
    GuestDesc descs[3];

    begin(disk);
    machine_map_table(disk->machine, far, addr);
    machine_invalidate(disk->machine);
    disk_make_read(disk, SECTOR, LEN, descs);
    descs[1].addr = far;
    queue_offer(&disk->queue, descs, 3);
    disk_wait_needs_reset(disk);
    machine_map_table(disk->machine, far, 0);
    end(disk);
}

static void ring_is(Disk *disk, uint64_t ring, uint64_t to, unsigned flags)
{
    uint64_t page = ring & ~(uint64_t)(PAGE - 1);

    begin(disk);
    disk_read_and_verify(disk, 1);
    machine_map(disk->machine, page, to, flags);
    machine_invalidate(disk->machine);
    queue_kick(&disk->queue);
    disk_wait_needs_reset(disk);
    machine_map(disk->machine, page, page, READ_WRITE);
    end(disk);
}

static void ring_unmapped(Disk *disk, uint64_t arg)
{
    ring_is(disk, disk->queue.avail, 0, 0);
}

static void ring_for_reading_only(Disk *disk, uint64_t arg)
{
    ring_is(disk, disk->queue.used, disk->queue.used & ~(uint64_t)(PAGE - 1),
            MACHINE_MAP_READ);
}

static void ring_leads_to(Disk *disk, uint64_t addr)
{
    ring_is(disk, disk->queue.used, addr, READ_WRITE);
}

static void table_unmapped(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3], table;
    uint64_t addr = disk_table_addr(disk);
    uint64_t page = addr & ~(uint64_t)(PAGE - 1);

    begin(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, addr, descs, 3);
    machine_map(disk->machine, page, 0, 0);
    machine_invalidate(disk->machine);
    queue_offer(&disk->queue, &table, 1);
    disk_wait_needs_reset(disk);
    machine_map(disk->machine, page, page, READ_WRITE);
    end(disk);
}

/* Requests that are out come back to where they were when they went out. */
static void unmapped_while_out(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3];

    begin(disk);
    disk_freeze_backend(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    queue_offer(&disk->queue, descs, 3);
    g_usleep(20000);
    machine_map(disk->machine, disk_data_addr(disk), 0, 0);
    machine_invalidate(disk->machine);
    disk_thaw_backend(disk);
    queue_wait_used(&disk->queue);
    disk_assert_read(disk, SECTOR, LEN);
    disk_reset(disk);
    end(disk);
}

static void vm_stops_and_goes_on(Disk *disk, uint64_t times)
{
    begin(disk);
    for (unsigned i = 0; i < times; i++) {
        disk_read_and_verify(disk, i);
        qtest_qmp_assert_success(disk->qts, "{ 'execute': 'stop' }");
        machine_invalidate(disk->machine);
        qtest_qmp_assert_success(disk->qts, "{ 'execute': 'cont' }");
    }
    end_working(disk);
}

static const GuestMove moves[] = {
    { "passes-through", passes_through, 0, ON_BOTH, WORKS, true },
    { "is-turned-on", is_turned_on, 0, ON_BOTH, RING, true },
    { "starts", starts, 0, ON_BOTH, WORKS, true },
    { "is-turned-on-and-off", is_turned_on_and_off, 4, ON_BOTH, WORKS, true },
    { "table", table, 0, ON_BOTH, WORKS, true },
    { "scattered-buffer", scattered_buffer, 0, ON_BOTH, WORKS, true },
    { "mapped-elsewhere", mapped_elsewhere, 8, ON_BOTH, WORKS, true },
    { "used-element-crosses-a-page", used_element_crosses_a_page, 0, ON_SPLIT,
      WORKS, true },
    { "invalidated-all-the-time", invalidated_all_the_time, 200, ON_BOTH,
      WORKS, true },
    { "unmapped-while-out", unmapped_while_out, 0, ON_BOTH, WORKS, true },
    { "vm-stops-and-goes-on", vm_stops_and_goes_on, 4, ON_BOTH, WORKS, true },
    { "data-not-mapped", data_not_mapped, 0, ON_BOTH, BUFFER, true },
    { "data-for-reading-only", data_for_reading_only, 0, ON_BOTH, BUFFER,
      true },
    { "data-leads-to-a-device", data_leads_to, MACHINE_IOAPIC, ON_BOTH, BUFFER,
      true },
    { "data-leads-nowhere", data_leads_to, MACHINE_NOWHERE, ON_BOTH, BUFFER,
      true },
    { "page-table-in-a-device", page_table_at, MACHINE_IOAPIC, ON_BOTH, BUFFER,
      true },
    { "page-table-nowhere", page_table_at, MACHINE_NOWHERE, ON_BOTH, BUFFER,
      true },
    { "ring-unmapped", ring_unmapped, 0, ON_BOTH, RING, true },
    { "ring-for-reading-only", ring_for_reading_only, 0, ON_BOTH, RING, true },
    { "ring-leads-to-a-device", ring_leads_to, MACHINE_IOAPIC, ON_BOTH, RING,
      true },
    { "ring-leads-nowhere", ring_leads_to, MACHINE_NOWHERE, ON_BOTH, RING,
      true },
    { "table-unmapped", table_unmapped, 0, ON_BOTH, TABLE, true },
};

int main(int argc, char **argv)
{
    return guest_moves_run(&argc, &argv, "iommu", moves, G_N_ELEMENTS(moves));
}
