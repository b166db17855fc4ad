/*
 * Queue harness: an isolated queue between a mock guest and a mock device,
 * and a model of what must come out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_QUEUE_HARNESS_H
#define TESTS_UNIT_QUEUE_HARNESS_H

#include "hw/virtio/isolated-queue.h"
#include "iothread.h"
#include "mock-device.h"
#include "mock-guest.h"

/** Who owns the queue. */
typedef enum QueueOwner {
    QUEUE_OWNER_MAIN_LOOP,
    QUEUE_OWNER_IOTHREAD,
    QUEUE_OWNER_POLLING_IOTHREAD,
    QUEUE_OWNER__MAX
} QueueOwner;

/**
 * QueueParams - one case
 * @owner: which thread
 * @format: of the shadow ring
 * @event_idx: feature of the shadow ring
 * @indirect: feature of the shadow ring
 * @guest_format: of the guest's ring
 * @guest_event_idx: feature of the guest's ring
 * @guest_indirect: feature of the guest's ring
 * @guest_ring_size: 0: so large that it is never full
 * @no_scrub: property memory-isolation-scrub=off
 * @wipe: property memory-isolation-wipe=on
 * @all_writable: see IsolatedQueueConfig
 * @translated: the guest's memory is behind an IOMMU that has to be asked, again
 *     and again
 * @ring_size: of the shadow ring; 0: 64
 * @share: bounce space; 0: 8 MiB
 * @num_requests: that the guest can have out; 0: 128
 * @slot_bytes: guest memory of each; 0: 1 MiB
 * @part_bytes: that the queue copies in a turn; 0: what it always does
 */
typedef struct QueueParams {
    QueueOwner owner;
    ShadowRingFormat format;
    bool event_idx;
    bool indirect;
    ShadowRingFormat guest_format;
    bool guest_event_idx;
    bool guest_indirect;
    uint16_t guest_ring_size;
    bool no_scrub;
    bool wipe;
    bool all_writable;
    bool merges;
    bool translated;
    uint16_t ring_size;
    uint64_t share;
    unsigned num_requests;
    uint64_t slot_bytes;
    uint64_t part_bytes;
} QueueParams;

/**
 * BackendRequest - one request as the backend has it
 * @guest: whose it is; NULL: an orphan
 * @serial: of @guest, when it was fetched
 * @start: first byte of its buffers in the region
 * @end: behind the last
 */
typedef struct BackendRequest {
    MockRequest ring;
    MockGuestRequest *guest;
    uint64_t serial;
    uint64_t start;
    uint64_t end;
} BackendRequest;

/** A completion that the guest must see next. */
typedef struct QueueCompletion {
    MockGuestRequest *guest;
    uint64_t serial;
    uint64_t written;
    uint32_t raw_len;
} QueueCompletion;

/**
 * QueueHarness - everything a scenario needs
 *
 * The test's thread, which holds the BQL, is guest and backend at once.  The
 * queue runs in its own thread, or when the test lets the main loop run.
 *
 * Lists of requests that the guest has out: @out, in guest order; the first
 * @num_fetched of them are the backend's.
 */
typedef struct QueueHarness {
    QueueParams params;
    IOThread *iothread;
    AioContext *ctx;
    IsolatedQueue *q;
    QEMUBH *faulted;
    unsigned num_faulted;
    QEMUBH *starved;
    unsigned num_starved;
    /* As queue_settle() found it. */
    bool idle;
    bool parked;

    MockGuest *guest;
    GPtrArray *out;
    unsigned num_fetched;

    /* The connection. */
    IsolatedLink *link;
    ShadowRingConfig config;
    MockDevice device;
    GPtrArray *held;            /* fetched, not used                        */
    GPtrArray *spare;
    unsigned num_ahead;         /* orphans that the backend fetches first   */
    bool armed;                 /* it sleeps until it is kicked             */
    bool stopped;               /* SET_VRING_BASE comes before the next     */
    QueueCompletion *used;      /* MOCK_GUEST_MAX of them                  */
    unsigned used_first;
    unsigned used_num;
    uint64_t num_returned;
} QueueHarness;

