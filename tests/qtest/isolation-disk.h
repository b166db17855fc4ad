/*
 * A machine with two isolated vhost-user disks, and a driver for them that
 * can break every rule.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_DISK_H
#define TESTS_QTEST_ISOLATION_DISK_H

#include "qemu/units.h"
#include "isolation-driver.h"

#define DISK_SECTOR 512

/* A disk's region of bounce memory has room for one of these, not for two. */
#define MACHINE_HALF_REGION (2 * MiB + 256 * KiB)

/* Two RAM blocks meet at this address; RAM ends at MACHINE_RAM_END. */
#define MACHINE_RAM_SEAM 0x8000000
#define MACHINE_RAM_END 0x10000000

/* While its IOMMU is on, the first disk finds RAM here. */
#define MACHINE_IOVA 0x40000000

#define MACHINE_MAP_READ 1
#define MACHINE_MAP_WRITE 2

/* Addresses at which there is no RAM. */
#define MACHINE_IOAPIC 0xfec00000
#define MACHINE_FIRMWARE 0xfffc0000
#define MACHINE_NOWHERE 0xd0000000

/* RAM or option ROM, as the chipset is told: machine_set_shadow_ram(). */
#define MACHINE_SHADOW 0xd0000

/**
 * MachineConfig - which machine
 * @name: for test paths
 * @packed: the guest's rings
 * @iothread: the disks' queues run in an IOThread
 * @iommu: the first disk is behind an IOMMU, which is off at first
 */
typedef struct MachineConfig {
    const char *name;
    bool packed;
    bool iothread;
    bool iommu;
} MachineConfig;

typedef struct Machine Machine;

/**
 * Disk - one isolated disk and its driver
 * @ram: where the driver's memory begins: rings, then what disk_*_addr() give
 * @notify_offset: where to kick, in units that the device chose
 * @thawer: process that continues the backend later, or 0
 */
typedef struct Disk {
    Machine *machine;
    QTestState *qts;
    QVirtioPCIDevice pci;
    GuestQueue queue;
    bool iommu;
    uint64_t ram;
    pid_t thawer;
    uint16_t notify_offset;
} Disk;

struct Machine {
    const MachineConfig *config;
    QTestState *qts;
    QPCIBus *bus;
    char *dir;
    size_t messages_seen;
    pid_t backends[2];
    Disk disks[2];
};

/* Machines: one at a time; the current one stays until another is asked for. */
Machine *machine_get(const MachineConfig *config);
void machine_end(void);
void machine_assert_alive(Machine *machine);
/* What QEMU has written to stderr since the last call. */
char *machine_messages(Machine *machine);
void machine_set_shadow_ram(Machine *machine, bool ram);
void machine_set_iommu(Machine *machine, bool on);
/* The page at MACHINE_IOVA + @addr leads to @to. */
void machine_map(Machine *machine, uint64_t addr, uint64_t to, unsigned flags);
/* What maps 2 MiB around it stands at @table; 0: where it did at first. */
void machine_map_table(Machine *machine, uint64_t addr, uint64_t table);
/* Make the IOMMU forget what it has read. */
void machine_invalidate(Machine *machine);
/* What is at @offset in each disk. */
uint8_t machine_image_byte(uint64_t offset);

/* Stop and continue one disk's backend process: now, or a little later. */
void disk_freeze_backend(Disk *disk);
void disk_thaw_backend(Disk *disk);
void disk_thaw_backend_later(Disk *disk);

/* Reset, and go as far as FEATURES_OK, or all the way. */
void disk_reset(Disk *disk);
void disk_prepare(Disk *disk);
void disk_place_rings(Disk *disk, uint64_t desc, uint64_t avail, uint64_t used,
                      uint16_t size);
void disk_driver_ok(Disk *disk);
void disk_start(Disk *disk);
uint64_t disk_notify_addr(Disk *disk);

/* Registers as they are, at any time. */
void disk_set_queue_size(Disk *disk, uint16_t size);
void disk_set_queue_addresses(Disk *disk, uint64_t desc, uint64_t avail,
                              uint64_t used);
void disk_enable_queue(Disk *disk);
void disk_reset_queue(Disk *disk);
uint8_t disk_status(Disk *disk);
void disk_set_status(Disk *disk, uint8_t status);
void disk_set_bus_master(Disk *disk, bool on);

/* Memory of the driver. */
uint64_t disk_header_addr(const Disk *disk);
uint64_t disk_data_addr(const Disk *disk);
uint64_t disk_status_addr(const Disk *disk);
uint64_t disk_table_addr(const Disk *disk);

/* A request of @len bytes: header, data, status.  Fills three descriptors. */
void disk_make_read(Disk *disk, uint64_t sector, uint32_t len,
                    GuestDesc *descs);
void disk_make_write(Disk *disk, uint64_t sector, uint32_t len,
                     GuestDesc *descs);
/* The read of @len bytes at @sector that was completed gave what is there. */
void disk_assert_read(Disk *disk, uint64_t sector, uint32_t len);
/* All of it. */
void disk_read_and_verify(Disk *disk, uint64_t sector);

/* The device says that it needs a reset, within a time limit. */
void disk_wait_needs_reset(Disk *disk);

#endif /* TESTS_QTEST_ISOLATION_DISK_H */
