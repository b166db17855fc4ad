/*
 * Isolated queue: the data path.
 *
 *   forward:  pop -> reserve -> copy to backend -> add      ... publish, kick
 *   return:   take -> copy to guest -> push -> release      ... flush, call
 *
 * Each direction is one short loop over a batch, and one loop shape around
 * it: suppress notifications, drain, re-enable, look again.  Waking somebody
 * up costs more than copying 4 KiB, so descriptors are written for a whole
 * batch, one index store shows them, and one event decision follows.
 *
 * A batch is bounded: at most a budget of requests and bytes, then the queue
 * schedules itself anew, so that other users of the thread go on whatever
 * guest and backend do.
 *
 * Requests that are out are kept in a list in guest order.  What was popped
 * and cannot be sent yet stays at its end, and nothing is popped behind it:
 * @next_unsent.  After a new connection it points at the oldest request, and
 * everything is sent again in order.
 *
 * The owner of a queue is the thread of the context it is attached to.  It
 * takes no lock.  Everything that is not the owner's is in
 * isolated-queue-stop.c.
 *
 * Not here: what a ring looks like, where memory comes from, when the device
 * starts and stops.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "isolated-queue-internal.h"
#include "trace.h"

/*
 * What one dispatch may move.  Large enough that the cost of going round the
 * event loop disappears, small enough (about a millisecond of copying) that a
 * neighbour in the same thread does not notice.
 */
#define BUDGET_REQUESTS 256
#define BUDGET_BYTES (8 * MiB)

static const IsolatedBudget dispatch_budget = {
    .requests = BUDGET_REQUESTS,
    .bytes = BUDGET_BYTES,
};

static void budget_spend(IsolatedBudget *budget, uint64_t bytes)
{
    budget->requests -= MIN(1, budget->requests);
    budget->bytes -= MIN(bytes, budget->bytes);
}

void isolated_queue_set_state(IsolatedQueue *q, IsolatedQueueState state)
{
    if (q->state != state) {
        trace_isolated_queue_state(q->config.index,
                                   isolated_queue_state_name(q->state),
                                   isolated_queue_state_name(state));
        qatomic_set(&q->state, state);
    }
}

/* A broken queue's peer can go on ringing; nobody listens any more. */
static void isolated_queue_unwatch(IsolatedQueue *q)
{
    aio_set_event_notifier(q->ctx, &q->guest_kick, NULL, NULL, NULL);
    aio_set_event_notifier(q->ctx, &q->backend_call, NULL, NULL, NULL);
}

void isolated_queue_break(IsolatedQueue *q, IsolatedQueueFault fault,
                          const char *fmt, ...)
{
    va_list ap;

    if (isolated_queue_broken(q)) {
        return;
    }
    va_start(ap, fmt);
    q->why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    isolated_queue_set_state(q, ISOLATED_QUEUE_BROKEN);
    qatomic_store_release(&q->fault, fault);
    if (q->ctx) {
        isolated_queue_unwatch(q);
    }
    /* Telling anybody takes the BQL, which the owner may not have. */
    qemu_bh_schedule(q->config.faulted);
}

/* The next request to send: one that had to wait, else a new one. */
static IsolatedRequest *isolated_queue_next_request(IsolatedQueue *q)
{
    IsolatedRequest *req = q->next_unsent;
    const char *fault;

    if (req) {
        return req;
    }
    switch (guest_chain_pop(&q->guest, &q->scratch, &fault)) {
    case VIRTQUEUE_CHAIN_OK:
        req = isolated_request_get(q);
        req->seq = q->next_seq++;
        QTAILQ_INSERT_TAIL(&q->in_flight, req, next);
        q->next_unsent = req;
        return req;
    case VIRTQUEUE_CHAIN_BAD:
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST, "%s", fault);
        return NULL;
    default:
        return NULL;
    }
}

static void isolated_queue_kick(IsolatedQueue *q)
{
    event_notifier_set(&q->link->kick);
    isolated_count(&q->stats.kicks, 1);
}

