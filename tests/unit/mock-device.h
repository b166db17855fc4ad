/*
 * Mock device: the device side of a split virtqueue, for tests of drivers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_DEVICE_H
#define TESTS_UNIT_MOCK_DEVICE_H

#include "standard-headers/linux/virtio_ring.h"
#include "hw/virtio/shadow-ring.h"

/** The most buffers that a request can have here. */
#define MOCK_BUFS_MAX 1024

/**
 * MockDevice - one virtqueue as its device sees it
 *
 * Written from the specification and from nothing in hw/virtio, so that a
 * mistake would have to be made twice.  Buffers are never touched; indirect
 * tables are, if they lie in the @tables_bytes at @tables_addr, which the
 * test sets.  One thread at a time; it need not be the driver's.
 */
typedef struct MockDevice {
    uint16_t size;
    bool event_idx;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    const uint8_t *tables;
    uint64_t tables_addr;
    uint64_t tables_bytes;
    uint16_t next_avail;      /* index of the request to fetch next      */
    uint16_t next_used;       /* index of the used element written next  */
    uint16_t sent_used;       /* used.idx                                */
    uint16_t seen_call;       /* sent_used at the last call check        */
} MockDevice;

/**
 * MockRequest - one request as the device read it
 */
typedef struct MockRequest {
    uint16_t id;
    bool indirect;
    unsigned num_out;
    unsigned num_in;
    ShadowRingBuf bufs[MOCK_BUFS_MAX];
} MockRequest;

void mock_device_init(MockDevice *d, const ShadowRingConfig *config);

/** Is there a request that was not fetched?  Virtio 1.2, 2.7.6. */
bool mock_device_has_avail(const MockDevice *d);

/**
 * Fetch the next request; assert that it obeys virtio 1.2, 2.7.
 *
 * Returns: false if there is none.
 */
bool mock_device_fetch(MockDevice *d, MockRequest *request);

/** Write a used element that mock_device_publish() will show. */
void mock_device_use(MockDevice *d, uint16_t id, uint32_t len);

/** Show what was used. */
void mock_device_publish(MockDevice *d);

/** Does the driver want a call for what was published since last asked? */
bool mock_device_should_call(MockDevice *d);

/** Ask for a kick when the request after the last fetched one comes. */
void mock_device_arm_kicks(MockDevice *d);

/** Ask for no kick, so far as the format can say that. */
void mock_device_suppress_kicks(MockDevice *d);

/* Words of the ring, for devices that do not play by the rules. */
void mock_device_write_used_idx(MockDevice *d, uint16_t idx);
void mock_device_write_used_elem(MockDevice *d, uint16_t idx, uint32_t id,
                                 uint32_t len);
void mock_device_write_used_flags(MockDevice *d, uint16_t flags);
void mock_device_write_avail_event(MockDevice *d, uint16_t event);

/**
 * mock_event_passed() - virtio 1.2, 2.7.10, word for word
 * @event: index that is asked for
 * @old: index before
 * @num: indices that were passed since
 *
 * Returns: whether one of the @num indices from @old on is @event.  Counts
 * them one by one.
 */
bool mock_event_passed(uint16_t event, uint16_t old, uint32_t num);

#endif /* TESTS_UNIT_MOCK_DEVICE_H */
