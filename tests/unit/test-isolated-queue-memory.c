/*
 * Tests of what the isolated queue allocates, and what it keeps.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "count-malloc.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

static unsigned num_mallocs;

static void start_counting(QueueHarness *h)
{
    count_malloc_start();
}

static void stop_counting(QueueHarness *h)
{
    num_mallocs = count_malloc_stop();
}

/* As many disk requests as the ring takes, and more. */
static void disk_requests(QueueHarness *h, unsigned num)
{
    while (num) {
        for (unsigned i = MIN(num, 40); i > 0; i--, num--) {
            MockGuestRequest *r = mock_guest_get(h->guest);

            mock_guest_add(h->guest, r, false, 16, 16, 0);
            mock_guest_add(h->guest, r, num % 2, 4 * KiB, 4 * KiB, 0);
            mock_guest_add(h->guest, r, true, 1, 1, 0);
            queue_offer_request(h, r);
        }
        queue_finish(h);
    }
}

static void steady_state(QueueHarness *h)
{
    uint64_t allocations;

    disk_requests(h, 200);
    allocations = STAT(h, allocations);
    queue_call(h, start_counting);
    disk_requests(h, 10000);
    queue_call(h, stop_counting);
    g_assert_cmpuint(STAT(h, allocations), ==, allocations);
    g_assert_cmpuint(num_mallocs, ==, 0);
    g_assert_cmpuint(STAT(h, requests), ==, 10200);
}

static void test_steady_state(void)
{
    const QueueParams params = { .slot_bytes = 64 * KiB };

    if (!count_malloc_works()) {
        g_test_skip("allocations cannot be counted here");
        return;
    }
    queue_run_matrix(&params, steady_state);
}

/*
 * As a network device has them: receive buffers that are always out, as many as
 * the ring takes, and they come back in any order.
 */
static void receive_buffers(QueueHarness *h)
{
    uint64_t allocations;

    queue_offer_many(h, 200, 0, 1526);
    queue_settle(h);
    /* Which is why such a queue begins with twice as many as its ring has. */
    g_assert_cmpuint(STAT(h, allocations), ==, 2 * 200);
    allocations = STAT(h, allocations);
    for (unsigned i = 0; i < 200; i++) {
        backend_fetch_all(h);
        for (unsigned n = 0; n < 20; n++) {
            backend_complete(h, g_test_rand_int_range(0, h->held->len));
        }
        backend_publish(h);
        queue_settle(h);
        g_assert_cmpuint(queue_collect(h), ==, 20);
        queue_offer_many(h, 20, 0, 1526);
        queue_settle(h);
    }
    g_assert_cmpuint(STAT(h, allocations), ==, allocations);
    queue_finish(h);
}

static void test_receive_buffers(void)
{
    const QueueParams params = {
        .ring_size = 256, .num_requests = 200, .slot_bytes = 4 * KiB,
    };

    queue_run_matrix(&params, receive_buffers);
}

/* As vsock has them: from a header alone to a header and many pages. */
static void requests_of_any_length(QueueHarness *h)
{
    uint64_t allocations = 0;

    for (unsigned i = 0; i < 600; i++) {
        if (i == 300) {
            allocations = STAT(h, allocations);
            /* Each has grown from 4 buffers to 32, or less often. */
            g_assert_cmpuint(allocations, <=, 8 * (1 + 4));
        }
        for (unsigned n = 0; n < 8; n++) {
            MockGuestRequest *r = mock_guest_get(h->guest);

            for (int num = g_test_rand_int_range(1, 19); num > 0; num--) {
                mock_guest_add(h->guest, r, false, 44, 16, 0);
            }
            queue_offer_request(h, r);
        }
        queue_finish(h);
    }
    g_assert_cmpuint(STAT(h, allocations), ==, allocations);
}

/* From one buffer to four they are alike. */
static void short_chains(QueueHarness *h)
{
    for (unsigned num = 1; num <= 4; num++) {
        MockGuestRequest *r = mock_guest_get(h->guest);

        for (unsigned i = 0; i < num; i++) {
            mock_guest_add(h->guest, r, false, 16, 16, 0);
        }
        queue_offer_request(h, r);
        queue_finish(h);
        g_assert_cmpuint(STAT(h, allocations), ==, 2);
    }
}

static void test_any_length(void)
{
    const QueueParams params = {
        .ring_size = 256, .num_requests = 8, .slot_bytes = 16 * KiB,
    };

    queue_run_matrix(&params, short_chains);
    queue_run_matrix(&params, requests_of_any_length);
}

static void offer_long(QueueHarness *h, unsigned num, unsigned bufs)
{
    while (num--) {
        MockGuestRequest *r = mock_guest_get(h->guest);

        for (unsigned j = 0; j < bufs; j++) {
            mock_guest_add(h->guest, r, true, 1, 1, 0);
        }
        queue_offer_request(h, r);
    }
}

/* As many of the longest as it can have out; then what it keeps is little. */
static void longest_chains(QueueHarness *h)
{
    for (unsigned i = 0; i < 4; i++) {
        offer_long(h, 70, 900);
        queue_settle(h);
        g_assert_cmpuint(h->q->num_bufs, >=, 70 * KiB);
        if (i == 3) {
            /* They become orphans, and go with their connection. */
            backend_fetch_all(h);
            queue_detach(h);
            queue_reset(h);
            queue_reconnect(h);
            queue_attach(h);
        }
        queue_finish(h);
        g_assert_cmpuint(h->q->num_bufs, <=, 64 * KiB);
        g_assert_cmpuint(h->q->num_bufs, >, 32 * KiB);
    }
}

static void deep_queue(QueueHarness *h)
{
    uint64_t allocations = 0;

    for (unsigned i = 0; i < 10; i++) {
        offer_long(h, 100, 258);
        queue_finish(h);
        if (!i) {
            allocations = STAT(h, allocations);
        }
    }
    g_assert_cmpuint(STAT(h, allocations), ==, allocations);
}

static void test_longest_chains(void)
{
    const QueueParams params = {
        .ring_size = 128, .indirect = true, .guest_indirect = true,
        .guest_ring_size = 32768, .slot_bytes = 256 * KiB,
        .num_requests = 100, .share = 64 * MiB,
    };

    queue_run_matrix(&params, longest_chains);
    queue_run_matrix(&params, deep_queue);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

    g_test_add_func("/isolated-queue/memory/requests-allocate-nothing",
                    test_steady_state);
    g_test_add_func("/isolated-queue/memory/receive-buffers-allocate-once",
                    test_receive_buffers);
    g_test_add_func("/isolated-queue/memory/any-length-allocates-for-a-while",
                    test_any_length);
    g_test_add_func("/isolated-queue/memory/longest-chains-are-given-back",
                    test_longest_chains);
    return g_test_run();
}