/* One batch from the guest to the backend.  Called within rcu_read_lock(). */
static void isolated_queue_forward(IsolatedQueue *q, IsolatedBudget *budget)
{
    ShadowRing *ring = q->link->ring;
    IsolatedRequest *req;
    unsigned sent = 0;

    while (isolated_budget_left(budget) &&
           (req = isolated_queue_next_request(q))) {
        IsolatedSendResult result = isolated_request_send(q, req);

        if (result != ISOLATED_SEND_OK) {
            isolated_count(&q->stats.parked, result == ISOLATED_SEND_LATER);
            break;
        }
        q->next_unsent = QTAILQ_NEXT(req, next);
        budget_spend(budget, req->chain.bytes_out + req->chain.bytes_in);
        sent++;
    }
    if (sent) {
        shadow_ring_publish(ring);
        if (shadow_ring_should_kick(ring)) {
            isolated_queue_kick(q);
        }
        isolated_count(&q->stats.forward_runs, 1);
        trace_isolated_queue_forwarded(q->config.index, sent);
    }
}

static uint64_t bytes_to_guest(const IsolatedQueue *q,
                               const IsolatedRequest *req, uint32_t raw_len)
{
    return q->config.all_writable ? req->chain.bytes_in
                                  : MIN(raw_len, req->chain.bytes_in);
}

/*
 * Complete one request: enter it as completion number @pushed of this batch.
 *
 * used.len is a claim.  Linux trusted it strictly in 2021 and had to go back,
 * so too much is cut and counted, never punished.
 */
static bool isolated_queue_complete(IsolatedQueue *q, IsolatedRequest *req,
                                    uint32_t raw_len, unsigned pushed)
{
    uint32_t len = MIN(raw_len, req->chain.bytes_in);
    uint64_t copy = bytes_to_guest(q, req, raw_len);
    bool ok = isolated_request_copy_to_guest(q, req, copy);

    if (raw_len > len) {
        isolated_count(&q->stats.clamped, 1);
    }
    isolated_request_release(q, req);
    if (!ok) {
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST,
                             "a device-writable buffer is not in RAM");
        return false;
    }
    guest_chain_push(&q->guest, &req->chain, len, pushed);
    QTAILQ_REMOVE(&q->in_flight, req, next);
    isolated_request_recycle(q, req);
    return true;
}

/* The guest that asked was reset: free what the request held, say nothing. */
static void isolated_queue_complete_orphan(IsolatedQueue *q,
                                           IsolatedRequest *req)
{
    isolated_request_release(q, req);
    QTAILQ_REMOVE(&q->orphans, req, next);
    isolated_request_recycle(q, req);
}

/*
 * A frame in several buffers becomes used at once (virtio 1.2, 5.1.6.4), and
 * the backend shows it so.  To end in its middle would take it apart, and the
 * guest drops what it finds.  Bounded all the same, by what is out.
 */
static bool isolated_queue_may_take(const IsolatedQueue *q,
                                    const IsolatedBudget *budget)
{
    return q->config.merges || isolated_budget_left(budget);
}

void isolated_queue_return(IsolatedQueue *q, IsolatedBudget *budget)
{
    ShadowRing *ring = q->link->ring;
    ShadowRingResult result = SHADOW_RING_EMPTY;
    unsigned pushed = 0;
    uint32_t raw_len;
    void *token;

    while (isolated_queue_may_take(q, budget) &&
           (result = shadow_ring_take(ring, &token, &raw_len)) ==
           SHADOW_RING_OK) {
        IsolatedRequest *req = token;

        budget_spend(budget, bytes_to_guest(q, req, raw_len));
        if (req->orphan) {
            isolated_queue_complete_orphan(q, req);
        } else if (isolated_queue_complete(q, req, raw_len, pushed)) {
            pushed++;
        } else {
            break;
        }
    }
    if (pushed) {
        guest_chain_flush(&q->guest, pushed);
        isolated_count(&q->stats.requests, pushed);
        isolated_count(&q->stats.return_runs, 1);
        trace_isolated_queue_returned(q->config.index, pushed);
    }
    if (result == SHADOW_RING_BROKEN) {
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_BACKEND, "%s",
                             shadow_ring_fault(ring));
    }
}

