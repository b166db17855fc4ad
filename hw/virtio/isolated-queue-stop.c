/*
 * Isolated queue: everything around the data path.
 *
 * These functions run while nobody owns the queue, in the thread that holds
 * the BQL.  The list of requests that are out makes QEMU the in-flight
 * tracker: it serves stop and start, a guest's reset, and the loss of the
 * backend alike.
 *
 * A request can be given back to the guest's ring ("un-popped") only if it is
 * the newest that was popped: were a younger one completed already, moving
 * the index back would run that one again.  The guest's ring is asked, not a
 * number of ours: while the device is stopped QEMU may pop by itself, as
 * virtio-net does to drop what the guest sends when the link is down.  What
 * cannot be un-popped is kept and sent again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "isolated-queue-internal.h"
#include "trace.h"

IsolatedQueue *isolated_queue_new(const IsolatedQueueConfig *config)
{
    IsolatedQueue *q = g_new0(IsolatedQueue, 1);

    q->config = *config;
    q->guest.vdev = config->vdev;
    q->guest.vq = config->vq;
    q->budget = isolated_dispatch_budget;
    q->scratch.capacity = VIRTQUEUE_MAX_SIZE;
    q->scratch.bufs = g_new0(VirtQueueBuf, VIRTQUEUE_MAX_SIZE);
    QTAILQ_INIT(&q->in_flight);
    QTAILQ_INIT(&q->orphans);
    QSIMPLEQ_INIT(&q->completed);
    QSIMPLEQ_INIT(&q->spare);
    return q;
}

static void request_list_free(IsolatedRequestList *list)
{
    IsolatedRequest *req, *following;

    QTAILQ_FOREACH_SAFE(req, list, next, following) {
        QTAILQ_REMOVE(list, req, next);
        isolated_request_free(req);
    }
}

static void done_list_free(IsolatedDoneList *list)
{
    IsolatedRequest *req;

    while ((req = QSIMPLEQ_FIRST(list))) {
        QSIMPLEQ_REMOVE_HEAD(list, done);
        isolated_request_free(req);
    }
}

void isolated_queue_free(IsolatedQueue *q)
{
    if (!q) {
        return;
    }
    assert(!q->ctx && !q->link);
    request_list_free(&q->in_flight);
    request_list_free(&q->orphans);
    done_list_free(&q->completed);
    done_list_free(&q->spare);
    g_free(q->scratch.bufs);
    g_free(q->why);
    g_free(q);
}

void isolated_queue_connect(IsolatedQueue *q, IsolatedLink *link)
{
    assert(!q->ctx);
    if (q->link != link) {
        isolated_queue_disconnect(q);
        q->link = link;
    }
}

void isolated_queue_translate(IsolatedQueue *q, GuestIotlb *iotlb)
{
    assert(!q->ctx);
    q->guest.iotlb = iotlb;
    q->guest.asks = false;
}

GuestReach isolated_queue_reach_rings(const IsolatedQueue *q)
{
    return guest_chain_reach_rings(&q->guest);
}

void isolated_queue_disconnect(IsolatedQueue *q)
{
    IsolatedRequest *req, *following;

    assert(!q->ctx);
    /* The spans and the ring die with the link: nothing to give back. */
    QTAILQ_FOREACH(req, &q->in_flight, next) {
        req->span_bytes = 0;
        req->sent = false;
    }
    q->returning = NULL;
    q->next_unsent = QTAILQ_FIRST(&q->in_flight);
    QTAILQ_FOREACH_SAFE(req, &q->orphans, next, following) {
        QTAILQ_REMOVE(&q->orphans, req, next);
        req->span_bytes = 0;
        isolated_request_recycle(q, req);
    }
    stat64_set(&q->stats.orphans, 0);
    stat64_set(&q->stats.high_water, 0);
    q->woken = false;
    q->link = NULL;
}

/* What is copied for the backend in part: from the beginning another time. */
static void isolated_queue_drop_part(IsolatedQueue *q)
{
    IsolatedRequest *req = q->next_unsent;

    if (req && req->span_bytes) {
        isolated_request_release(q, req);
    }
}

void isolated_queue_unpark(IsolatedQueue *q)
{
    IsolatedRequest *req;

    if (isolated_queue_broken(q)) {
        return;
    }
    isolated_queue_drop_part(q);
    while ((req = QTAILQ_LAST(&q->in_flight)) && !req->sent &&
           guest_chain_is_newest(&q->guest, &req->chain)) {
        guest_chain_unpop(&q->guest, &req->chain);
        if (q->next_unsent == req) {
            q->next_unsent = NULL;
        }
        QTAILQ_REMOVE(&q->in_flight, req, next);
        isolated_count(&q->stats.in_flight, -1);
        isolated_request_recycle(q, req);
    }
}

