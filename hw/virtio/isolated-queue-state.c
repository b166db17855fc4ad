/*
 * Isolated queue: its state, its latch, and what is asked about it.
 *
 * The bottom of the queue's files: all others call it, and it calls none of
 * them.  What may be read from any thread is read here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "isolated-queue-internal.h"
#include "trace.h"

static const char *const state_names[] = {
    [ISOLATED_QUEUE_IDLE] = "idle",
    [ISOLATED_QUEUE_RUNNING] = "running",
    [ISOLATED_QUEUE_STOPPING] = "stopping",
    [ISOLATED_QUEUE_KEPT] = "kept",
    [ISOLATED_QUEUE_BROKEN] = "broken",
};
QEMU_BUILD_BUG_ON(ARRAY_SIZE(state_names) != ISOLATED_QUEUE__MAX);

const char *isolated_queue_state_name(IsolatedQueueState state)
{
    return state_names[state];
}

IsolatedQueueState isolated_queue_state(const IsolatedQueue *q)
{
    return qatomic_read(&q->state);
}

IsolatedQueueFault isolated_queue_fault(const IsolatedQueue *q,
                                        const char **why)
{
    IsolatedQueueFault fault = qatomic_load_acquire(&q->fault);

    if (fault != ISOLATED_QUEUE_FAULT_NONE) {
        *why = q->why;
    }
    return fault;
}

const IsolatedQueueStats *isolated_queue_stats(const IsolatedQueue *q)
{
    return &q->stats;
}

IsolatedLink *isolated_queue_link(const IsolatedQueue *q)
{
    return q->link;
}

bool isolated_queue_attached(const IsolatedQueue *q)
{
    return q->ctx;
}

unsigned isolated_queue_in_flight(const IsolatedQueue *q)
{
    IsolatedRequest *req;
    unsigned num = 0;

    QTAILQ_FOREACH(req, &q->in_flight, next) {
        num++;
    }
    QSIMPLEQ_FOREACH(req, &q->completed, done) {
        num++;
    }
    /* What any thread may read is not what anything depends on. */
    assert(q->ctx || stat64_get(&q->stats.in_flight) == num);
    return num;
}

IsolatedOrphans isolated_queue_orphans(const IsolatedQueue *q)
{
    IsolatedOrphans orphans = { };
    IsolatedRequest *req;

    assert(!q->ctx);
    QTAILQ_FOREACH(req, &q->orphans, next) {
        orphans.requests++;
        orphans.descs += req->descs;
        orphans.bytes += ROUND_UP(req->span_bytes, BOUNCE_GRANULE);
    }
    assert(stat64_get(&q->stats.orphans) == orphans.requests);
    return orphans;
}

bool isolated_queue_crowded(const IsolatedQueue *q)
{
    IsolatedOrphans orphans = isolated_queue_orphans(q);

    return orphans.requests &&
           (orphans.descs > shadow_ring_size(q->link->ring) / 4 ||
            orphans.bytes > bounce_pool_size(q->link->pool) / 4 ||
            isolated_queue_starves(q));
}

void isolated_queue_set_state(IsolatedQueue *q, IsolatedQueueState state)
{
    if (q->state != state) {
        trace_isolated_queue_state(q->config.name, q->config.index,
                                   isolated_queue_state_name(q->state),
                                   isolated_queue_state_name(state));
        qatomic_set(&q->state, state);
    }
}

/* A broken queue's peer can go on ringing; nobody listens any more. */
void isolated_queue_unwatch(IsolatedQueue *q)
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
    isolated_count(&q->stats.faults[fault], 1);
    isolated_queue_set_state(q, ISOLATED_QUEUE_BROKEN);
    qatomic_store_release(&q->fault, fault);
    if (q->ctx) {
        isolated_queue_unwatch(q);
    }
    /* Telling anybody takes the BQL, which the owner may not have. */
    qemu_bh_schedule(q->config.faulted);
}

void isolated_queue_guest_fault(IsolatedQueue *q, const char *why)
{
    assert(!q->ctx);
    isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST_MEMORY, "%s", why);
}
