/*
 * Isolated queue: carries the requests of one virtqueue between the guest's
 * ring and a shadow ring, and their data through a bounce region.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_ISOLATED_QUEUE_H
#define HW_VIRTIO_ISOLATED_QUEUE_H

#include "block/aio.h"
#include "qemu/event_notifier.h"
#include "qemu/stats64.h"
#include "bounce.h"
#include "guest-iotlb.h"
#include "shadow-ring.h"

typedef struct VirtIODevice VirtIODevice;
typedef struct VirtQueue VirtQueue;

/**
 * IsolatedQueueState - who may touch a queue
 *
 * IDLE     nobody owns it, no request of this guest is out.
 *              isolated_queue_attach() -> RUNNING
 * RUNNING  the owner context.  Nobody else touches anything but the counters.
 *              isolated_queue_detach() -> STOPPING
 * STOPPING the thread that holds the BQL: drains, settles.
 *              isolated_queue_stopped() -> IDLE or KEPT
 *              isolated_queue_attach() -> RUNNING (it was paused only)
 *              isolated_queue_reset() -> IDLE
 * KEPT     nobody owns it; requests are out, or are to be sent again.
 *              isolated_queue_attach() -> RUNNING
 *              isolated_queue_reset() -> IDLE
 * BROKEN   latched: guest or backend broke the rules.  Nothing is popped and
 *          nothing is returned, whoever owns the queue, across stop and start.
 *              isolated_queue_reset() -> IDLE
 *
 * The latch is set in the owner's context; every other step is taken with the
 * BQL held, or by the owner on behalf of a thread that holds it and waits.
 */
typedef enum IsolatedQueueState {
    ISOLATED_QUEUE_IDLE,
    ISOLATED_QUEUE_RUNNING,
    ISOLATED_QUEUE_STOPPING,
    ISOLATED_QUEUE_KEPT,
    ISOLATED_QUEUE_BROKEN,
    ISOLATED_QUEUE__MAX
} IsolatedQueueState;

/**
 * IsolatedQueueFault - why a queue is BROKEN
 * @ISOLATED_QUEUE_FAULT_NONE: it is not
 * @ISOLATED_QUEUE_FAULT_GUEST_RING: the guest's ring, or a chain in it, is
 *     malformed
 * @ISOLATED_QUEUE_FAULT_GUEST_MEMORY: its ring or a buffer is not in RAM
 * @ISOLATED_QUEUE_FAULT_REQUEST_SIZE: a request of the guest is larger than the
 *     backend's ring or the queue's share of the region
 * @ISOLATED_QUEUE_FAULT_BACKEND: the backend broke its ring
 */
typedef enum IsolatedQueueFault {
    ISOLATED_QUEUE_FAULT_NONE,
    ISOLATED_QUEUE_FAULT_GUEST_RING,
    ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
    ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
    ISOLATED_QUEUE_FAULT_BACKEND,
    ISOLATED_QUEUE_FAULT__MAX
} IsolatedQueueFault;

/**
 * IsolatedQueueStats - counters since the queue was made
 * @requests: completions returned to the guest
 * @bytes_out: bytes copied to the backend
 * @bytes_in: bytes copied to the guest
 * @forward_runs: batches published
 * @return_runs: batches pushed
 * @kicks: eventfd writes to the backend
 * @kicks_saved: batches published that the backend wanted no kick for
 * @calls: eventfd reads from the backend
 * @guest_kicks: eventfd reads from the guest
 * @guest_calls: batches pushed that the guest was notified of
 * @guest_calls_saved: ... and those that it wanted no notification for
 * @parked: times that a request had to wait for room
 * @clamped: used lengths that were longer than the writable buffers, of
 *     requests that have any
 * @allocations: requests made or grown: none of it in steady state.  Each
 *     request that is out at once is two, and more as its chains get longer,
 *     so a network device whose receive ring is full of buffers starts with
 *     twice as many as that ring has.
 * @faults: times that it broke, by cause; the first is always 0
 * @in_flight: now: popped, and the guest was not told
 * @orphans: now: see IsolatedOrphans
 * @high_water: bytes of the share that spans have reached on this link
 *
 * Written by the owner alone, readable from any thread.
 */
typedef struct IsolatedQueueStats {
    Stat64 requests;
    Stat64 bytes_out;
    Stat64 bytes_in;
    Stat64 forward_runs;
    Stat64 return_runs;
    Stat64 kicks;
    Stat64 kicks_saved;
    Stat64 calls;
    Stat64 guest_kicks;
    Stat64 guest_calls;
    Stat64 guest_calls_saved;
    Stat64 parked;
    Stat64 clamped;
    Stat64 allocations;
    Stat64 faults[ISOLATED_QUEUE_FAULT__MAX];
    Stat64 in_flight;
    Stat64 orphans;
    Stat64 high_water;
} IsolatedQueueStats;

