/*
 * Mock device: the device side of a virtqueue, for tests of drivers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_DEVICE_H
#define TESTS_UNIT_MOCK_DEVICE_H

#include "standard-headers/linux/virtio_ring.h"
#include "hw/virtio/shadow-ring.h"

/** The most buffers that a request can have here. */
#define MOCK_BUFS_MAX 1024

/** The largest queue (virtio 1.2, 2.7). */
#define MOCK_SIZE_MAX 32768

/**
 * MockRequest - one request as the device read it
 * @id: head descriptor (split) or buffer id (packed)
 * @num_descs: descriptors of the ring that it occupies
 * @indirect: through a table
 * @num_out: device-readable buffers
 * @num_in: device-writable buffers
 * @bufs: all of them
 */
typedef struct MockRequest {
    uint16_t id;
    uint16_t num_descs;
    bool indirect;
    unsigned num_out;
    unsigned num_in;
    ShadowRingBuf bufs[MOCK_BUFS_MAX];
} MockRequest;

typedef struct MockDeviceOps MockDeviceOps;

/**
 * MockDevice - one virtqueue as its device sees it
 *
 * Written from the specification and from nothing in hw/virtio, so that a
 * mistake would have to be made twice.  Buffers are never touched; indirect
 * tables are, if they lie in the @tables_bytes at @tables_addr, which the
 * test sets.  One thread at a time; it need not be the driver's.
 *
 * A place in the ring is one number from 0 to @cycle - 1.  Split: the index,
 * with a @cycle of 65536.  Packed: two laps, the first with a wrap counter of
 * 1, the second with 0.
 */
typedef struct MockDevice {
    /* Fixed by mock_device_init(). */
    const MockDeviceOps *ops;
    ShadowRingFormat format;
    uint16_t size;
    bool event_idx;
    uint32_t cycle;
    uint8_t *desc;            /* the three areas                         */
    uint8_t *driver;
    uint8_t *device;
    size_t desc_bytes;
    size_t driver_bytes;      /* without padding                         */

    /* The test's. */
    const uint8_t *tables;
    uint64_t tables_addr;
    uint64_t tables_bytes;
    uint8_t *wrote;           /* NULL, or for each 16-bit word of @desc: */
                              /* set to 1 when the device stores it      */

    /* The device's. */
    uint32_t next_avail;      /* place of the request to fetch next      */
    uint32_t next_used;       /* place of the used buffer written next   */
    uint32_t sent_used;       /* ... of the one that is shown next       */
    uint16_t sent_flags;      /* packed: for the descriptor there        */
    uint64_t num_uncalled;    /* places shown since the last call check  */
    unsigned num_held;        /* descriptors of requests in @held        */
    uint16_t *held;           /* by id: descriptors, 0 if not fetched    */
} MockDevice;

/** Begin with an empty ring.  Pair: mock_device_cleanup(). */
void mock_device_init(MockDevice *d, const ShadowRingConfig *config);
void mock_device_cleanup(MockDevice *d);

/** Is there a request that was not fetched? */
bool mock_device_has_avail(const MockDevice *d);

/**
 * Fetch the next request; assert that it obeys virtio 1.2, 2.7 or 2.8.
 *
 * Returns: false if there is none.
 */
bool mock_device_fetch(MockDevice *d, MockRequest *request);

/** Forget the request that was fetched last, as in-order devices may. */
void mock_device_unfetch(MockDevice *d, uint16_t id);

/** Write a used buffer that mock_device_publish() will show. */
void mock_device_use(MockDevice *d, uint16_t id, uint32_t len);

/** Show what was used. */
void mock_device_publish(MockDevice *d);

/** Does the driver want a call for what was published since last asked? */
bool mock_device_should_call(MockDevice *d);

/** Ask for a kick when the request after the last fetched one comes. */
void mock_device_arm_kicks(MockDevice *d);

/** Ask for no kick, so far as the format can say that. */
void mock_device_suppress_kicks(MockDevice *d);

/** Answer to GET_VRING_BASE, in vhost-user's encoding for the format. */
uint32_t mock_device_base(const MockDevice *d);

/** Answer as if the next request to fetch were @ahead places further on. */
uint32_t mock_device_base_at(const MockDevice *d, int32_t ahead);

/**
 * Go on where SET_VRING_BASE says.  A split device takes its used index from
 * the ring, since that message does not carry it.
 */
void mock_device_resume(MockDevice *d, uint32_t base);

/**
 * With event_idx: ask for a kick when the place @ahead of the next one to
 * fetch is made available.
 */
void mock_device_ask_for_kick(MockDevice *d, int32_t ahead);

/**
 * mock_device_wants_kick() - what the words that the device wrote say
 * @end: place after the last one that was published
 * @num: places that were published since the driver was last asked
 *
 * For words that mean something.
 */
bool mock_device_wants_kick(const MockDevice *d, uint32_t end, uint64_t num);

/**
 * mock_device_event_passed() - virtio 1.2, 2.7.10 and 2.8.10, word for word
 * @event: place that was asked for
 * @old: place before
 * @num: places that were passed since
 *
 * Returns: whether one of the @num places from @old on is @event.  Counts
 * them one by one.
 */
bool mock_device_event_passed(const MockDevice *d, uint32_t event,
                              uint32_t old, uint64_t num);

/** @place, moved on or back. */
uint32_t mock_device_place(const MockDevice *d, uint32_t place, int64_t num);

/* For devices that do not play by the rules. */

/** Show a used buffer with any id; one place, whatever is in flight. */
void mock_device_use_raw(MockDevice *d, uint32_t id, uint32_t len);

/** Say that @num more buffers than were written so far are used. */
void mock_device_run_ahead(MockDevice *d, unsigned num);

/** Whatever the driver reads to decide about a kick. */
void mock_device_write_kick_words(MockDevice *d, uint16_t flags,
                                  uint16_t event);

/**
 * Overwrite all that the driver wrote, without saying that anything is used:
 * in a packed ring the word that would is among it.
 */
void mock_device_scribble(MockDevice *d);

/* Split only. */
void mock_device_write_used_idx(MockDevice *d, uint16_t idx);
void mock_device_write_used_elem(MockDevice *d, uint16_t idx, uint32_t id,
                                 uint32_t len);

/* Packed only: a whole used descriptor, or its flags. */
void mock_device_write_used_desc(MockDevice *d, uint32_t place, uint16_t id,
                                 uint32_t len, uint16_t flags);
void mock_device_write_flags(MockDevice *d, uint32_t place, uint16_t flags);
uint16_t mock_device_read_flags(const MockDevice *d, uint32_t place);

#endif /* TESTS_UNIT_MOCK_DEVICE_H */
