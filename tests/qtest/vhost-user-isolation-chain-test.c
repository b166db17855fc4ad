/*
 * Chains that a guest may write, and chains that it may not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "isolation-move.h"

/* Chains that break a rule */

static void whole_ring_goes_on(Disk *disk, uint64_t arg)
{
    GuestDesc descs[GUEST_QUEUE_MAX];

    for (int i = 0; i < disk->queue.size; i++) {
        descs[i] = (GuestDesc) { disk_data_addr(disk), 1, WRITE | NEXT };
    }
    queue_offer(&disk->queue, descs, disk->queue.size);
}

static void head_says_next(Disk *disk, uint64_t next)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    queue_write_chain(&disk->queue, descs, 3);
    descs[0].flags |= NEXT;
    queue_put_desc(&disk->queue,
                   disk->queue.desc + disk->queue.head_slot * 16, descs[0],
                   next);
    queue_publish(&disk->queue);
    queue_kick(&disk->queue);
}

static void head_is_its_own_next(Disk *disk, uint64_t arg)
{
    head_says_next(disk, disk->queue.next_slot);
}

static void head_is(Disk *disk, uint64_t head)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    queue_write_chain(&disk->queue, descs, 3);
    disk->queue.head_slot = head;
    queue_publish(&disk->queue);
    queue_kick(&disk->queue);
}

static void avail_index_advances(Disk *disk, uint64_t by)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    queue_write_chain(&disk->queue, descs, 3);
    disk->queue.next_avail += by - 1;
    queue_publish(&disk->queue);
    queue_kick(&disk->queue);
}

static void readable_follows_writable(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[2].flags = 0;
    queue_offer(&disk->queue, descs, 3);
}

static void writable_head_is_followed_by_readable(Disk *disk, uint64_t arg)
{
    GuestDesc descs[2] = {
        { disk_data_addr(disk), LEN, WRITE },
        { disk_header_addr(disk), 16, 0 },
    };

    queue_offer(&disk->queue, descs, 2);
}

static void buffer_is_empty(Disk *disk, uint64_t which)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[which].len = 0;
    queue_offer(&disk->queue, descs, 3);
}

static void more_in_flight_than_ring(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3], table;

    disk_freeze_backend(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    for (int i = 0; i < disk->queue.size; i++) {
        queue_offer(&disk->queue, &table, 1);
    }
    queue_wait_forwarded(&disk->queue);
    queue_offer(&disk->queue, &table, 1);
    disk_wait_needs_reset(disk);
    disk_thaw_backend(disk);
}

/* The whole ring is not in flight yet, but what is left is too short. */
static void chain_runs_over_others(Disk *disk, uint64_t num)
{
    GuestDesc descs[3], table;

    disk_freeze_backend(disk);
    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    for (int i = 0; i < disk->queue.size - num + 1; i++) {
        queue_offer(&disk->queue, &table, 1);
    }
    queue_wait_forwarded(&disk->queue);
    queue_offer(&disk->queue, descs, num);
    disk_wait_needs_reset(disk);
    disk_thaw_backend(disk);
}

/* Indirect tables that break a rule */

static void table_has_size(Disk *disk, uint64_t size)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    table.len = size;
    queue_offer(&disk->queue, &table, 1);
}

static void table_entry_says_next(Disk *disk, uint64_t next)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    descs[1].flags |= NEXT;
    queue_put_desc(&disk->queue, disk_table_addr(disk) + 16, descs[1], next);
    queue_offer(&disk->queue, &table, 1);
}

static void table_entry_is_table(Disk *disk, uint64_t which)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[which] = queue_put_table(&disk->queue,
                                   disk_table_addr(disk) + 0x1000, descs, 3);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    queue_offer(&disk->queue, &table, 1);
}

static void table_has_successor(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3], chain[2];

    disk_make_read(disk, SECTOR, LEN, descs);
    chain[0] = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 2);
    chain[1] = descs[2];
    queue_offer(&disk->queue, chain, 2);
}

