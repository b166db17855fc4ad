/*
 * Tests of what the isolated queue tells its guest: completions, as soon as
 * they can be seen and not before, and whether to kick.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)
#define LOST_US (20 * G_USEC_PER_SEC)

static const QueueParams defaults;

static void assert_told(QueueHarness *h, unsigned told, unsigned out)
{
    g_assert_cmpuint(queue_collect(h), ==, told);
    g_assert_cmpuint(STAT(h, requests), ==, h->num_returned);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, out);
}

/* The oldest @num of what the backend has. */
static void complete_oldest(QueueHarness *h, unsigned num)
{
    while (num--) {
        backend_complete(h, 0);
    }
    backend_publish(h);
}

/*
 * Of ten requests six are completed, and the guest can see none of it: it took
 * bus mastering away after the second completion was entered.
 */
static void complete_six_unseen(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    backend_fetch_all(h);
    queue_detach(h);
    h->guest->unusable_after = 2;
    complete_oldest(h, 4);
    queue_attach(h);
    queue_settle(h);
    g_assert_true(qatomic_read(&h->guest->unusable));
    assert_told(h, 0, 10);
    g_assert_cmpuint(bounce_pool_held(h->link->pool), ==,
                     6 * BOUNCE_GRANULE);
    /* Others come while it lasts. */
    complete_oldest(h, 2);
    queue_settle(h);
    assert_told(h, 0, 10);
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, 4);
}

static void finish_all(QueueHarness *h, uint64_t num)
{
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, num);
    queue_stop(h, true);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
}

static void told_with_the_next_batch(QueueHarness *h)
{
    complete_six_unseen(h);
    queue_detach(h);
    h->guest->unusable = false;
    queue_attach(h);
    queue_settle(h);
    assert_told(h, 6, 4);
    finish_all(h, 10);
}

/* Twice in a row, and with a guest that goes on meanwhile. */
static void told_once_however_often(QueueHarness *h)
{
    complete_six_unseen(h);
    for (unsigned i = 1; i < 6; i++) {
        queue_detach(h);
        h->guest->unusable = false;
        h->guest->unusable_after = i;
        queue_attach(h);
        queue_settle(h);
        assert_told(h, 0, 10);
    }
    queue_detach(h);
    h->guest->unusable = false;
    queue_offer_many(h, 10, 100, 100);
    queue_attach(h);
    queue_settle(h);
    assert_told(h, 6, 14);
    finish_all(h, 20);
}

/* As the control path stops a device that cannot see. */
static void stop_blind(QueueHarness *h)
{
    queue_detach(h);
    mock_guest_own(h->guest, true);
    isolated_queue_unpark(h->q);
    g_assert_cmpuint(isolated_queue_drain(h->q), ==, 0);
    isolated_queue_stopped(h->q, mock_device_base(&h->device), true);
    mock_guest_disown(h->guest);
    h->stopped = true;
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_KEPT);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 10);
}

static void told_after_a_stop(QueueHarness *h)
{
    complete_six_unseen(h);
    stop_blind(h);
    h->guest->unusable = false;
    queue_attach(h);
    queue_settle(h);
    assert_told(h, 6, 4);
    finish_all(h, 10);
}

/* All requests were completed; so nothing goes back, although none is out. */
static void told_by_a_stop(QueueHarness *h)
{
    complete_six_unseen(h);
    complete_oldest(h, 4);
    queue_settle(h);
    stop_blind(h);
    h->guest->unusable = false;
    mock_guest_own(h->guest, true);
    isolated_queue_unpark(h->q);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 10);
    g_assert_cmpuint(isolated_queue_drain(h->q), ==, 0);
    mock_guest_disown(h->guest);
    assert_told(h, 10, 0);
    queue_attach(h);
    finish_all(h, 10);
}

/* The next backend gets what the last one has not completed, and no more. */
static void told_with_another_backend(QueueHarness *h)
{
    /* The model believes that all is sent again. */
    for (unsigned i = 0; i < 6; i++) {
        MockGuestRequest *r = g_ptr_array_index(h->out, i);

        r->fetched = true;
    }
    h->num_fetched = 6;
    h->used_num = 6;
    h->guest->unusable = false;
    queue_attach(h);
    queue_settle(h);
    assert_told(h, 6, 4);
    g_assert_cmpuint(backend_fetch_all(h), ==, 4);
    finish_all(h, 10);
}

