/*
 * Mock guest: driver and memory behind guest-chain.h, for tests of the
 * isolated queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_GUEST_H
#define TESTS_UNIT_MOCK_GUEST_H

#include "qemu/event_notifier.h"
#include "qemu/units.h"
#include "hw/virtio/guest-chain.h"
#include "mock-device.h"

/** The most requests that a guest can have. */
#define MOCK_GUEST_MAX 4096

/** Every buffer has so many marked bytes before and behind it. */
#define MOCK_GUEST_GUARD 64

/**
 * MockGuestState - where a request is
 *
 * IDLE     the driver has it.     mock_guest_offer() -> OFFERED
 * OFFERED  in the ring.           guest_chain_pop() -> POPPED
 * POPPED   outside the guest.     guest_chain_flush() -> PUSHED
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
 * @id: fixed; which part of memory is its own
 * @serial: which request it is this time; its contents follow from that
 * @state: written by the owner of the queue while it is neither IDLE nor
 *     PUSHED
 * @bytes_out: sum of the device-readable lengths
 * @bytes_in: sum of the device-writable lengths
 * @bad_chain: popping it is an error
 * @bad_buf: this buffer is not in RAM; negative: there is none
 * @fetched: for the test: the backend has it
 * @pop: number of its pop; un-popped ones do not count
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
    unsigned pop;
    VirtQueueBuf bufs[VIRTQUEUE_MAX_SIZE];
} MockGuestRequest;

/**
 * MockGuestParams - what is fixed for the life of a guest
 * @num_requests: that it can have out
 * @slot_bytes: memory of each request, which may stay untouched
 * @format: of its ring
 * @ring_size: of its ring
 * @event_idx: on its ring
 * @indirect: feature of its ring; then every other request has a table
 */
typedef struct MockGuestParams {
    unsigned num_requests;
    uint64_t slot_bytes;
    ShadowRingFormat format;
    uint16_t ring_size;
    bool event_idx;
    bool indirect;
} MockGuestParams;

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
    MockGuestParams params;
    ShadowRingConfig config;
    size_t ring_bytes;
    uint8_t *ram;
    uint8_t *tables;
    MockGuestRequest *requests;
    EventNotifier kick;

    /* The driver. */
    ShadowRing *ring;
    ShadowRingBuf bufs[VIRTQUEUE_MAX_SIZE];
    uint64_t next_serial;
    GPtrArray *idle;
    uint64_t num_kicks;

    /* The test, while nobody owns the queue. */
    bool unusable;              /* no bus mastering                         */
    unsigned unusable_after;    /* ... after so many pushes more; 0: never  */
    unsigned flickers;          /* so often there seems to be a request     */
    bool translated;            /* behind an IOMMU that forgets all the time */

    /* The driver writes, anybody reads while the owner is at rest. */
    unsigned num_offers;

    /* The owner. */
    const void *owner;          /* see mock_guest_own()                     */
    bool bql;
    MockDevice device;
    MockRequest fetched;
    unsigned next_pop;
    unsigned next_push;
    unsigned sent_used;
    struct {
        MockGuestRequest *request;
        uint16_t head;
        uint32_t len;
    } pushed[MOCK_GUEST_MAX];   /* not flushed yet                          */
    /* The owner writes, anybody reads with qatomic_read(). */
    unsigned num_pops;          /* successful ones                          */
    unsigned num_looks;         /* calls of pop and arm                     */
    unsigned num_calls;
    bool asked;                 /* for a translation; reset by who answers   */
} MockGuest;

/** Where guest memory begins. */
#define MOCK_GUEST_RAM_BASE (4 * GiB)

/** Where a buffer is. */
uint8_t *mock_guest_host(const MockGuest *g, const VirtQueueBuf *buf);

MockGuest *mock_guest_new(const MockGuestParams *params);
void mock_guest_free(MockGuest *g);

/** From now on the calling thread, and no other, may touch the queue. */
void mock_guest_own(MockGuest *g, bool bql);
/** Is the calling thread the one that may? */
bool mock_guest_is_owner(const MockGuest *g);
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

#endif /* TESTS_UNIT_MOCK_GUEST_H */