static void table_of(Disk *disk, uint64_t num)
{
    g_autofree GuestDesc *descs = g_new(GuestDesc, num);
    GuestDesc table;

    for (int i = 0; i < num; i++) {
        descs[i] = (GuestDesc) { disk_data_addr(disk), 1, WRITE };
    }
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, num);
    queue_offer(&disk->queue, &table, 1);
}

/* Chains that keep the rules */

static void finish_read(Disk *disk)
{
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, LEN + 1);
    disk_assert_read(disk, SECTOR, LEN);
}

static void read_in_table_at(Disk *disk, uint64_t addr)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    table = queue_put_table(&disk->queue, addr, descs, 3);
    queue_offer(&disk->queue, &table, 1);
    finish_read(disk);
}

static void read_in_ring_of(Disk *disk, uint64_t size)
{
    uint64_t rings = 0x5000000;

    disk_prepare(disk);
    qtest_memset(disk->qts, rings, 0, 0x30000);
    disk_place_rings(disk, rings, rings + 0x10000, rings + 0x20000, size);
    disk_driver_ok(disk);
    for (int i = 0; i < 2 * size + 3; i++) {
        read_in_table_at(disk, disk_table_addr(disk));
    }
}

static void read_in_table(Disk *disk, uint64_t offset)
{
    read_in_table_at(disk, disk_table_addr(disk) + offset);
}

/* Too large a table is no lie as long as the chain ends. */
static void read_in_table_of_claimed_size(Disk *disk, uint64_t size)
{
    table_has_size(disk, size);
    finish_read(disk);
}

static void read_in_table_with_next_flags(Disk *disk, uint64_t arg)
{
    GuestDesc descs[3], table;

    disk_make_read(disk, SECTOR, LEN, descs);
    for (int i = 0; i < 3; i++) {
        descs[i].flags |= NEXT | 1 << VRING_PACKED_DESC_F_USED;
    }
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, 3);
    queue_offer(&disk->queue, &table, 1);
    finish_read(disk);
}

static void direct_then_table(Disk *disk, uint64_t direct)
{
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[direct] = queue_put_table(&disk->queue, disk_table_addr(disk),
                                    &descs[direct], 3 - direct);
    queue_offer(&disk->queue, descs, direct + 1);
}

static void read_direct_then_table(Disk *disk, uint64_t direct)
{
    direct_then_table(disk, direct);
    finish_read(disk);
}

/* Header, status, and @num - 2 parts of @part bytes between them. */
static void make_read_in_parts(Disk *disk, GuestDesc *descs, unsigned num,
                               uint32_t part)
{
    GuestDesc whole[3];

    disk_make_read(disk, SECTOR, (num - 2) * part, whole);
    descs[0] = whole[0];
    for (int i = 1; i < num - 1; i++) {
        descs[i] = whole[1];
        descs[i].addr += (i - 1) * part;
        descs[i].len = part;
    }
    descs[num - 1] = whole[2];
}

static void read_with_whole_ring(Disk *disk, uint64_t times)
{
    uint32_t len = (disk->queue.size - 2) * DISK_SECTOR;
    GuestDesc descs[GUEST_QUEUE_MAX];

    for (int i = 0; i < times; i++) {
        make_read_in_parts(disk, descs, disk->queue.size, DISK_SECTOR);
        queue_offer(&disk->queue, descs, disk->queue.size);
        g_assert_cmpuint(queue_wait_used(&disk->queue), ==, len + 1);
        disk_assert_read(disk, SECTOR, len);
    }
}

static void read_in_large_table(Disk *disk, uint64_t num)
{
    g_autofree GuestDesc *descs = g_new(GuestDesc, num);
    uint32_t len = (num - 2) * 64;
    GuestDesc table;

    make_read_in_parts(disk, descs, num, 64);
    table = queue_put_table(&disk->queue, disk_table_addr(disk), descs, num);
    queue_offer(&disk->queue, &table, 1);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, len + 1);
    disk_assert_read(disk, SECTOR, len);
}

