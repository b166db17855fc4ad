/*
 * Queue harness: an isolated queue between a mock guest and a mock device,
 * and a model of what must come out.
 *
 * This file plays control: it makes connections, starts and stops the queue
 * as vhost does, and lets it run.  The BQL is the main thread's here: no other
 * ever has it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "hw/virtio/vhost-user-compat.h"
#include "mock-data.h"
#include "queue-harness.h"

#define PAGE BOUNCE_ALIGN_MAX
#define POLL_MAX_NS 200000
#define LOST_US (20 * G_USEC_PER_SEC)

/*
 * aio_poll() looks at no handler while a bottom half is due, and there is one
 * all the time if the other threads leave the queue's no time to do without.
 * And one that polls, for a second in some tests, does not look at an eventfd
 * that was never set before.
 */
#define PAUSE_MAX_US (2 * G_USEC_PER_SEC)

static __thread bool bql_is_locked;

bool bql_locked(void)
{
    return bql_is_locked;
}

void bql_lock_impl(const char *file, int line)
{
    bql_is_locked = true;
}

void bql_unlock(void)
{
    bql_is_locked = false;
}

void bql_block_unlock(bool increase)
{
}

/* A newer QEMU asks for these too, and would find its own of all of them. */
#if !QEMU_OLDER_THAN(10, 2)
bool mutex_is_bql(QemuMutex *mutex)
{
    return false;
}

void bql_update_status(bool locked)
{
}
#endif

/* The queue's thread. */

/*
 * Not a QemuEvent: a late wake-up for the last one on the stack would end the
 * wait for this one.
 */
typedef struct Call {
    QueueHarness *h;
    void (*fn)(QueueHarness *h);
    QemuSemaphore done;
} Call;

static void call_in_iothread(void *opaque)
{
    Call *call = opaque;

    call->fn(call->h);
    qemu_sem_post(&call->done);
}

void queue_call(QueueHarness *h, void (*fn)(QueueHarness *h))
{
    Call call = { .h = h, .fn = fn };

    if (!h->iothread) {
        fn(h);
        return;
    }
    qemu_sem_init(&call.done, 0);
    aio_bh_schedule_oneshot(h->ctx, call_in_iothread, &call);
    qemu_sem_wait(&call.done);
    qemu_sem_destroy(&call.done);
}

/* If nothing is out, a request has only to be looked at again. */
static bool waits_for_backend(const QueueHarness *h)
{
    return QTAILQ_FIRST(&h->q->in_flight) != h->q->next_unsent ||
           !QTAILQ_EMPTY(&h->q->orphans);
}

/* A request that is copied in parts, either way. */
static bool is_in_parts(const IsolatedQueue *q)
{
    return q->returning || (q->next_unsent && q->next_unsent->span_bytes);
}

/*
 * In the queue's thread: is nothing left to do?  A queue that polls, or whose
 * thread has not got round to it yet, can look idle from outside.
 */
static void look_for_work(QueueHarness *h)
{
    bool attached = isolated_queue_attached(h->q) &&
                    isolated_queue_state(h->q) != ISOLATED_QUEUE_BROKEN;

    h->parked = attached && h->q->next_unsent;
    h->idle = !attached ||
              (!is_in_parts(h->q) && !shadow_ring_has_used(h->link->ring) &&
               (h->parked ? waits_for_backend(h)
                          : !mock_guest_num_offered(h->guest)));
}

/* Of a queue that polls: it looks as long as its thread likes, at nothing. */
static bool looks_mean_work(const QueueHarness *h)
{
    return h->params.owner != QUEUE_OWNER_POLLING_IOTHREAD;
}

