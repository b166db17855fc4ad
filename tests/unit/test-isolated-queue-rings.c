/*
 * Tests of the isolated queue between two rings that have nothing in common:
 * each of {split, packed} with and without event_idx and indirect tables on
 * the guest's side, with each of them on the backend's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

/* Both rings go round several times, and are full now and then. */
static const QueueParams small = {
    .ring_size = 16,
    .guest_ring_size = 128,
    .num_requests = 20,
    .slot_bytes = 64 * KiB,
    .share = 256 * KiB,
};

static unsigned offer_some(QueueHarness *h, unsigned max)
{
    unsigned num = 0;

    for (int n = g_test_rand_int_range(1, max + 1); n > 0; n--) {
        num += !!queue_offer_random(h, 2000);
    }
    return num;
}

static void use_some(QueueHarness *h)
{
    while (h->held->len && g_test_rand_int_range(0, 8)) {
        backend_complete(h, g_test_rand_int_range(0, h->held->len));
    }
}

static void everything_returned(QueueHarness *h, uint64_t num)
{
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, num);
    g_assert_cmpuint(STAT(h, requests), ==, num);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 0);
    queue_stop(h, true);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
}

static void data(QueueHarness *h)
{
    uint64_t num = 0;

    for (unsigned i = 0; i < 40; i++) {
        num += offer_some(h, 20);
        queue_settle(h);
        backend_fetch_all(h);
        use_some(h);
        backend_publish(h);
        queue_settle(h);
        queue_collect(h);
    }
    everything_returned(h, num);
}

static void stops(QueueHarness *h)
{
    uint64_t num = 0;

    for (unsigned i = 0; i < 40; i++) {
        num += offer_some(h, 20);
        if (g_test_rand_bit()) {
            queue_settle(h);
        }
        while (g_test_rand_int_range(0, 8) && backend_fetch(h)) {
            continue;
        }
        use_some(h);
        queue_stop(h, true);
        queue_attach(h);
    }
    everything_returned(h, num);
}

static void losses(QueueHarness *h)
{
    uint64_t num = 0;

    for (unsigned i = 0; i < 20; i++) {
        num += offer_some(h, 20);
        queue_settle(h);
        while (g_test_rand_int_range(0, 8) && backend_fetch(h)) {
            continue;
        }
        use_some(h);
        if (g_test_rand_bit()) {
            backend_publish(h);
        }
        queue_stop(h, false);
        queue_reconnect(h);
        queue_attach(h);
    }
    everything_returned(h, num);
}

static void offer_long(QueueHarness *h, unsigned num)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 16, 16, 0);
    for (unsigned i = 0; i + 2 < num; i++) {
        mock_guest_add(h->guest, r, true, 100, 16, 0);
    }
    mock_guest_add(h->guest, r, true, 1, 16, 0);
    queue_offer_request(h, r);
}

/* So long are those of Windows, whatever the queue size. */
static void windows_request(QueueHarness *h)
{
    queue_offer(h, 100, 100);
    queue_settle(h);
    offer_long(h, 515);
    queue_offer(h, 100, 100);
    if (!h->params.indirect) {
        queue_assert_broken(h, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                            "a request of 515 descriptors is longer than the "
                            "backend's ring of 256");
        return;
    }
    queue_settle(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, 3);
    for (unsigned i = 0; i < 3; i++) {
        const BackendRequest *r = g_ptr_array_index(h->held, i);

        /* The boundaries of the buffers are compared when it is fetched. */
        g_assert_cmpint(r->ring.indirect, ==, i == 1);
    }
    everything_returned(h, 3);
}

static void test_windows(void)
{
    const QueueParams params = {
        .ring_size = 256, .num_requests = 8, .slot_bytes = 512 * KiB,
    };

    queue_run_ring_pairs(&params, windows_request);
}

/* As long as the ring: it waits until that is empty, or takes a table. */
static void whole_ring(QueueHarness *h)
{
    for (unsigned i = 0; i < 6; i++) {
        queue_offer(h, 100, 0);
        queue_settle(h);
        offer_long(h, 16);
        queue_settle(h);
        g_assert_cmpint(h->parked, ==, !h->params.indirect);
        g_assert_cmpuint(backend_fetch_all(h), ==, 1 + h->params.indirect);
        queue_finish(h);
    }
    everything_returned(h, 12);
}

static void run_small(const void *scenario)
{
    queue_run_ring_pairs(&small, scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, scenario) \
    g_test_add_data_func("/isolated-queue/any-two-rings/" claim, scenario, \
                         run_small)
    ADD("data-arrives-and-comes-back", data);
    ADD("stop-at-any-moment-loses-nothing", stops);
    ADD("lost-connection-loses-nothing", losses);
    ADD("request-as-long-as-the-ring-goes", whole_ring);
#undef ADD
    g_test_add_func("/isolated-queue/any-two-rings/"
                    "request-longer-than-the-ring-takes-a-table-or-breaks",
                    test_windows);
    return g_test_run();
}
