/*
 * The driver side of a virtqueue, for tests that are a guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_DRIVER_H
#define TESTS_QTEST_ISOLATION_DRIVER_H

#include "libqtest.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_pci.h"
#include "standard-headers/linux/virtio_ring.h"

/* The largest ring of the driver. */
#define GUEST_QUEUE_MAX 16

/**
 * GuestQueue - a virtqueue, split or packed, as the driver sees it
 * @iova: added to every address that the device is given
 * @notify_addr: where to kick
 * @index: what to write there
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
 *
 * It keeps to the specification unless a test writes something else: what it
 * does is split into steps, and each word can be written raw in between.  It
 * polls memory and uses no interrupt.
 */
typedef struct GuestQueue {
    QTestState *qts;
    bool packed;
    uint64_t iova;
    uint64_t notify_addr;
    uint16_t index;

    uint64_t desc, avail, used;
    uint16_t size;
    uint16_t next_avail;
    uint16_t next_slot;
    bool avail_wrap;
    uint16_t next_used;
    bool used_wrap;
    uint16_t ndescs[GUEST_QUEUE_MAX];
    uint16_t head_slot;
    uint16_t head_flags;
} GuestQueue;

/**
 * GuestDesc - a descriptor as the driver means it
 * @flags: WRITE and INDIRECT; NEXT is added where a chain goes on
 */
typedef struct GuestDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
} GuestDesc;

/** A queue that has not been used, whose parts are there, zeroed. */
void queue_init(GuestQueue *q, uint64_t desc, uint64_t avail, uint64_t used,
                uint16_t size);

/* One descriptor, raw: @link is next, or the buffer id if packed. */
void queue_put_desc(GuestQueue *q, uint64_t addr, GuestDesc desc,
                    uint16_t link);
/* An indirect table at @addr.  Returns the descriptor that refers to it. */
GuestDesc queue_put_table(GuestQueue *q, uint64_t addr, const GuestDesc *descs,
                          unsigned num);

/* Write a chain into the next slots; show it; kick.  offer: all three. */
void queue_write_chain(GuestQueue *q, const GuestDesc *descs, unsigned num);
void queue_publish(GuestQueue *q);
void queue_kick(GuestQueue *q);
void queue_offer(GuestQueue *q, const GuestDesc *descs, unsigned num);

/* Wait for one completion.  Returns its length. */
uint32_t queue_wait_used(GuestQueue *q);
/*
 * Wait until the device has taken every chain and asks to be told of the next
 * one, by the event index.
 */
void queue_wait_forwarded(GuestQueue *q);
/* Nothing has been completed since the last one that was waited for. */
bool queue_used_is_empty(GuestQueue *q);

/* Registers of the device, as they are, at any time. */
#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)
uint16_t guest_common_readw(QVirtioPCIDevice *pci, size_t offset);
void guest_common_writew(QVirtioPCIDevice *pci, size_t offset, uint16_t value);
/* Two halves, lower first. */
void guest_common_writeq(QVirtioPCIDevice *pci, size_t offset, uint64_t value);

#endif /* TESTS_QTEST_ISOLATION_DRIVER_H */