/*
 * While the AioContext polls it looks at the rings itself: then there is
 * nothing to suppress and nothing to arm.  It arms when it stops polling, and
 * looks once more.
 *
 * Returns: true if there is something to forward already.
 */
static bool isolated_queue_arm_guest(IsolatedQueue *q)
{
    return !q->guest_polled && guest_chain_arm_kicks(&q->guest);
}

static bool isolated_queue_arm_backend(IsolatedQueue *q)
{
    return !q->backend_polled && shadow_ring_arm_calls(q->link->ring);
}

/* Without a lock, being the owner is all that protects a queue. */
static void isolated_queue_assert_owner(const IsolatedQueue *q)
{
    assert(q->bql ? bql_locked()
                  : qemu_get_current_aio_context() == q->ctx);
}

/* The rest of the work waits until the others of this thread had their turn. */
static bool isolated_queue_go_on(IsolatedQueue *q,
                                 const IsolatedBudget *budget)
{
    if (isolated_queue_broken(q)) {
        return false;
    }
    if (!isolated_budget_left(budget)) {
        qemu_bh_schedule(q->again);
        return false;
    }
    return true;
}

/* Forward until the guest's ring is empty, or a request has to wait. */
static void isolated_queue_run_forward(IsolatedQueue *q,
                                       IsolatedBudget *budget)
{
    RCU_READ_LOCK_GUARD();

    isolated_queue_assert_owner(q);
    do {
        if (!q->guest_polled) {
            guest_chain_suppress_kicks(&q->guest);
        }
        isolated_queue_forward(q, budget);
        /* A waiting request is woken by a completion, not by a kick. */
    } while (isolated_queue_go_on(q, budget) && !q->next_unsent &&
             isolated_queue_arm_guest(q));
}

/* Return until the shadow ring is empty; then there may be room to forward. */
static void isolated_queue_run_return(IsolatedQueue *q, IsolatedBudget *budget)
{
    bool go_on;

    RCU_READ_LOCK_GUARD();
    isolated_queue_assert_owner(q);
    do {
        if (!q->backend_polled) {
            shadow_ring_suppress_calls(q->link->ring);
        }
        isolated_queue_return(q, budget);
        go_on = isolated_queue_go_on(q, budget);
    } while (go_on && isolated_queue_arm_backend(q));

    if (go_on && q->next_unsent) {
        isolated_queue_run_forward(q, budget);
    }
}

static void isolated_queue_run_both(void *opaque)
{
    IsolatedQueue *q = opaque;
    IsolatedBudget budget = dispatch_budget;

    if (!isolated_queue_broken(q)) {
        isolated_queue_run_return(q, &budget);
    }
    if (!isolated_queue_broken(q)) {
        isolated_queue_run_forward(q, &budget);
    }
}

static IsolatedQueue *queue_of_guest_kick(EventNotifier *n)
{
    return container_of(n, IsolatedQueue, guest_kick);
}

static IsolatedQueue *queue_of_backend_call(EventNotifier *n)
{
    return container_of(n, IsolatedQueue, backend_call);
}

static void on_guest_kick(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_guest_kick(n);
    IsolatedBudget budget = dispatch_budget;

    if (event_notifier_test_and_clear(n)) {
        isolated_count(&q->stats.guest_kicks, 1);
    }
    isolated_queue_run_forward(q, &budget);
}

/*
 * The backend shares the eventfd's flags: it can clear O_NONBLOCK, and take
 * the event away before we read it.  So a read that would wait is asked not
 * to, whatever the flags say.
 */
static bool call_test_and_clear(EventNotifier *n)
{
#ifdef RWF_NOWAIT
    uint64_t value;
    struct iovec iov = { .iov_base = &value, .iov_len = sizeof(value) };
    ssize_t len = preadv2(event_notifier_get_fd(n), &iov, 1, -1, RWF_NOWAIT);

    if (len >= 0 || errno == EAGAIN) {
        return len > 0;
    }
#endif
    /* No such kernel. */
    return event_notifier_test_and_clear(n);
}

