/*
 * A driver for vhost-user disks that can break every rule.
 *
 * It keeps to the specification unless a test writes something else: what it
 * does is split into steps (write the chain, show it, kick), and each register
 * and descriptor can be written raw in between.  It polls memory and uses no
 * interrupt.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "isolation-disk.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* Offsets in a disk's memory. */
enum {
    RAM_DESC = 0x0000,
    RAM_AVAIL = 0x1000,
    RAM_USED = 0x2000,
    RAM_HEADER = 0x3000,
    RAM_STATUS = 0x3100,
    RAM_DATA = 0x10000,
    RAM_TABLE = 0x30000,
};

/* Registers */

#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)

static uint16_t common_readw(Disk *disk, size_t offset)
{
    return qpci_io_readw(disk->pci.pdev, disk->pci.bar,
                         disk->pci.common_cfg_offset + offset);
}

static void common_writew(Disk *disk, size_t offset, uint16_t value)
{
    qpci_io_writew(disk->pci.pdev, disk->pci.bar,
                   disk->pci.common_cfg_offset + offset, value);
}

/* Two halves, lower first. */
static void common_writeq(Disk *disk, size_t offset, uint64_t value)
{
    uint64_t addr = disk->pci.common_cfg_offset + offset;

    qpci_io_writel(disk->pci.pdev, disk->pci.bar, addr, value);
    qpci_io_writel(disk->pci.pdev, disk->pci.bar, addr + 4, value >> 32);
}

uint8_t disk_status(Disk *disk)
{
    return disk->pci.vdev.bus->get_status(&disk->pci.vdev);
}

void disk_set_status(Disk *disk, uint8_t status)
{
    disk->pci.vdev.bus->set_status(&disk->pci.vdev, status);
}

void disk_set_queue_size(Disk *disk, uint16_t size)
{
    common_writew(disk, COMMON(queue_size), size);
}

void disk_set_queue_addresses(Disk *disk, uint64_t desc, uint64_t avail,
                              uint64_t used)
{
    common_writeq(disk, COMMON(queue_desc_lo), desc + disk->iova);
    common_writeq(disk, COMMON(queue_avail_lo), avail + disk->iova);
    common_writeq(disk, COMMON(queue_used_lo), used + disk->iova);
}

void disk_enable_queue(Disk *disk)
{
    common_writew(disk, COMMON(queue_enable), 1);
}

void disk_reset_queue(Disk *disk)
{
    common_writew(disk, VIRTIO_PCI_COMMON_Q_RESET, 1);
}

void disk_set_bus_master(Disk *disk, bool on)
{
    uint16_t command = qpci_config_readw(disk->pci.pdev, PCI_COMMAND);

    command = on ? command | PCI_COMMAND_MASTER : command & ~PCI_COMMAND_MASTER;
    qpci_config_writew(disk->pci.pdev, PCI_COMMAND, command);
}

uint64_t disk_notify_addr(Disk *disk)
{
    return disk->pci.bar.addr + disk->pci.notify_cfg_offset +
           disk->notify_offset * disk->pci.notify_off_multiplier;
}

void disk_reset(Disk *disk)
{
    disk_set_status(disk, 0);
    g_assert_cmphex(disk_status(disk), ==, 0);
}

void disk_prepare(Disk *disk)
{
    uint64_t wanted = 1ULL << VIRTIO_F_VERSION_1 |
                      1ULL << VIRTIO_RING_F_EVENT_IDX |
                      1ULL << VIRTIO_RING_F_INDIRECT_DESC;
    uint64_t offered;
    uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    if (disk->packed) {
        wanted |= 1ULL << VIRTIO_F_RING_PACKED;
    }
    if (disk->iommu) {
        wanted |= 1ULL << VIRTIO_F_ACCESS_PLATFORM;
    }
    disk_reset(disk);
    disk_set_status(disk, status);
    offered = disk->pci.vdev.bus->get_features(&disk->pci.vdev);
    g_assert_cmphex(offered & wanted, ==, wanted);
    disk->pci.vdev.bus->set_features(&disk->pci.vdev, wanted);
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    disk_set_status(disk, status);
    g_assert_cmphex(disk_status(disk), ==, status);
    common_writew(disk, COMMON(queue_select), 0);
    disk->notify_offset = common_readw(disk, COMMON(queue_notify_off));
}

