/*
 * A machine with two isolated vhost-user disks, and a driver for them that
 * can break every rule.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_DISK_H
#define TESTS_QTEST_ISOLATION_DISK_H

#include "qemu/units.h"
#include "libqtest.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_ring.h"

/* The largest ring of the driver; disk_start() takes a smaller one. */
#define DISK_QUEUE_MAX 16

#define DISK_SECTOR 512

/* A disk's region of bounce memory has room for one of these, not for two. */
#define MACHINE_HALF_REGION (2 * MiB + 256 * KiB)

/* Two RAM blocks meet at this address; RAM ends at MACHINE_RAM_END. */
#define MACHINE_RAM_SEAM 0x8000000
#define MACHINE_RAM_END 0x10000000

/* While its IOMMU is on, the first disk finds RAM here. */
#define MACHINE_IOVA 0x40000000

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
 * @iova: added to every address that the device is given
 * @ram: where the driver's memory begins: rings, then what disk_*_addr() give
 * @desc: descriptor ring or table
 * @avail: available ring, or driver event suppression
 * @used: used ring, or device event suppression
 * @size: entries
 * @next_avail: position of the next chain: a ring slot if packed
 * @next_slot: split: descriptor table entry for the next chain
 * @avail_wrap: packed: wrap counter at @next_avail
 * @next_used: position of the next completion
 * @used_wrap: packed: wrap counter at @next_used
 * @ndescs: ring slots by buffer id (packed)
 * @head_slot: slot of the chain that was written last
 * @head_flags: packed: what publishing stores there
 * @notify_offset: where to kick, in units that the device chose
 * @thawer: process that continues the backend later, or 0
 */
typedef struct Disk {
    Machine *machine;
    QTestState *qts;
    QVirtioPCIDevice pci;
    bool packed;
    bool iommu;
    uint64_t iova;
    uint64_t ram;

    uint64_t desc, avail, used;
    uint16_t size;
    uint16_t next_avail;
    uint16_t next_slot;
    bool avail_wrap;
    uint16_t next_used;
    bool used_wrap;
    uint16_t ndescs[DISK_QUEUE_MAX];
    uint16_t head_slot;
    uint16_t head_flags;
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

/**
 * DiskDesc - a descriptor as the driver means it
 * @flags: WRITE and INDIRECT; NEXT is added where a chain goes on
 */
typedef struct DiskDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
} DiskDesc;

/* Machines: one at a time; the current one stays until another is asked for. */
Machine *machine_get(const MachineConfig *config);
void machine_end(void);
void machine_assert_alive(Machine *machine);
/* What QEMU has written to stderr since the last call. */
char *machine_messages(Machine *machine);
void machine_set_shadow_ram(Machine *machine, bool ram);
void machine_set_iommu(Machine *machine, bool on);
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

/* One descriptor, raw: @link is next, or the buffer id if packed. */
void disk_put_desc(Disk *disk, uint64_t addr, DiskDesc desc, uint16_t link);
/* An indirect table at @addr.  Returns the descriptor that refers to it. */
DiskDesc disk_put_table(Disk *disk, uint64_t addr, const DiskDesc *descs,
                        unsigned num);

/* Write a chain into the next slots; show it; kick.  offer: all three. */
void disk_write_chain(Disk *disk, const DiskDesc *descs, unsigned num);
void disk_publish(Disk *disk);
void disk_kick(Disk *disk);
void disk_offer(Disk *disk, const DiskDesc *descs, unsigned num);

/* Wait for one completion.  Returns its length. */
uint32_t disk_wait_used(Disk *disk);
/*
 * Wait until the device has taken every chain and asks to be told of the next
 * one, by the event index.
 */
void disk_wait_forwarded(Disk *disk);
/* Nothing has been completed since the last one that was waited for. */
bool disk_used_is_empty(Disk *disk);

/* A request of @len bytes: header, data, status.  Fills three descriptors. */
void disk_make_read(Disk *disk, uint64_t sector, uint32_t len, DiskDesc *descs);
void disk_make_write(Disk *disk, uint64_t sector, uint32_t len,
                     DiskDesc *descs);
/* The read of @len bytes at @sector that was completed gave what is there. */
void disk_assert_read(Disk *disk, uint64_t sector, uint32_t len);
/* All of it. */
void disk_read_and_verify(Disk *disk, uint64_t sector);

/* The device says that it needs a reset, within a time limit. */
void disk_wait_needs_reset(Disk *disk);

#endif /* TESTS_QTEST_ISOLATION_DISK_H */