unsigned isolated_queue_drain(IsolatedQueue *q)
{
    IsolatedBudget unlimited = { UINT_MAX, UINT_MAX, UINT64_MAX };
    IsolatedRequest *req;
    unsigned num = 0;

    if (isolated_queue_broken(q) || !q->link ||
        !guest_chain_usable(&q->guest)) {
        return 0;
    }
    /* Bounded all the same: nothing new is published meanwhile. */
    WITH_RCU_READ_LOCK_GUARD() {
        isolated_queue_return(q, &unlimited);
    }
    QTAILQ_FOREACH(req, &q->in_flight, next) {
        num += req->sent && req->chain.num_out && !q->config.parks;
    }
    return isolated_queue_broken(q) ? 0 : num;
}

/* Undo what the backend has not fetched; false if it contradicts itself. */
static bool isolated_queue_take_back(IsolatedQueue *q, uint16_t num)
{
    while (num--) {
        IsolatedRequest *req = shadow_ring_take_back(q->link->ring);

        if (!req) {
            return false;
        }
        isolated_request_release(q, req);
        if (req->orphan) {
            QTAILQ_REMOVE(&q->orphans, req, next);
            isolated_count(&q->stats.orphans, -1);
            isolated_request_recycle(q, req);
        } else {
            q->next_unsent = req;
        }
    }
    return true;
}

void isolated_queue_stopped(IsolatedQueue *q, uint32_t raw_base, bool alive)
{
    unsigned kept;
    uint16_t num;

    q->woken = false;
    isolated_queue_drop_part(q);
    if (alive && q->link) {
        /* Nothing that the backend completed before it answered is lost. */
        isolated_queue_drain(q);
        /* Also if the guest broke the queue: reset goes on with this ring. */
        if (q->fault != ISOLATED_QUEUE_FAULT_BACKEND &&
            (!shadow_ring_unfetched(q->link->ring, raw_base, &num) ||
             !isolated_queue_take_back(q, num))) {
            isolated_queue_break(q, ISOLATED_QUEUE_FAULT_BACKEND, "%s",
                                 shadow_ring_fault(q->link->ring));
        }
    }
    if (isolated_queue_broken(q)) {
        return;
    }
    isolated_queue_unpark(q);
    if (q->link && q->config.trim) {
        isolated_queue_trim(q);
    }
    kept = isolated_queue_in_flight(q);
    isolated_queue_set_state(q, kept ? ISOLATED_QUEUE_KEPT
                                     : ISOLATED_QUEUE_IDLE);
    trace_isolated_queue_stopped(q->config.name, q->config.index, kept);
}

void isolated_queue_forget_orphans(IsolatedQueue *q)
{
    IsolatedRequest *req;

    assert(!q->ctx);
    if (q->returning && q->returning->orphan) {
        q->returning = NULL;
    }
    while ((req = QTAILQ_FIRST(&q->orphans))) {
        QTAILQ_REMOVE(&q->orphans, req, next);
        isolated_request_release(q, req);
        isolated_request_recycle(q, req);
    }
    stat64_set(&q->stats.orphans, 0);
}

void isolated_queue_reset(IsolatedQueue *q)
{
    IsolatedRequest *req, *following;

    assert(!q->ctx);
    isolated_queue_drop_part(q);
    if (q->returning) {
        /* It goes the way of all that the backend gives back from now on. */
        q->returning->left = 0;
    }
    QTAILQ_FOREACH_SAFE(req, &q->in_flight, next, following) {
        QTAILQ_REMOVE(&q->in_flight, req, next);
        if (req->sent) {
            req->orphan = true;
            QTAILQ_INSERT_TAIL(&q->orphans, req, next);
            isolated_count(&q->stats.orphans, 1);
        } else {
            isolated_request_recycle(q, req);
        }
    }
    isolated_request_recycle_completed(q);
    stat64_set(&q->stats.in_flight, 0);
    q->next_unsent = NULL;
    q->next_seq = 0;
    g_clear_pointer(&q->why, g_free);
    q->fault = ISOLATED_QUEUE_FAULT_NONE;
    isolated_queue_set_state(q, ISOLATED_QUEUE_IDLE);
}
