/*
 * Isolated queue: the data path.
 *
 *   forward:  pop -> reserve -> copy to backend -> add      ... publish, kick
 *   return:   take -> copy to guest -> push -> release      ... flush, call
 *
 * Each direction is one short loop over a batch.  Waking somebody up costs
 * more than copying 4 KiB, so descriptors are written for a whole batch, one
 * index store shows them, and one event decision follows.  A batch is bounded
 * by a budget of requests, buffers and bytes; a request that has more bytes is
 * copied in parts, one a turn: the span of @next_unsent or @returning is then
 * filled, or brought back, in part.
 *
 * Requests that are out are kept in a list in guest order.  What was popped
 * and cannot be sent yet stays at its end, and nothing is popped behind it:
 * @next_unsent.  After a new connection it points at the oldest request, and
 * everything is sent again in order.
 *
 * A request that came back is @completed until the guest was told.  There are
 * moments when QEMU would drop that silently; then it stays, and is told with
 * the next batch, or when the queue is attached again.
 *
 * The owner of a queue is the thread of the context it is attached to.  It
 * takes no lock.  What wakes it, and the loop around each direction, is in
 * isolated-queue-dispatch.c; everything that is not the owner's is in
 * isolated-queue-stop.c.
 *
 * Not here: what a ring looks like, where memory comes from, when the device
 * starts and stops.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "isolated-kick.h"
#include "isolated-queue-internal.h"
#include "trace.h"

/* Bytes are taken off where they are copied. */
static void budget_spend(IsolatedBudget *budget, const IsolatedRequest *req)
{
    unsigned bufs = isolated_request_num_bufs(req);

    budget->requests -= MIN(1, budget->requests);
    budget->bufs -= MIN(bufs, budget->bufs);
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
        isolated_count(&q->stats.in_flight, 1);
        q->next_unsent = req;
        return req;
    case VIRTQUEUE_CHAIN_BAD:
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST_RING, "%s", fault);
        return NULL;
    default:
        return NULL;
    }
}

void isolated_queue_kick(IsolatedQueue *q)
{
    isolated_kick(&q->link->kick);
    isolated_count(&q->stats.kicks, 1);
}

/* Only orphans are out, and whoever could drop them needs the BQL. */
static void isolated_queue_wait(IsolatedQueue *q)
{
    isolated_count(&q->stats.parked, 1);
    if (isolated_queue_starves(q) && q->config.starved) {
        qemu_bh_schedule(q->config.starved);
    }
}

void isolated_queue_forward(IsolatedQueue *q, IsolatedBudget *budget)
{
    ShadowRing *ring = q->link->ring;
    IsolatedRequest *req;
    unsigned sent = 0;

    while (isolated_budget_left(budget) &&
           (req = isolated_queue_next_request(q))) {
        IsolatedSendResult result = isolated_request_send(q, req, budget);

        if (result == ISOLATED_SEND_LATER) {
            isolated_queue_wait(q);
        }
        if (result != ISOLATED_SEND_OK) {
            break;
        }
        q->next_unsent = QTAILQ_NEXT(req, next);
        budget_spend(budget, req);
        sent++;
    }
    if (sent) {
        shadow_ring_publish(ring);
        if (shadow_ring_should_kick(ring)) {
            isolated_queue_kick(q);
        } else {
            isolated_count(&q->stats.kicks_saved, 1);
        }
        isolated_count(&q->stats.forward_runs, 1);
        stat64_set(&q->stats.high_water,
                   bounce_pool_high_water(q->link->pool));
        trace_isolated_queue_forwarded(q->config.name, q->config.index, sent);
    }
}

static uint64_t bytes_to_guest(const IsolatedQueue *q,
                               const IsolatedRequest *req, uint32_t raw_len)
{
    return q->config.all_writable ? req->chain.bytes_in
                                  : MIN(raw_len, req->chain.bytes_in);
}

/*
 * Complete one request, for isolated_queue_show().
 *
 * used.len is a claim.  Linux trusted it strictly in 2021 and had to go back,
 * so too much is cut and counted, never punished.
 */