/* Grows with everything that the queue does. */
static uint64_t activity(const QueueHarness *h)
{
    const IsolatedQueueStats *stats = isolated_queue_stats(h->q);

    return (looks_mean_work(h) ? qatomic_read(&h->guest->num_looks) : 0) +
           qatomic_read(&h->guest->num_pops) +
           qatomic_read(&h->guest->num_calls) +
           stat64_get(&stats->kicks) + stat64_get(&stats->calls) +
           stat64_get(&stats->guest_kicks) + stat64_get(&stats->parked) +
           stat64_get(&stats->forward_runs) + stat64_get(&stats->return_runs);
}

void queue_settle(QueueHarness *h)
{
    int64_t deadline = g_get_monotonic_time() + LOST_US;
    unsigned pause_us = 1;
    uint64_t seen;
    bool moved;

    do {
        seen = activity(h);
        main_loop_wait(true);
        queue_call(h, look_for_work);
        moved = qatomic_xchg(&h->guest->asked, false);
        if (moved) {
            h->idle = false;
            isolated_queue_look_again(h->q);
        }
        main_loop_wait(true);
        moved |= activity(h) != seen;
        if (moved) {
            pause_us = 1;
        } else if (!h->idle) {
            g_usleep(pause_us);
            pause_us = MIN(2 * pause_us, PAUSE_MAX_US);
        }
        /* A kick or call was lost, or the queue does not come to rest. */
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
    } while (!h->idle || moved);
    if (h->armed && mock_device_has_avail(&h->device)) {
        g_assert_true(event_notifier_test_and_clear(&h->link->kick));
        h->armed = false;
    }
}

/* The connection. */

static void link_new(QueueHarness *h)
{
    ShadowRingLayout layout = shadow_ring_layout(h->params.format,
                                                 h->params.ring_size);
    uint64_t start = PAGE + ROUND_UP(layout.bytes, PAGE);
    IsolatedLink *link = g_new0(IsolatedLink, 1);

    link->region = bounce_region_new(start + h->params.share, &error_abort);
    h->config = (ShadowRingConfig) {
        .format = h->params.format,
        .size = h->params.ring_size,
        .event_idx = h->params.event_idx,
        .indirect = h->params.indirect,
        .mem = link->region->host + PAGE,
    };
    link->ring = shadow_ring_new(&h->config);
    link->pool = bounce_pool_new(start, h->params.share, h->params.ring_size);
    g_assert_cmpint(event_notifier_init(&link->kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&link->call, 0), ==, 0);
    mock_device_init(&h->device, &h->config);
    h->device.tables = link->region->host + start;
    h->device.tables_addr = link->region->guest_base + start;
    h->device.tables_bytes = h->params.share;
    h->link = link;
}

static void link_free(IsolatedLink *link)
{
    mock_mark_check_secret(link->region->host, link->region->size);
    bounce_pool_check(link->pool);
    event_notifier_cleanup(&link->kick);
    event_notifier_cleanup(&link->call);
    shadow_ring_free(link->ring);
    bounce_pool_free(link->pool);
    bounce_region_free(link->region);
    g_free(link);
}

static void drop_held(QueueHarness *h)
{
    for (unsigned i = 0; i < h->held->len; i++) {
        g_ptr_array_add(h->spare, g_ptr_array_index(h->held, i));
    }
    g_ptr_array_set_size(h->held, 0);
}

/* The control path. */

static void do_attach(QueueHarness *h)
{
    mock_guest_own(h->guest, !h->iothread);
    isolated_queue_connect(h->q, h->link);
    isolated_queue_attach(h->q, h->ctx, !h->iothread);
}

void queue_attach(QueueHarness *h)
{
    bool woken = h->q->woken && h->q->link == h->link;

    if (h->stopped) {
        /* SET_VRING_BASE */
        mock_device_resume(&h->device, shadow_ring_base(h->link->ring));
        h->stopped = false;
    }
    if (!woken) {
        event_notifier_test_and_clear(&h->link->kick);
    }
    isolated_queue_translate(h->q, h->params.translated ?
                                   (GuestIotlb *)h->guest : NULL);
    h->q->budget.bytes = h->params.part_bytes ?: h->q->budget.bytes;
    queue_call(h, do_attach);
    if (woken) {
        return;
    }
    if (isolated_queue_state(h->q) != ISOLATED_QUEUE_BROKEN) {
        /* Whatever the backend has asked for. */
        g_assert_true(event_notifier_test_and_clear(&h->link->kick));
    }
    h->armed = false;
}