/**
 * IsolatedLink - what belongs to one queue on one connection
 * @region: borrowed from the connection
 * @ring: shadow ring, in @region
 * @pool: this queue's share of @region
 * @kick: ours -> backend.  An eventfd: backends that poll with io_uring cannot
 *     do with less, since the wake-ups of a pipe come after its data and may
 *     find it empty; libvhost-user gives up then.
 * @call: backend -> ours
 *
 * Owned by the connection; the queue borrows it from isolated_queue_connect()
 * to isolated_queue_disconnect().
 */
typedef struct IsolatedLink {
    BounceRegion *region;
    ShadowRing *ring;
    BouncePool *pool;
    EventNotifier kick;
    EventNotifier call;
} IsolatedLink;

/**
 * IsolatedQueueConfig - what is fixed for the life of a queue
 * @vdev: the device
 * @name: what traces call it; outlives the queue
 * @vq: the guest's queue
 * @index: its absolute index
 * @scrub: zero the device-writable part of each span before the backend gets
 *     it, so that no byte of an earlier request can reach the guest
 * @trim: clear what no request holds once the queue is idle, and when it stops
 * @wipe: zero a span as soon as the backend has returned it
 * @all_writable: copy all device-writable bytes back whatever used.len says:
 *     for device types whose backends report 0
 * @merges: several requests make up one completion, which is not taken apart
 * @parks: its requests stay out by design; a stop does not wait for them
 * @faulted: bottom half of the main loop; scheduled once when the queue breaks
 * @starved: bottom half of the main loop, or NULL; scheduled when a request
 *     waits and nothing but orphans could make room for it
 */
typedef struct IsolatedQueueConfig {
    VirtIODevice *vdev;
    const char *name;
    VirtQueue *vq;
    unsigned index;
    bool scrub;
    bool trim;
    bool wipe;
    bool all_writable;
    bool merges;
    bool parks;
    QEMUBH *faulted;
    QEMUBH *starved;
} IsolatedQueueConfig;

/**
 * IsolatedOrphans - what the backend still has of a guest that was reset
 * @requests: how many
 * @descs: descriptors of the ring that they hold
 * @bytes: bytes of the share that they hold
 */
typedef struct IsolatedOrphans {
    unsigned requests;
    unsigned descs;
    uint64_t bytes;
} IsolatedOrphans;

typedef struct IsolatedQueue IsolatedQueue;

/**
 * isolated_queue_new() - an IDLE queue without a connection
 * @config: copied; @vdev outlives the queue
 */
IsolatedQueue *isolated_queue_new(const IsolatedQueueConfig *config);

/**
 * isolated_queue_free() - forget the queue and what is out
 * @q: not RUNNING, disconnected; may be NULL
 */
void isolated_queue_free(IsolatedQueue *q);

/**
 * isolated_queue_connect() - from now on requests go through @link
 * @q: not RUNNING
 * @link: borrowed
 *
 * With the link that the queue has already, nothing happens.  With another,
 * requests that are out are sent again, in guest order, once the queue is
 * attached.  BQL held.
 */
void isolated_queue_connect(IsolatedQueue *q, IsolatedLink *link);

/**
 * isolated_queue_translate() - where ring and buffers of the guest are
 * @q: not RUNNING
 * @iotlb: borrowed; NULL: at their addresses
 *
 * BQL held.
 */
void isolated_queue_translate(IsolatedQueue *q, GuestIotlb *iotlb);

/** isolated_queue_reach_rings() - guest_chain_reach_rings(); any thread */
GuestReach isolated_queue_reach_rings(const IsolatedQueue *q);

/**
 * isolated_queue_disconnect() - the connection is gone
 * @q: not RUNNING
 *
 * What is out is kept for the next link; orphans are dropped.  BQL held.
 */
void isolated_queue_disconnect(IsolatedQueue *q);

/** isolated_queue_link() - the link the queue is connected to, or NULL */
IsolatedLink *isolated_queue_link(const IsolatedQueue *q);

/**
 * isolated_queue_attach() - own the queue and start moving requests
 * @q: connected, not RUNNING
 * @ctx: the context of the calling thread
 * @bql: whether @ctx's thread holds the BQL when it runs handlers
 *
 * Called in @ctx's home thread, with the BQL held by it or by a thread that
 * waits for it.  Sends what is kept, and looks at both rings.  The first time
 * since the backend got the ring it kicks once, whatever its event index says.
 * A BROKEN queue is not attached.
 */
void isolated_queue_attach(IsolatedQueue *q, AioContext *ctx, bool bql);

/**
 * isolated_queue_detach() - stop moving requests
 * @q: any; nothing happens if it is not attached
 *
 * Called in the home thread of the context it is attached to.  Afterwards no
 * handler of it runs, and a pending kick of the guest is swallowed: attach
 * looks at the ring anyway.
 */
void isolated_queue_detach(IsolatedQueue *q);

/**
 * isolated_queue_look_again() - an IOMMU has answered
 * @q: any; nothing happens if it is not attached
 *
 * BQL held.
 */
