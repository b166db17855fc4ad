/*
 * Isolated queue: who runs the data path, and when.
 *
 * One loop shape for both directions: suppress notifications, drain,
 * re-enable, look again.  It is entered from an eventfd or from the polling of
 * an AioContext.  A turn that ended over its budget leaves an event for the
 * next one, so that other users of the thread go on whatever guest and backend
 * do.  It is no bottom half: aio_poll() looks at no eventfd while one is due.
 *
 * What requests leave behind is cleared by a timer once no request has come
 * back for a while, if the user wants that.  How long one clearing takes depends
 * on how often the backend has mapped the region, so the next one has to wait
 * a hundred times as long: all of them take one percent of the thread at most.
 *
 * Not here: what a turn moves (isolated-queue.c), and what happens while
 * nobody owns the queue (isolated-queue-stop.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "isolated-queue-internal.h"

/*
 * What one dispatch may move.  Large enough that the cost of going round the
 * event loop disappears, small enough that a neighbour in the same thread does
 * not notice: of each, less than a millisecond's work.  A buffer of one byte
 * takes some 25 ns.
 */
const IsolatedBudget isolated_dispatch_budget = {
    .requests = 256,
    .bufs = 8192,
    .bytes = 8 * MiB,
};

/* An idle queue is trimmed between one and two of these after it fell idle. */
#define TRIM_MS 250
#define TRIM_REST 100

/*
 * One pass in one direction.  The other side says that there is something, and
 * when we look there is not: it could do so for ever.
 */
static void isolated_queue_pass(IsolatedQueue *q, IsolatedBudget *budget,
                                void (*pass)(IsolatedQueue *q,
                                             IsolatedBudget *budget))
{
    unsigned before = budget->requests;

    pass(q, budget);
    if (before && budget->requests == before) {
        budget->requests--;
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

/* Any thread.  The guest's eventfd is nobody's but QEMU's and the guest's. */
static void isolated_queue_come_back(IsolatedQueue *q)
{
    qatomic_set(&q->again, true);
    event_notifier_set(&q->guest_kick);
}

/* The rest of the work waits until the others of this thread had their turn. */
static bool isolated_queue_go_on(IsolatedQueue *q,
                                 const IsolatedBudget *budget)
{
    if (isolated_queue_broken(q)) {
        return false;
    }
    if (!isolated_budget_left(budget)) {
        isolated_queue_come_back(q);
        return false;
    }
    return true;
}

static void trim_clear(void *opaque, uint64_t offset, uint64_t size)
{
    const IsolatedQueue *q = opaque;

    bounce_region_clear(q->link->region, offset, size);
}

void isolated_queue_trim(IsolatedQueue *q)
{
    int64_t begin = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    bounce_pool_trim(q->link->pool, trim_clear, q);
    q->trim_ms = MAX(TRIM_MS, TRIM_REST *
                     (qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - begin));
}

/* Something was returned, perhaps: when that has been all, trim. */
static void isolated_queue_trim_later(IsolatedQueue *q)
{
    if (q->trim && !timer_pending(q->trim)) {
        q->trim_seen = stat64_get(&q->stats.requests);
        timer_mod(q->trim,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + q->trim_ms);
    }
}

static void on_trim_timer(void *opaque)
{
    IsolatedQueue *q = opaque;

    isolated_queue_assert_owner(q);
    if (isolated_queue_broken(q)) {
        return;
    }
    if (q->trim_seen != stat64_get(&q->stats.requests)) {
        isolated_queue_trim_later(q);
    } else {
        isolated_queue_trim(q);
    }
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
        isolated_queue_pass(q, budget, isolated_queue_forward);
        /* A waiting request is woken by what it waits for, not by a kick. */
    } while (isolated_queue_go_on(q, budget) && !isolated_queue_waits(q) &&
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
        isolated_queue_pass(q, budget, isolated_queue_return);
        go_on = isolated_queue_go_on(q, budget);
    } while (go_on && isolated_queue_arm_backend(q));

    isolated_queue_trim_later(q);
    if (go_on && isolated_queue_waits(q)) {
        isolated_queue_run_forward(q, budget);
    }
}

static void isolated_queue_run_both(IsolatedQueue *q)
{
    IsolatedBudget budget = q->budget;

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
    IsolatedBudget budget = q->budget;
    bool kicked = event_notifier_test_and_clear(n);

    /* After the event: it is set after @again. */
    if (qatomic_xchg(&q->again, false)) {
        isolated_queue_run_both(q);
        return;
    }
    if (kicked) {
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
    IsolatedBudget budget = q->budget;

    if (call_test_and_clear(n)) {
        isolated_count(&q->stats.calls, 1);
    }
    isolated_queue_run_return(q, &budget);
}

/* A queue with a waiting request has nothing to forward: polling would spin. */
static bool guest_has_work(void *opaque)
{
    IsolatedQueue *q = queue_of_guest_kick(opaque);

    return qatomic_read(&q->again) ||
           (!isolated_queue_waits(q) && guest_chain_pending(&q->guest));
}

static void on_guest_work(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_guest_kick(n);
    IsolatedBudget budget = q->budget;

    if (qatomic_read(&q->again)) {
        on_guest_kick(n);
        return;
    }
    isolated_queue_run_forward(q, &budget);
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
    if (!isolated_queue_waits(q)) {
        guest_chain_arm_kicks(&q->guest);
    }
}

static bool backend_has_work(void *opaque)
{
    return shadow_ring_has_used(queue_of_backend_call(opaque)->link->ring);
}

static void on_backend_work(EventNotifier *n)
{
    IsolatedQueue *q = queue_of_backend_call(n);
    IsolatedBudget budget = q->budget;

    isolated_queue_run_return(q, &budget);
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
    q->again = false;
    if (q->config.trim) {
        q->trim_ms = MAX(q->trim_ms, TRIM_MS);
        q->trim = aio_timer_new(ctx, QEMU_CLOCK_REALTIME, SCALE_MS,
                                on_trim_timer, q);
    }
    event_notifier_init_fd(&q->guest_kick, guest_chain_kick_fd(&q->guest));
    event_notifier_init_fd(&q->backend_call,
                           event_notifier_get_fd(&q->link->call));
    isolated_queue_set_state(q, ISOLATED_QUEUE_RUNNING);
    isolated_queue_watch(q, !bql);
    isolated_queue_run_both(q);
    if (!q->woken && !isolated_queue_broken(q)) {
        /*
         * Backends start a ring at its first kick, and after a resume their
         * event index may promise a kick that went to an earlier eventfd.
         */
        isolated_queue_kick(q);
        q->woken = true;
    }
}

void isolated_queue_look_again(IsolatedQueue *q)
{
    if (q->ctx) {
        isolated_queue_come_back(q);
    }
}

void isolated_queue_detach(IsolatedQueue *q)
{
    if (!q->ctx) {
        return;
    }
    isolated_queue_unwatch(q);
    g_clear_pointer(&q->trim, timer_free);
    q->ctx = NULL;
    if (!isolated_queue_broken(q)) {
        /* Whoever comes next may believe that the guest kicks. */
        guest_chain_arm_kicks(&q->guest);
        shadow_ring_suppress_calls(q->link->ring);
        isolated_queue_set_state(q, ISOLATED_QUEUE_STOPPING);
    }
    event_notifier_test_and_clear(&q->guest_kick);
}