typedef void QueueScenario(QueueHarness *h);

/** Run @scenario in one case. */
void queue_run_one(const QueueParams *params, QueueScenario *scenario);

/**
 * Run @scenario for each owner and format of the shadow ring, with and without
 * event_idx.  The guest's ring differs from it in one of the two.
 */
void queue_run_matrix(const QueueParams *params, QueueScenario *scenario);

/** Every ring of the guest with every shadow ring, in two threads. */
void queue_run_ring_pairs(const QueueParams *params, QueueScenario *scenario);

/** A connected, attached queue. */
QueueHarness *queue_harness_new(const QueueParams *params);
/** Stops it.  The model must agree that nothing is left in the region. */
void queue_harness_free(QueueHarness *h);

/** Let the queue do what it can.  It must not sleep over anything. */
void queue_settle(QueueHarness *h);

/** Call @fn in the queue's thread and wait. */
void queue_call(QueueHarness *h, void (*fn)(QueueHarness *h));

/** Steps of the control path. */
void queue_attach(QueueHarness *h);
void queue_detach(QueueHarness *h);
/** Detach, unpark, drain; the backend answers honestly, or is dead. */
void queue_stop(QueueHarness *h, bool alive);
/** Detach and unpark; the test calls isolated_queue_stopped(). */
void queue_stop_begin(QueueHarness *h);
/** ... and tells the model that the backend answered @base. */
void queue_stop_end(QueueHarness *h, uint32_t base);
/** New region and ring; not attached. */
void queue_reconnect(QueueHarness *h);
/** Saved, and loaded where another backend is; stopped before, not attached. */
void queue_travel(QueueHarness *h);
/** A scenario: at any moment stopped, and then saved, or connected anew. */
void queue_travel_often(QueueHarness *h);
/** Of a stopped queue; disconnects it. */
GByteArray *queue_save(QueueHarness *h);
/** Load @data, which may be anything, into a new queue. */
void queue_load_anything(QueueHarness *h, const uint8_t *data, size_t size);
/** Of the guest; not attached. */
void queue_reset(QueueHarness *h);

/** Steps of the guest. */
MockGuestRequest *queue_offer(QueueHarness *h, uint32_t out, uint32_t in);
void queue_offer_many(QueueHarness *h, unsigned num, uint32_t out,
                      uint32_t in);
/** Random buffers of at most @max bytes; NULL: the guest has no more. */
MockGuestRequest *queue_offer_random(QueueHarness *h, uint32_t max);
void queue_offer_request(QueueHarness *h, MockGuestRequest *request);
/** Check and take every completion; returns how many. */
unsigned queue_collect(QueueHarness *h);

/** Steps of the backend.  Fetching checks everything that it can see. */
BackendRequest *backend_fetch(QueueHarness *h);
unsigned backend_fetch_all(QueueHarness *h);
/** Request @i of @held: write @written bytes, say @len. */
void backend_use(QueueHarness *h, unsigned i, uint64_t written, uint32_t len);
/** All writable bytes. */
void backend_complete(QueueHarness *h, unsigned i);
/** Answer to GET_VRING_BASE: the last @num of @held were not fetched. */
uint32_t backend_base_before(const QueueHarness *h, unsigned num);
/** Show what was used, and call if that was asked for. */
void backend_publish(QueueHarness *h);
void backend_complete_all(QueueHarness *h);
/** Where a byte of a descriptor is. */
uint8_t *backend_host(const QueueHarness *h, uint64_t addr);

/** Some steps of either, at random; returns how many requests were offered. */
unsigned queue_do_anything(QueueHarness *h);

/** Fetch, complete, collect until nothing is out. */
void queue_finish(QueueHarness *h);

/** Assert that the queue is broken, reported once, for this reason. */
void queue_assert_broken(QueueHarness *h, IsolatedQueueFault fault,
                         const char *why);

#endif /* TESTS_UNIT_QUEUE_HARNESS_H */