void disk_place_rings(Disk *disk, uint64_t desc, uint64_t avail, uint64_t used,
                      uint16_t size)
{
    qtest_memset(disk->qts, disk->ram, 0, RAM_DATA);
    disk->desc = desc;
    disk->avail = avail;
    disk->used = used;
    disk->size = size;
    disk->next_avail = disk->next_slot = disk->next_used = 0;
    disk->avail_wrap = disk->used_wrap = true;
    disk_set_queue_size(disk, size);
    disk_set_queue_addresses(disk, desc, avail, used);
    disk_enable_queue(disk);
}

void disk_driver_ok(Disk *disk)
{
    disk_set_status(disk, disk_status(disk) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void disk_start(Disk *disk)
{
    disk_prepare(disk);
    /* virtio 1.2, 2.8: a packed ring's size need not be a power of two. */
    disk_place_rings(disk, disk->ram + RAM_DESC, disk->ram + RAM_AVAIL,
                     disk->ram + RAM_USED, disk->packed ? 7 : 8);
    disk_driver_ok(disk);
    g_assert_cmphex(disk_status(disk) & VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
}

void disk_wait_needs_reset(Disk *disk)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (!(disk_status(disk) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

/* Memory and rings */

uint64_t disk_header_addr(const Disk *disk)
{
    return disk->ram + RAM_HEADER;
}

uint64_t disk_data_addr(const Disk *disk)
{
    return disk->ram + RAM_DATA;
}

uint64_t disk_status_addr(const Disk *disk)
{
    return disk->ram + RAM_STATUS;
}

uint64_t disk_table_addr(const Disk *disk)
{
    return disk->ram + RAM_TABLE;
}

void disk_put_desc(Disk *disk, uint64_t addr, DiskDesc desc, uint16_t link)
{
    struct QEMU_PACKED {
        uint64_t addr;
        uint32_t len;
        uint16_t word[2];       /* flags and next, or id and flags */
    } raw = {
        .addr = cpu_to_le64(desc.addr + disk->iova),
        .len = cpu_to_le32(desc.len),
    };

    raw.word[disk->packed] = cpu_to_le16(desc.flags);
    raw.word[!disk->packed] = cpu_to_le16(link);
    qtest_memwrite(disk->qts, addr, &raw, sizeof(raw));
}

DiskDesc disk_put_table(Disk *disk, uint64_t addr, const DiskDesc *descs,
                        unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        DiskDesc desc = descs[i];

        if (!disk->packed && i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        disk_put_desc(disk, addr + i * 16, desc, disk->packed ? 0 : i + 1);
    }
    return (DiskDesc) { addr, num * 16, VRING_DESC_F_INDIRECT };
}

static void disk_write_split(Disk *disk, const DiskDesc *descs, unsigned num)
{
    disk->head_slot = disk->next_slot;
    for (unsigned i = 0; i < num; i++) {
        uint16_t slot = disk->next_slot;
        DiskDesc desc = descs[i];

        disk->next_slot = (slot + 1) % disk->size;
        if (i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        disk_put_desc(disk, disk->desc + slot * 16, desc, disk->next_slot);
    }
}

static void disk_write_packed(Disk *disk, const DiskDesc *descs, unsigned num)
{
    uint16_t id = disk->next_avail;

    disk->head_slot = id;
    disk->ndescs[id] = num;
    for (unsigned i = 0; i < num; i++) {
        uint16_t slot = disk->next_avail;
        DiskDesc desc = descs[i];

        if (i + 1 < num) {
            desc.flags |= VRING_DESC_F_NEXT;
        }
        desc.flags |= disk->avail_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
                                       : 1 << VRING_PACKED_DESC_F_USED;
        if (i == 0) {
            /* Not available yet: as it was before. */
            disk->head_flags = desc.flags;
            desc.flags = qtest_readw(disk->qts, disk->desc + slot * 16 + 14);
        }
        disk_put_desc(disk, disk->desc + slot * 16, desc, id);
        disk->next_avail = slot + 1;
        if (disk->next_avail == disk->size) {
            disk->next_avail = 0;
            disk->avail_wrap = !disk->avail_wrap;
        }
    }
}

void disk_write_chain(Disk *disk, const DiskDesc *descs, unsigned num)
{
    g_assert_cmpuint(num, <=, disk->size);
    if (disk->packed) {
        disk_write_packed(disk, descs, num);
    } else {
        disk_write_split(disk, descs, num);
    }
}

void disk_publish(Disk *disk)
{
    if (disk->packed) {
        qtest_writew(disk->qts, disk->desc + disk->head_slot * 16 + 14,
                     disk->head_flags);
        return;
    }
    qtest_writew(disk->qts,
                 disk->avail + 4 + disk->next_avail % disk->size * 2,
                 disk->head_slot);
    qtest_writew(disk->qts, disk->avail + 2, ++disk->next_avail);
}

void disk_kick(Disk *disk)
{
    qtest_writew(disk->qts, disk_notify_addr(disk), 0);
}

void disk_offer(Disk *disk, const DiskDesc *descs, unsigned num)
{
    disk_write_chain(disk, descs, num);
    disk_publish(disk);
    disk_kick(disk);
}

bool disk_used_is_empty(Disk *disk)
{
    uint16_t flags;

    if (!disk->packed) {
        return qtest_readw(disk->qts, disk->used + 2) == disk->next_used;
    }
    flags = qtest_readw(disk->qts, disk->desc + disk->next_used * 16 + 14);
    return !(flags & 1 << VRING_PACKED_DESC_F_AVAIL) == disk->used_wrap ||
           !(flags & 1 << VRING_PACKED_DESC_F_USED) == disk->used_wrap;
}

uint32_t disk_wait_used(Disk *disk)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    uint64_t entry;
    uint16_t id;

    while (disk_used_is_empty(disk)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
    if (!disk->packed) {
        entry = disk->used + 4 + disk->next_used++ % disk->size * 8;
        return qtest_readl(disk->qts, entry + 4);
    }
    entry = disk->desc + disk->next_used * 16;
    id = qtest_readw(disk->qts, entry + 12);
    g_assert_cmpuint(id, <, disk->size);
    disk->next_used += disk->ndescs[id];
    if (disk->next_used >= disk->size) {
        disk->next_used -= disk->size;
        disk->used_wrap = !disk->used_wrap;
    }
    return qtest_readl(disk->qts, entry + 8);
}

/* virtio 1.2, 2.7.8 and 2.8.10 */
static bool disk_event_is_armed(Disk *disk)
{
    uint16_t event, flags;

    if (!disk->packed) {
        event = qtest_readw(disk->qts, disk->used + 4 + disk->size * 8);
        return event == disk->next_avail;
    }
    event = qtest_readw(disk->qts, disk->used);
    flags = qtest_readw(disk->qts, disk->used + 2);
    return flags == VRING_PACKED_EVENT_FLAG_DESC &&
           event == (disk->next_avail | disk->avail_wrap << 15);
}

void disk_wait_forwarded(Disk *disk)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (!disk_event_is_armed(disk)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

static void disk_make_request(Disk *disk, uint32_t type, uint64_t sector,
                              uint32_t len, DiskDesc *descs)
{
    struct virtio_blk_outhdr header = {
        .type = cpu_to_le32(type),
        .sector = cpu_to_le64(sector),
    };

    qtest_memwrite(disk->qts, disk_header_addr(disk), &header, sizeof(header));
    qtest_memset(disk->qts, disk_data_addr(disk), 0xee, len);
    qtest_writeb(disk->qts, disk_status_addr(disk), 0xff);
    descs[0] = (DiskDesc) { disk_header_addr(disk), sizeof(header), 0 };
    descs[1] = (DiskDesc) { disk_data_addr(disk), len,
                            type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0 };
    descs[2] = (DiskDesc) { disk_status_addr(disk), 1, VRING_DESC_F_WRITE };
}

void disk_make_read(Disk *disk, uint64_t sector, uint32_t len, DiskDesc *descs)
{
    disk_make_request(disk, VIRTIO_BLK_T_IN, sector, len, descs);
}

void disk_make_write(Disk *disk, uint64_t sector, uint32_t len, DiskDesc *descs)
{
    disk_make_request(disk, VIRTIO_BLK_T_OUT, sector, len, descs);
}

void disk_assert_read(Disk *disk, uint64_t sector, uint32_t len)
{
    g_autofree uint8_t *data = g_malloc(len);

    g_assert_cmphex(qtest_readb(disk->qts, disk_status_addr(disk)), ==,
                    VIRTIO_BLK_S_OK);
    qtest_memread(disk->qts, disk_data_addr(disk), data, len);
    for (uint32_t i = 0; i < len; i++) {
        g_assert_cmphex(data[i], ==,
                        machine_image_byte(sector * DISK_SECTOR + i));
    }
}

void disk_read_and_verify(Disk *disk, uint64_t sector)
{
    DiskDesc descs[3];

    disk_make_read(disk, sector, 4096, descs);
    disk_offer(disk, descs, G_N_ELEMENTS(descs));
    g_assert_cmpuint(disk_wait_used(disk), ==, 4097);
    disk_assert_read(disk, sector, 4096);
}