static void on_backend_call(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_backend_call(n);
    IsolatedBudget budget = dispatch_budget;

    if (call_test_and_clear(n)) {
        isolated_count(&q->stats.calls, 1);
    }
    isolated_queue_run_return(q, &budget);
}

/* A queue with a waiting request has nothing to forward: polling would spin. */
static bool guest_has_work(void *opaque)
{
    IsolatedQueue *q = queue_of_guest_kick(opaque);

    return !q->next_unsent && guest_chain_pending(&q->guest);
}

static void on_guest_work(EventNotifier *n)
{
    IsolatedBudget budget = dispatch_budget;

    isolated_queue_run_forward(queue_of_guest_kick(n), &budget);
}

static void guest_poll_begin(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_guest_kick(n);

    q->guest_polled = true;
    guest_chain_suppress_kicks(&q->guest);
}

static void guest_poll_end(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_guest_kick(n);

    q->guest_polled = false;
    if (!q->next_unsent) {
        guest_chain_arm_kicks(&q->guest);
    }
}

static bool backend_has_work(void *opaque)
{
    return shadow_ring_has_used(queue_of_backend_call(opaque)->link->ring);
}

static void on_backend_work(EventNotifier *n)
{
    IsolatedBudget budget = dispatch_budget;

    isolated_queue_run_return(queue_of_backend_call(n), &budget);
}

static void backend_poll_begin(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_backend_call(n);

    q->backend_polled = true;
    shadow_ring_suppress_calls(q->link->ring);
}

static void backend_poll_end(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_backend_call(n);

    q->backend_polled = false;
    shadow_ring_arm_calls(q->link->ring);
}

/* The main loop does not poll: it would hold the BQL meanwhile. */
static void isolated_queue_watch(IsolatedQueue *q, bool poll)
{
    aio_set_event_notifier(q->ctx, &q->guest_kick, on_guest_kick,
                           poll ? guest_has_work : NULL,
                           poll ? on_guest_work : NULL);
    aio_set_event_notifier(q->ctx, &q->backend_call, on_backend_call,
                           poll ? backend_has_work : NULL,
                           poll ? on_backend_work : NULL);
    if (poll) {
        aio_set_event_notifier_poll(q->ctx, &q->guest_kick,
                                    guest_poll_begin, guest_poll_end);
        aio_set_event_notifier_poll(q->ctx, &q->backend_call,
                                    backend_poll_begin, backend_poll_end);
    }
}

void isolated_queue_attach(IsolatedQueue *q, AioContext *ctx, bool bql)
{
    assert(q->link && !q->ctx);
    if (isolated_queue_broken(q)) {
        return;
    }
    q->ctx = ctx;
    q->bql = bql;
    q->guest_polled = false;
    q->backend_polled = false;
    q->again = aio_bh_new(ctx, isolated_queue_run_both, q);
    event_notifier_init_fd(&q->guest_kick, guest_chain_kick_fd(&q->guest));
    event_notifier_init_fd(&q->backend_call,
                           event_notifier_get_fd(&q->link->call));
    isolated_queue_set_state(q, ISOLATED_QUEUE_RUNNING);
    isolated_queue_watch(q, !bql);
    isolated_queue_run_both(q);
    if (!isolated_queue_broken(q)) {
        /*
         * Backends start a ring at its first kick, and after a resume their
         * event index may promise a kick that went to an earlier eventfd.
         */
        isolated_queue_kick(q);
    }
}

void isolated_queue_detach(IsolatedQueue *q)
{
    if (!q->ctx) {
        return;
    }
    isolated_queue_unwatch(q);
    qemu_bh_delete(q->again);
    q->again = NULL;
    q->ctx = NULL;
    event_notifier_test_and_clear(&q->guest_kick);
    if (!isolated_queue_broken(q)) {
        shadow_ring_suppress_calls(q->link->ring);
        isolated_queue_set_state(q, ISOLATED_QUEUE_STOPPING);
    }
}
