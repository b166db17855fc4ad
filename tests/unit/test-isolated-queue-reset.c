/*
 * Tests of the isolated queue when its guest is reset: what the backend still
 * has of the old guest is the new one's business in no way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

static void fetch(QueueHarness *h, unsigned num)
{
    while (num--) {
        g_assert_nonnull(backend_fetch(h));
    }
}

static void assert_state(QueueHarness *h, IsolatedQueueState state)
{
    g_assert_cmpint(isolated_queue_state(h->q), ==, state);
}

/* Everything is out once more, and nothing was returned twice. */
static void finish_all(QueueHarness *h, uint64_t num)
{
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, num);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 0);
    queue_stop(h, true);
    assert_state(h, ISOLATED_QUEUE_IDLE);
}

static void reset_with_requests_out(QueueHarness *h)
{
    queue_offer_many(h, 20, 1000, 1000);
    queue_settle(h);
    fetch(h, 8);
    queue_stop(h, true);
    queue_reset(h);
    queue_reset(h);
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, 8);
    queue_attach(h);

    /* Old and new ones are out together. */
    queue_offer_many(h, 5, 1000, 1000);
    queue_settle(h);
    fetch(h, 5);
    backend_complete(h, 12);
    while (h->held->len > 4) {
        backend_complete(h, 0);
    }
    backend_publish(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, 4);
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 5);
}

/* Without a stop: requests that the backend fetches afterwards are dead. */
static void reset_while_paused(QueueHarness *h)
{
    queue_offer_many(h, 20, 1000, 1000);
    queue_settle(h);
    fetch(h, 8);
    queue_detach(h);
    backend_complete(h, 3);
    backend_publish(h);
    queue_reset(h);
    g_assert_cmpuint(h->num_ahead, ==, 12);
    queue_attach(h);
    queue_offer_many(h, 5, 1000, 1000);
    queue_settle(h);
    fetch(h, 17);
    finish_all(h, 5);
}

static void reset_then_unfetched(QueueHarness *h)
{
    queue_offer_many(h, 10, 1000, 1000);
    queue_settle(h);
    fetch(h, 3);
    queue_detach(h);
    queue_reset(h);
    queue_attach(h);
    queue_offer_many(h, 5, 1000, 1000);
    queue_settle(h);
    queue_stop(h, true);
    assert_state(h, ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, 3);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 5);
    queue_attach(h);
    finish_all(h, 5);
}

static void reset_then_lost(QueueHarness *h)
{
    queue_offer_many(h, 20, 1000, 1000);
    queue_settle(h);
    fetch(h, 8);
    queue_detach(h);
    queue_reset(h);
    queue_reconnect(h);
    queue_attach(h);
    queue_settle(h);
    g_assert_false(mock_device_has_avail(&h->device));
    queue_offer_many(h, 5, 1000, 1000);
    finish_all(h, 5);
}

static void assert_orphans(QueueHarness *h, unsigned requests, unsigned descs,
                           uint64_t bytes, bool crowded)
{
    IsolatedOrphans orphans = isolated_queue_orphans(h->q);

    g_assert_cmpuint(orphans.requests, ==, requests);
    g_assert_cmpuint(orphans.descs, ==, descs);
    g_assert_cmpuint(orphans.bytes, ==, bytes);
    g_assert_cmpint(isolated_queue_crowded(h->q), ==, crowded);
}

/* @num requests that the backend has and keeps, and a reset. */
static void orphan(QueueHarness *h, unsigned num, uint32_t out, uint32_t in)
{
    queue_offer_many(h, num, out, in);
    queue_settle(h);
    fetch(h, num);
    queue_detach(h);
    queue_reset(h);
}

/* Of 64 descriptors, 16 may be theirs. */
static void orphans_that_hold_descriptors(QueueHarness *h)
{
    orphan(h, 3, 100, 100);
    assert_orphans(h, 3, 6, 3 * BOUNCE_GRANULE, false);
    queue_attach(h);
    orphan(h, 5, 100, 100);
    assert_orphans(h, 8, 16, 8 * BOUNCE_GRANULE, false);
    queue_attach(h);
    orphan(h, 1, 100, 0);
    assert_orphans(h, 9, 17, 9 * BOUNCE_GRANULE, true);
    queue_attach(h);
    backend_complete(h, 4);
    backend_publish(h);
    queue_settle(h);
    queue_detach(h);
    assert_orphans(h, 8, 15, 8 * BOUNCE_GRANULE, false);
    queue_attach(h);
    queue_offer_many(h, 5, 100, 100);
    finish_all(h, 5);
    assert_orphans(h, 0, 0, 0, false);
}

