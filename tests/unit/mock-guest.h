/*
 * Mock guest: driver and memory behind guest-chain.h, for tests of the
 * isolated queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_GUEST_H
#define TESTS_UNIT_MOCK_GUEST_H

#include "qemu/event_notifier.h"
#include "hw/virtio/guest-chain.h"

/** Slots of the guest's ring: more than the shadow ring ever has. */
#define MOCK_GUEST_RING 4096

/** Every buffer has so many marked bytes before and behind it. */
#define MOCK_GUEST_GUARD 64

/**
 * MockGuestState - where a request is
 *
 * IDLE     the driver has it.     mock_guest_offer() -> OFFERED
 * OFFERED  in the ring.           guest_chain_pop() -> POPPED
 * POPPED   outside the guest.     guest_chain_push() -> PUSHED
 *                                 guest_chain_unpop() -> OFFERED
 * PUSHED   in the used ring.      mock_guest_take() -> IDLE
 */
typedef enum MockGuestState {
    MOCK_GUEST_IDLE,
    MOCK_GUEST_OFFERED,
    MOCK_GUEST_POPPED,
    MOCK_GUEST_PUSHED,
} MockGuestState;

/**
 * MockGuestRequest - one request, with a part of guest memory of its own
 * @id: fixed; the head index that the queue sees
 * @serial: which request it is this time; its contents follow from that
 * @state: written by the owner of the queue while it is neither IDLE nor
 *     PUSHED
 * @bytes_out: sum of the device-readable lengths
 * @bytes_in: sum of the device-writable lengths
 * @bad_chain: popping it is an error
 * @bad_buf: this buffer is not in RAM; negative: there is none
 * @fetched: for the test: the backend has it
 */
typedef struct MockGuestRequest {
    uint16_t id;
    uint64_t serial;
    MockGuestState state;
    unsigned num_out;
    unsigned num_in;
    uint64_t bytes_out;
    uint64_t bytes_in;
    bool bad_chain;
    int bad_buf;
    bool fetched;
    VirtQueueBuf bufs[VIRTQUEUE_MAX_SIZE];
} MockGuestRequest;

/**
 * MockGuest - a guest with one virtqueue
 *
 * It stands for VirtQueue in GuestQueue.  Driver and owner of the queue may
 * be two threads; everything about the queue that only its owner may do
 * asserts that it is called by the owner, and within the BQL or an RCU read
 * section where guest-chain.h asks for it.
 */
typedef struct MockGuest {
    /* Fixed. */
    bool event_idx;
    uint8_t *ram;
    uint64_t slot_bytes;
    unsigned num_requests;
    MockGuestRequest *requests;
    EventNotifier kick;

    /* The driver. */
    uint64_t next_serial;
    GPtrArray *idle;
    unsigned next_take;
    uint64_t num_kicks;

    /* The test, while nobody owns the queue. */
    bool unusable;              /* no bus mastering                         */

    /* Atomic: the driver writes the first, the owner the others. */
    unsigned sent_avail;
    unsigned sent_used;
    unsigned kick_event;        /* event_idx: kick when this one is offered */
    bool kick_any;              /* no event_idx: kick at all                */
    MockGuestRequest *avail[MOCK_GUEST_RING];
    struct {
        MockGuestRequest *request;
        uint32_t len;
    } used[MOCK_GUEST_RING];

    /* The owner. */
    const void *owner;          /* see mock_guest_own()                     */
    bool bql;
    unsigned next_pop;
    unsigned next_push;
    /* The owner writes, anybody reads with qatomic_read(). */
    unsigned num_pops;          /* successful ones                          */
    unsigned num_looks;         /* calls of pop and arm                     */
    unsigned num_calls;
} MockGuest;

/** @num requests, each with @slot_bytes of memory that may stay untouched. */
MockGuest *mock_guest_new(unsigned num, uint64_t slot_bytes, bool event_idx);
void mock_guest_free(MockGuest *g);

/** From now on the calling thread, and no other, may touch the queue. */
void mock_guest_own(MockGuest *g, bool bql);
/** Nobody may. */
void mock_guest_disown(MockGuest *g);

/** An idle request, without buffers; NULL if all are out. */
MockGuestRequest *mock_guest_get(MockGuest *g);

/**
 * Add a buffer, device-readable ones first.
 *
 * It starts at a multiple of @align, plus @shift.
 */
void mock_guest_add(MockGuest *g, MockGuestRequest *request, bool in,
                    uint32_t len, uint32_t align, uint32_t shift);

/** Fill its memory and put it into the ring; kick if that was asked for. */
void mock_guest_offer(MockGuest *g, MockGuestRequest *request);

/** The next completion, or NULL.  The request is idle then. */
MockGuestRequest *mock_guest_take(MockGuest *g, uint32_t *len);

/** The driver forgets everything. Nobody owns the queue. */
void mock_guest_reset(MockGuest *g);

/** Offered, and not popped now.  Only when the owner is at rest. */
unsigned mock_guest_num_offered(const MockGuest *g);

/**
 * Assert that memory is as it must be after a completion: @copied bytes in
 * the device-writable buffers, of which the backend wrote the first @written
 * and the others are zero; nothing else touched.
 */
void mock_guest_check(const MockGuest *g, const MockGuestRequest *request,
                      uint64_t written, uint64_t copied);

/** Assert that no marked byte of guest memory got into [@mem, @mem + @len). */
void mock_guest_check_secret(const void *mem, size_t len);

/** Bytes @pos to @pos + @len of what request @serial says or is told. */
void mock_data_fill(uint64_t serial, bool in, uint64_t pos, void *mem,
                    size_t len);
void mock_data_check(uint64_t serial, bool in, uint64_t pos, const void *mem,
                     size_t len);

#endif /* TESTS_UNIT_MOCK_GUEST_H */