static void isolated_queue_complete(IsolatedQueue *q, IsolatedRequest *req)
{
    req->len = MIN(req->raw_len, req->chain.bytes_in);
    /* DPDK says a length of what it sends on packed rings, and means nothing. */
    if (req->raw_len > req->len && req->chain.num_in) {
        isolated_count(&q->stats.clamped, 1);
    }
    isolated_request_release(q, req);
    QTAILQ_REMOVE(&q->in_flight, req, next);
    QSIMPLEQ_INSERT_TAIL(&q->completed, req, done);
}

/* All at once, in the backend's order, or nothing if that is not possible. */
static void isolated_queue_show(IsolatedQueue *q)
{
    IsolatedRequest *req;
    unsigned num = 0;
    bool called;

    QSIMPLEQ_FOREACH(req, &q->completed, done) {
        guest_chain_push(&q->guest, &req->chain, req->len, num++);
    }
    if (!num || !guest_chain_flush(&q->guest, num, &called)) {
        return;
    }
    isolated_request_recycle_completed(q);
    isolated_count(&q->stats.in_flight, -(int64_t)num);
    isolated_count(&q->stats.requests, num);
    isolated_count(&q->stats.return_runs, 1);
    isolated_count(called ? &q->stats.guest_calls
                          : &q->stats.guest_calls_saved, 1);
    trace_isolated_queue_returned(q->config.name, q->config.index, num);
}

/* The guest that asked was reset: free what the request held, say nothing. */
static void isolated_queue_complete_orphan(IsolatedQueue *q,
                                           IsolatedRequest *req)
{
    isolated_request_release(q, req);
    QTAILQ_REMOVE(&q->orphans, req, next);
    isolated_count(&q->stats.orphans, -1);
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

/* What is on its way back comes first: it is @returning, and so is the next. */
static ShadowRingResult isolated_queue_take(IsolatedQueue *q,
                                            IsolatedBudget *budget)
{
    ShadowRingResult result = SHADOW_RING_OK;
    IsolatedRequest *req;
    uint32_t raw_len;
    void *token;

    if (q->returning) {
        return result;
    }
    result = shadow_ring_take(q->link->ring, &token, &raw_len);
    if (result == SHADOW_RING_OK) {
        req = token;
        req->raw_len = raw_len;
        req->left = req->orphan ? 0 : bytes_to_guest(q, req, raw_len);
        budget_spend(budget, req);
        q->returning = req;
    }
    return result;
}

/* Returns: true if all of it is back, false if that is for another turn. */
static bool isolated_queue_bring_back(IsolatedQueue *q, IsolatedBudget *budget)
{
    IsolatedRequest *req = q->returning;
    uint64_t most = q->config.merges ? UINT64_MAX : budget->bytes;
    uint64_t left = req->left;

    if (!isolated_request_copy_to_guest(q, req, most)) {
        q->returning = NULL;
        isolated_request_release(q, req);
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
                             "a device-writable buffer is not in RAM");
        return false;
    }
    budget->bytes -= MIN(left - req->left, budget->bytes);
    if (req->left || (!isolated_request_wipe(q, req, budget) &&
                      !q->config.merges)) {
        return false;
    }
    q->returning = NULL;
    if (req->orphan) {
        isolated_queue_complete_orphan(q, req);
    } else {
        isolated_queue_complete(q, req);
    }
    return true;
}

void isolated_queue_return(IsolatedQueue *q, IsolatedBudget *budget)
{
    ShadowRingResult result = SHADOW_RING_EMPTY;

    while (isolated_queue_may_take(q, budget) &&
           (result = isolated_queue_take(q, budget)) == SHADOW_RING_OK &&
           isolated_queue_bring_back(q, budget)) {
        /* The next one. */
    }
    isolated_queue_show(q);
    if (result == SHADOW_RING_BROKEN) {
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_BACKEND, "%s",
                             shadow_ring_fault(q->link->ring));
    }
}