/* Of 64 KiB, 16 may be theirs. */
static void orphans_that_hold_bytes(QueueHarness *h)
{
    orphan(h, 2, 8 * KiB, 0);
    assert_orphans(h, 2, 2, 16 * KiB, false);
    g_assert_cmpuint(bounce_pool_held(h->link->pool), ==, 16 * KiB);
    queue_attach(h);
    orphan(h, 1, 1, 0);
    assert_orphans(h, 3, 3, 16 * KiB + BOUNCE_GRANULE, true);
    queue_reconnect(h);
    assert_orphans(h, 0, 0, 0, false);
    queue_attach(h);
    queue_offer(h, 64 * KiB, 0);
    finish_all(h, 1);
}

/* A few are not in the way, unless a request needs just what they have. */
static void request_that_orphans_block(QueueHarness *h)
{
    orphan(h, 1, 8 * KiB, 0);
    assert_orphans(h, 1, 1, 8 * KiB, false);
    queue_attach(h);
    queue_offer(h, 1 * KiB, 0);
    queue_settle(h);
    fetch(h, 1);
    queue_offer(h, 60 * KiB, 0);
    queue_settle(h);
    g_assert_true(h->parked);
    /* There is another one that may come back. */
    g_assert_cmpuint(h->num_starved, ==, 0);
    backend_complete(h, 1);
    backend_publish(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
    g_assert_true(h->parked);
    g_assert_cmpuint(h->num_starved, >=, 1);
    queue_detach(h);
    assert_orphans(h, 1, 1, 8 * KiB, true);
    queue_reconnect(h);
    assert_orphans(h, 0, 0, 0, false);
    queue_attach(h);
    queue_settle(h);
    g_assert_false(h->parked);
    finish_all(h, 2);
}

/* The guest resets as often as it likes; control does what the header says. */
static void full_ring_again_and_again(QueueHarness *h)
{
    uint64_t allocations = 0;
    unsigned num_renewed = 0;

    for (unsigned i = 0; i < 60; i++) {
        IsolatedOrphans orphans;

        queue_offer_many(h, i % 3 ? 40 : 3, 1000, 1000);
        queue_settle(h);
        backend_fetch_all(h);
        if (i % 2) {
            queue_stop(h, true);
        } else {
            queue_detach(h);
        }
        queue_reset(h);
        orphans = isolated_queue_orphans(h->q);
        g_assert_cmpuint(orphans.descs, <=, h->params.ring_size);
        g_assert_cmpuint(orphans.bytes, ==, bounce_pool_held(h->link->pool));
        if (isolated_queue_crowded(h->q)) {
            num_renewed++;
            queue_reconnect(h);
            assert_orphans(h, 0, 0, 0, false);
        }
        queue_attach(h);
        if (i == 5) {
            allocations = STAT(h, allocations);
        }
    }
    g_assert_cmpuint(num_renewed, >=, 40);
    g_assert_cmpuint(STAT(h, allocations), ==, allocations);
    queue_offer_many(h, 100, 1000, 1000);
    finish_all(h, 100);
}

static const QueueParams defaults;

static void run(const void *scenario)
{
    queue_run_matrix(&defaults, scenario);
}

static void run_small_share(const void *scenario)
{
    const QueueParams params = { .share = 64 * KiB };

    queue_run_matrix(&params, scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, scenario, how) \
    g_test_add_data_func("/isolated-queue/reset/" claim, scenario, how)
    ADD("orphans-do-not-reach-the-guest", reset_with_requests_out, run);
    ADD("backend-may-fetch-orphans", reset_while_paused, run);
    ADD("orphans-stay-when-newer-ones-go-back", reset_then_unfetched, run);
    ADD("new-connection-drops-orphans", reset_then_lost, run);
    ADD("orphans-with-a-quarter-of-the-ring-are-in-the-way",
        orphans_that_hold_descriptors, run);
    ADD("orphans-with-a-quarter-of-the-share-are-in-the-way",
        orphans_that_hold_bytes, run_small_share);
    ADD("orphans-that-alone-block-a-request-are-told",
        request_that_orphans_block, run_small_share);
    ADD("again-and-again-takes-no-more-memory", full_ring_again_and_again,
        run);
#undef ADD
    return g_test_run();
}
