/*
 * A driver for vhost-user disks that can break every rule.
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
    guest_common_writew(&disk->pci, COMMON(queue_size), size);
}

void disk_set_queue_addresses(Disk *disk, uint64_t desc, uint64_t avail,
                              uint64_t used)
{
    QVirtioPCIDevice *pci = &disk->pci;
    uint64_t iova = disk->queue.iova;

    guest_common_writeq(pci, COMMON(queue_desc_lo), desc + iova);
    guest_common_writeq(pci, COMMON(queue_avail_lo), avail + iova);
    guest_common_writeq(pci, COMMON(queue_used_lo), used + iova);
}

void disk_enable_queue(Disk *disk)
{
    guest_common_writew(&disk->pci, COMMON(queue_enable), 1);
}

void disk_reset_queue(Disk *disk)
{
    guest_common_writew(&disk->pci, VIRTIO_PCI_COMMON_Q_RESET, 1);
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

    if (disk->queue.packed) {
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
    guest_common_writew(&disk->pci, COMMON(queue_select), 0);
    disk->notify_offset = guest_common_readw(&disk->pci,
                                             COMMON(queue_notify_off));
    disk->queue.notify_addr = disk_notify_addr(disk);
}

void disk_place_rings(Disk *disk, uint64_t desc, uint64_t avail, uint64_t used,
                      uint16_t size)
{
    qtest_memset(disk->qts, disk->ram, 0, RAM_DATA);
    queue_init(&disk->queue, desc, avail, used, size);
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
                     disk->ram + RAM_USED, disk->queue.packed ? 7 : 8);
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

/* Memory */

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

static void disk_make_request(Disk *disk, uint32_t type, uint64_t sector,
                              uint32_t len, GuestDesc *descs)
{
    struct virtio_blk_outhdr header = {
        .type = cpu_to_le32(type),
        .sector = cpu_to_le64(sector),
    };

    qtest_memwrite(disk->qts, disk_header_addr(disk), &header, sizeof(header));
    qtest_memset(disk->qts, disk_data_addr(disk), 0xee, len);
    qtest_writeb(disk->qts, disk_status_addr(disk), 0xff);
    descs[0] = (GuestDesc) { disk_header_addr(disk), sizeof(header), 0 };
    descs[1] = (GuestDesc) { disk_data_addr(disk), len,
                            type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0 };
    descs[2] = (GuestDesc) { disk_status_addr(disk), 1, VRING_DESC_F_WRITE };
}

void disk_make_read(Disk *disk, uint64_t sector, uint32_t len, GuestDesc *descs)
{
    disk_make_request(disk, VIRTIO_BLK_T_IN, sector, len, descs);
}

void disk_make_write(Disk *disk, uint64_t sector, uint32_t len,
                     GuestDesc *descs)
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
    GuestDesc descs[3];

    disk_make_read(disk, sector, 4096, descs);
    queue_offer(&disk->queue, descs, G_N_ELEMENTS(descs));
    g_assert_cmpuint(queue_wait_used(&disk->queue), ==, 4097);
    disk_assert_read(disk, sector, 4096);
}