static void read_into(Disk *disk, uint64_t addr)
{
    g_autofree uint8_t *data = g_malloc(LEN);
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    descs[1].addr = addr;
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, LEN + 1);
    qtest_memread(disk->qts, addr, data, LEN);
    qtest_memwrite(disk->qts, disk_data_addr(disk), data, LEN);
    disk_assert_read(disk, SECTOR, LEN);
}

static void read_with_header_at(Disk *disk, uint64_t addr)
{
    uint8_t header[16];
    GuestDesc descs[3];

    disk_make_read(disk, SECTOR, LEN, descs);
    qtest_memread(disk->qts, descs[0].addr, header, sizeof(header));
    qtest_memwrite(disk->qts, addr, header, sizeof(header));
    descs[0].addr = addr;
    queue_offer(&disk->queue, descs, 3);
    finish_read(disk);
}

static void write_from(Disk *disk, uint64_t addr)
{
    g_autofree uint8_t *sent = g_malloc(LEN);
    g_autofree uint8_t *got = g_malloc(LEN);
    GuestDesc descs[3];

    for (int i = 0; i < LEN; i++) {
        sent[i] = i * 3 + i / 256;
    }
    disk_make_write(disk, SCRATCH_SECTOR, LEN, descs);
    qtest_memwrite(disk->qts, addr, sent, LEN);
    descs[1].addr = addr;
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, 1);

    disk_make_read(disk, SCRATCH_SECTOR, LEN, descs);
    queue_offer(&disk->queue, descs, 3);
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, LEN + 1);
    qtest_memread(disk->qts, disk_data_addr(disk), got, LEN);
    g_assert_cmpmem(got, LEN, sent, LEN);
}

static void read_often(Disk *disk, uint64_t times)
{
    for (int i = 0; i < times; i++) {
        disk_read_and_verify(disk, i);
        queue_wait_forwarded(&disk->queue);
    }
}

#define LOOPS "a descriptor chain loops"
#define NEXT_OUTSIDE "the next descriptor is outside its table"
#define HEAD_OUTSIDE "an available chain begins outside the ring"
#define RAN_AHEAD "the available index ran ahead of the ring"
#define BAD_ORDER "a device-readable buffer follows a device-writable one"
#define EMPTY "a buffer has no bytes"
#define TABLE_SIZE "an indirect table has a bad size"
#define NESTED "an indirect table has an indirect descriptor"
#define NOT_ALONE "an indirect descriptor is not alone"
#define TOO_MANY "a chain has too many buffers"