void isolated_queue_look_again(IsolatedQueue *q);

/** isolated_queue_attached() - whether a context owns it.  BQL held. */
bool isolated_queue_attached(const IsolatedQueue *q);

/**
 * isolated_queue_guest_fault() - break the queue on the guest's account
 * @q: not RUNNING
 * @why: a sentence without a full stop
 *
 * For what is found outside the data path.  BQL held.
 */
void isolated_queue_guest_fault(IsolatedQueue *q, const char *why);

/**
 * isolated_queue_unpark() - give back what was popped and no backend has
 * @q: not RUNNING; nothing happens if it is BROKEN
 *
 * Newest first, as far as nothing newer was popped by whomever.  Without a
 * connection that can be all that is kept.  BQL held.
 */
void isolated_queue_unpark(IsolatedQueue *q);

/**
 * isolated_queue_drain() - return what the backend has completed by now
 * @q: not RUNNING; nothing happens if it is BROKEN or has no link, or while
 *     the guest could not be told
 *
 * Never waits.  BQL held.
 *
 * Returns: requests to wait for: with device-readable bytes, and still out.
 * Requests without (receive buffers) and those of a queue that parks can stay
 * for ever.
 */
unsigned isolated_queue_drain(IsolatedQueue *q);

/**
 * isolated_queue_stopped() - the backend has answered GET_VRING_BASE
 * @q: not RUNNING; if it is BROKEN, only the shadow ring is settled
 * @raw_base: its answer, unchecked; ignored if @alive is false
 * @alive: false if it did not answer
 *
 * Takes back, newest first, what the backend never fetched, from the shadow
 * ring and from the guest's ring; keeps the rest.  BQL held.
 */
void isolated_queue_stopped(IsolatedQueue *q, uint32_t raw_base, bool alive);

/**
 * isolated_queue_reset() - the guest has reset the device
 * @q: not RUNNING
 *
 * What is out becomes an orphan: its completion frees the span and goes no
 * further.  Clears the BROKEN latch.  Harmless when repeated.  BQL held.
 */
void isolated_queue_reset(IsolatedQueue *q);

/**
 * isolated_queue_forget_orphans() - free what the backend has and nobody wants
 * @q: reset, and connected
 *
 * The caller replaces the shadow ring, which still holds them.  BQL held.
 */
void isolated_queue_forget_orphans(IsolatedQueue *q);

/** isolated_queue_orphans() - count them.  @q is not RUNNING.  BQL held. */
IsolatedOrphans isolated_queue_orphans(const IsolatedQueue *q);

/**
 * isolated_queue_crowded() - do orphans hold room that requests need?
 * @q: not RUNNING
 *
 * A backend may never return them: some drop what they do not understand, and
 * a guest can bring that about and reset as often as it likes.  They are in
 * the way if they hold more than a quarter of the ring's descriptors or of the
 * share, or if a request waits for room and nothing else is out.  Then only a
 * new connection (or a new ring, where the backend is known to have forgotten
 * them) makes the device work again: isolated_queue_disconnect() drops them.
 *
 * Ask after isolated_queue_reset(), when the backend has had its time to
 * return them, and when @starved of the configuration ran.  BQL held.
 */
bool isolated_queue_crowded(const IsolatedQueue *q);

/**
 * isolated_queue_save() - append what is out to a stream
 * @q: disconnected, not BROKEN
 * @out: where to
 *
 * BQL held.
 */
void isolated_queue_save(const IsolatedQueue *q, GByteArray *out);

/**
 * isolated_queue_load() - what isolated_queue_save() has written is out
 * @q: IDLE and disconnected, with nothing out; its ring was loaded
 * @data: not trusted
 * @size: bytes of @data
 * @errp: what is wrong with @data
 *
 * It is sent first once the queue is attached, in the guest's order.  BQL held.
 *
 * Returns: false, with nothing out, if it cannot be.
 */
bool isolated_queue_load(IsolatedQueue *q, const uint8_t *data, size_t size,
                         Error **errp);

/** isolated_queue_state() - for control and tests; any thread */
IsolatedQueueState isolated_queue_state(const IsolatedQueue *q);

/** isolated_queue_state_name() - static string */
const char *isolated_queue_state_name(IsolatedQueueState state);

/**
 * isolated_queue_fault() - what broke it
 * @q: any
 * @why: set unless NONE is returned: a sentence without a full stop, owned by
 *     the queue
 */
IsolatedQueueFault isolated_queue_fault(const IsolatedQueue *q,
                                        const char **why);

/** isolated_queue_stats() - counters; any thread */
const IsolatedQueueStats *isolated_queue_stats(const IsolatedQueue *q);

/** isolated_queue_in_flight() - popped, the guest was not told.  BQL held. */
unsigned isolated_queue_in_flight(const IsolatedQueue *q);

#endif /* HW_VIRTIO_ISOLATED_QUEUE_H */