static void do_detach(QueueHarness *h)
{
    bool attached = isolated_queue_attached(h->q);

    isolated_queue_detach(h->q);
    g_assert_false(isolated_queue_attached(h->q));
    /* A kick that came too late would start a legacy device. */
    g_assert_false(event_notifier_test_and_clear(&h->guest->kick) && attached);
    mock_guest_disown(h->guest);
}

void queue_detach(QueueHarness *h)
{
    queue_call(h, do_detach);
}

void queue_stop_begin(QueueHarness *h)
{
    queue_detach(h);
    mock_guest_own(h->guest, true);
    isolated_queue_unpark(h->q);
}

/* What the backend fetched from @base on, it has forgotten. */
static void model_stopped(QueueHarness *h, uint32_t base)
{
    /* A packed ring's answer has a second half. */
    while ((uint16_t)mock_device_base(&h->device) != (uint16_t)base) {
        BackendRequest *r = g_ptr_array_steal_index(h->held,
                                                    h->held->len - 1);

        if (r->guest) {
            h->num_fetched--;
            r->guest->fetched = false;
        }
        mock_device_unfetch(&h->device, r->ring.id);
        g_ptr_array_add(h->spare, r);
    }
    h->num_ahead = 0;
}

void queue_stop_end(QueueHarness *h, uint32_t base)
{
    IsolatedQueueState state = isolated_queue_state(h->q);
    unsigned kept = isolated_queue_in_flight(h->q);

    mock_guest_disown(h->guest);
    queue_collect(h);
    h->stopped = true;
    if (state == ISOLATED_QUEUE_BROKEN) {
        return;
    }
    g_assert_cmpuint(h->used_num, ==, 0);
    model_stopped(h, base);
    g_assert_cmpint(state, ==, kept ? ISOLATED_QUEUE_KEPT
                                    : ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(kept, >=, h->num_fetched);
    g_assert_cmpuint(kept + mock_guest_num_offered(h->guest), ==, h->out->len);
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, h->held->len);
    bounce_pool_check(h->link->pool);
}

void queue_stop(QueueHarness *h, bool alive)
{
    uint32_t base = mock_device_base(&h->device);

    queue_stop_begin(h);
    if (alive) {
        mock_device_publish(&h->device);
    }
    isolated_queue_drain(h->q);
    isolated_queue_stopped(h->q, alive ? base : 0x1234, alive);
    if (alive) {
        queue_stop_end(h, base);
    } else {
        mock_guest_disown(h->guest);
        queue_collect(h);
    }
}

void queue_reconnect(QueueHarness *h)
{
    IsolatedLink *old = h->link;

    queue_collect(h);
    isolated_queue_disconnect(h->q);
    link_free(old);
    mock_device_cleanup(&h->device);
    link_new(h);
    isolated_queue_connect(h->q, h->link);
    for (unsigned i = 0; i < h->num_fetched; i++) {
        MockGuestRequest *r = g_ptr_array_index(h->out, i);

        r->fetched = false;
    }
    h->num_fetched = 0;
    h->num_ahead = 0;
    h->used_num = 0;
    h->stopped = false;
    h->armed = false;
    drop_held(h);
}

/* Requests that the backend can see and has not fetched. */
static unsigned num_unfetched(QueueHarness *h)
{
    g_autofree MockRequest *request = g_new(MockRequest, 1);
    g_autofree uint16_t *ids = g_new(uint16_t, h->params.ring_size);
    unsigned num = 0;

    while (mock_device_fetch(&h->device, request)) {
        ids[num++] = request->id;
    }
    for (unsigned i = num; i > 0; i--) {
        mock_device_unfetch(&h->device, ids[i - 1]);
    }
    return num;
}