static const GuestMove moves[] = {
    { "whole-ring-and-once-more", whole_ring_goes_on, 0, ON_SPLIT, LOOPS },
    { "longer-than-the-ring", whole_ring_goes_on, 0, ON_PACKED,
      "a descriptor chain is longer than the ring" },
    { "head-is-its-own-next", head_is_its_own_next, 0, ON_SPLIT, LOOPS },
    { "next-is-the-table-size", head_says_next, 8, ON_SPLIT, NEXT_OUTSIDE },
    { "next-is-far-outside", head_says_next, 0xffff, ON_SPLIT, NEXT_OUTSIDE },
    { "head-is-the-table-size", head_is, 8, ON_SPLIT, HEAD_OUTSIDE },
    { "head-is-far-outside", head_is, 0xffff, ON_SPLIT, HEAD_OUTSIDE },
    { "avail-index-one-too-far", avail_index_advances, 9, ON_SPLIT, RAN_AHEAD },
    { "avail-index-goes-back", avail_index_advances, -1, ON_SPLIT, RAN_AHEAD },
    { "readable-follows-writable", readable_follows_writable, 0, ON_BOTH,
      BAD_ORDER },
    { "writable-head", writable_head_is_followed_by_readable, 0, ON_BOTH,
      BAD_ORDER },
    { "readable-buffer-is-empty", buffer_is_empty, 0, ON_BOTH, EMPTY },
    { "writable-buffer-is-empty", buffer_is_empty, 1, ON_BOTH, EMPTY },
    { "more-in-flight-than-the-ring-holds", more_in_flight_than_ring, 0,
      ON_BOTH, "more is in flight than the ring holds" },
    { "chain-runs-over-others-in-flight", chain_runs_over_others, 3, ON_PACKED,
      "more is in flight than the ring holds" },

    { "table-is-empty", table_has_size, 0, ON_BOTH, TABLE_SIZE },
    { "table-is-shorter-than-an-entry", table_has_size, 15, ON_BOTH,
      TABLE_SIZE },
    { "table-ends-within-an-entry", table_has_size, 49, ON_BOTH, TABLE_SIZE },
    { "table-entry-is-its-own-next", table_entry_says_next, 1, ON_SPLIT,
      LOOPS },
    { "table-next-is-the-table-size", table_entry_says_next, 3, ON_SPLIT,
      NEXT_OUTSIDE },
    { "table-next-is-far-outside", table_entry_says_next, 0xffff, ON_SPLIT,
      NEXT_OUTSIDE },
    { "table-begins-with-a-table", table_entry_is_table, 0, ON_BOTH, NESTED },
    { "table-ends-with-a-table", table_entry_is_table, 2, ON_BOTH, NESTED },
    { "table-has-a-successor", table_has_successor, 0, ON_SPLIT,
      "an indirect descriptor has a next one" },
    { "table-has-a-successor", table_has_successor, 0, ON_PACKED, NOT_ALONE },
    { "direct-then-table", direct_then_table, 1, ON_PACKED, NOT_ALONE },
    { "table-has-too-many-buffers", table_of, 1025, ON_BOTH, TOO_MANY },

    { "direct", read_often, 1, ON_BOTH, WORKS },
    { "often-and-armed-each-time", read_often, 100, ON_BOTH, WORKS },
    { "whole-ring", read_with_whole_ring, 20, ON_BOTH, WORKS },
    { "table", read_in_table, 0, ON_BOTH, WORKS },
    { "table-at-an-odd-address", read_in_table, 3, ON_BOTH, WORKS },
    { "table-claims-4-gib", read_in_table_of_claimed_size, 0xfffffff0,
      ON_SPLIT, WORKS },
    { "table-across-ram-blocks", read_in_table_at, MACHINE_RAM_SEAM - 16,
      ON_BOTH, WORKS },
    { "entry-across-ram-blocks", read_in_table_at, MACHINE_RAM_SEAM - 24,
      ON_BOTH, WORKS },
    { "table-at-the-end-of-ram", read_in_table_at, MACHINE_RAM_END - 48,
      ON_BOTH, WORKS },
    { "table-of-hundreds", read_in_large_table, 514, ON_BOTH, WORKS },
    { "table-flags-mean-nothing", read_in_table_with_next_flags, 0, ON_PACKED,
      WORKS },
    { "ring-of-one-entry", read_in_ring_of, 1, ON_BOTH, WORKS },
    { "ring-of-three-entries", read_in_ring_of, 3, ON_PACKED, WORKS },
    { "ring-of-sixteen-entries", read_in_ring_of, GUEST_QUEUE_MAX, ON_BOTH,
      WORKS },
    { "one-direct-then-table", read_direct_then_table, 1, ON_SPLIT, WORKS },
    { "two-direct-then-table", read_direct_then_table, 2, ON_SPLIT, WORKS },
    { "buffer-across-ram-blocks", read_into, MACHINE_RAM_SEAM - 1000, ON_BOTH,
      WORKS },
    { "header-across-ram-blocks", read_with_header_at, MACHINE_RAM_SEAM - 8,
      ON_BOTH, WORKS },
    { "write-from-across-ram-blocks", write_from, MACHINE_RAM_SEAM - 1000,
      ON_BOTH, WORKS },
    { "buffer-at-the-end-of-ram", read_into, MACHINE_RAM_END - LEN, ON_BOTH,
      WORKS },
};

int main(int argc, char **argv)
{
    return guest_moves_run(&argc, &argv, "chain", moves, G_N_ELEMENTS(moves));
}