static void told_after_a_new_connection(QueueHarness *h)
{
    complete_six_unseen(h);
    queue_detach(h);
    queue_reconnect(h);
    told_with_another_backend(h);
}

static void told_where_it_was_loaded(QueueHarness *h)
{
    complete_six_unseen(h);
    stop_blind(h);
    queue_travel(h);
    told_with_another_backend(h);
}

static void never_told_after_a_reset(QueueHarness *h)
{
    complete_six_unseen(h);
    queue_detach(h);
    queue_reset(h);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 0);
    g_assert_cmpuint(isolated_queue_orphans(h->q).requests, ==, 4);
    h->guest->unusable = false;
    queue_attach(h);
    queue_offer_many(h, 5, 100, 100);
    finish_all(h, 5);
}

/* Nobody looks any more, so whoever comes next is told. */
static void assert_kicks(QueueHarness *h)
{
    uint64_t kicks = h->guest->num_kicks;

    g_assert_false(isolated_queue_attached(h->q));
    queue_offer(h, 100, 100);
    g_assert_cmpuint(h->guest->num_kicks, ==, kicks + 1);
    event_notifier_test_and_clear(&h->guest->kick);
}

/* Two fit, and the third was popped too. */
static void left_while_a_request_waits(QueueHarness *h)
{
    queue_offer_many(h, 3, 100, 100);
    queue_settle(h);
    g_assert_true(h->parked);
    queue_detach(h);
    assert_kicks(h);
    queue_attach(h);
    finish_all(h, 4);
}

static void detach_if_polled(QueueHarness *h)
{
    if (h->q->guest_polled) {
        isolated_queue_detach(h->q);
        mock_guest_disown(h->guest);
    }
}

/* The more often a kick comes soon enough, the longer it polls. */
static void left_while_it_polls(QueueHarness *h)
{
    int64_t deadline = g_get_monotonic_time() + LOST_US;
    uint64_t num = 0;

    /* "Soon" on a busy machine. */
    aio_context_set_poll_params(h->ctx, NANOSECONDS_PER_SECOND, 0, 0,
                                &error_abort);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        queue_offer(h, 100, 100);
        queue_finish(h);
        num++;
        queue_call(h, detach_if_polled);
    } while (isolated_queue_attached(h->q));
    assert_kicks(h);
    queue_attach(h);
    finish_all(h, num + 1);
}

static void run(const void *scenario)
{
    queue_run_matrix(&defaults, scenario);
}

static void run_small(const void *scenario)
{
    const QueueParams params = { .ring_size = 4 };

    queue_run_matrix(&params, scenario);
}

static void run_polling(const void *scenario)
{
    QueueParams p = { .owner = QUEUE_OWNER_POLLING_IOTHREAD };

    for (unsigned i = 0; i < 4; i++) {
        p.guest_event_idx = i & 1;
        p.guest_format = i & 2 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        queue_run_one(&p, scenario);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, scenario, how) \
    g_test_add_data_func("/isolated-queue/" claim, scenario, how)
    ADD("unseen/completions-come-when-the-guest-can-see",
        told_with_the_next_batch, run);
    ADD("unseen/completions-come-once", told_once_however_often, run);
    ADD("unseen/completions-are-kept-by-a-stop", told_after_a_stop, run);
    ADD("unseen/completions-are-no-requests", told_by_a_stop, run);
    ADD("unseen/completions-outlive-their-connection",
        told_after_a_new_connection, run);
    ADD("unseen/completions-travel", told_where_it_was_loaded, run);
    ADD("unseen/completions-end-with-a-reset", never_told_after_a_reset, run);
    ADD("signal/kicks-are-asked-for-when-a-waiting-queue-is-left",
        left_while_a_request_waits, run_small);
    ADD("signal/kicks-are-asked-for-when-a-polling-queue-is-left",
        left_while_it_polls, run_polling);
#undef ADD
    return g_test_run();
}