void queue_reset(QueueHarness *h)
{
    isolated_queue_reset(h->q);
    mock_guest_reset(h->guest);
    g_ptr_array_set_size(h->out, 0);
    h->num_fetched = 0;
    h->used_num = 0;
    h->num_ahead = h->stopped ? 0 : num_unfetched(h);
    for (unsigned i = 0; i < h->held->len; i++) {
        BackendRequest *r = g_ptr_array_index(h->held, i);

        r->guest = NULL;
    }
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
}

static void on_faulted(void *opaque)
{
    QueueHarness *h = opaque;

    h->num_faulted++;
}

static void on_starved(void *opaque)
{
    QueueHarness *h = opaque;

    h->num_starved++;
}

static void set_up_owner(QueueHarness *h)
{
    if (h->params.owner == QUEUE_OWNER_MAIN_LOOP) {
        h->ctx = iohandler_get_aio_context();
        return;
    }
    h->iothread = iothread_new();
    h->ctx = iothread_get_aio_context(h->iothread);
    if (h->params.owner == QUEUE_OWNER_POLLING_IOTHREAD) {
        aio_context_set_poll_params(h->ctx, POLL_MAX_NS, 0, 0, &error_abort);
    }
}

QueueHarness *queue_harness_new(const QueueParams *params)
{
    QueueHarness *h = g_new0(QueueHarness, 1);

    h->params = *params;
    h->params.ring_size = params->ring_size ?: 64;
    h->params.share = params->share ?: 8 * MiB;
    h->params.num_requests = params->num_requests ?: 128;
    h->params.slot_bytes = params->slot_bytes ?: 1 * MiB;
    bql_lock_impl(__FILE__, __LINE__);
    set_up_owner(h);
    h->guest = mock_guest_new(&(MockGuestParams) {
        .num_requests = h->params.num_requests,
        .slot_bytes = h->params.slot_bytes,
        .format = params->guest_format,
        .ring_size = params->guest_ring_size ?: MOCK_GUEST_MAX,
        .event_idx = params->guest_event_idx,
        .indirect = params->guest_indirect,
    });
    h->guest->translated = params->translated;
    h->faulted = qemu_bh_new(on_faulted, h);
    h->starved = qemu_bh_new(on_starved, h);
    h->out = g_ptr_array_sized_new(h->params.num_requests);
    h->held = g_ptr_array_sized_new(h->params.ring_size);
    h->spare = g_ptr_array_new_with_free_func(g_free);
    h->used = g_new0(QueueCompletion, MOCK_GUEST_MAX);
    h->q = isolated_queue_new(&(IsolatedQueueConfig) {
        .name = "harness",
        .vq = (VirtQueue *)h->guest,
        .scrub = !params->no_scrub,
        .wipe = params->wipe,
        .all_writable = params->all_writable,
        .merges = params->merges,
        .faulted = h->faulted,
        .starved = h->starved,
    });
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
    link_new(h);
    isolated_queue_connect(h->q, h->link);
    queue_attach(h);
    return h;
}

void queue_harness_free(QueueHarness *h)
{
    if (isolated_queue_attached(h->q)) {
        queue_detach(h);
    }
    isolated_queue_disconnect(h->q);
    isolated_queue_free(h->q);
    link_free(h->link);
    mock_device_cleanup(&h->device);
    if (h->iothread) {
        iothread_join(h->iothread);
    }
    qemu_bh_delete(h->faulted);
    qemu_bh_delete(h->starved);
    mock_guest_free(h->guest);
    drop_held(h);
    g_ptr_array_unref(h->spare);
    g_ptr_array_unref(h->held);
    g_ptr_array_unref(h->out);
    g_free(h->used);
    g_free(h);
}
