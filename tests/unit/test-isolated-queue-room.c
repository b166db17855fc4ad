/*
 * Tests of where the isolated queue puts its requests: descriptors, tables and
 * bounce space that are there, are not there now, or never will be.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

static void offer_bufs(QueueHarness *h, bool writable, unsigned num,
                       uint32_t len)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    while (num--) {
        mock_guest_add(h->guest, r, writable, len, 4096, 0);
    }
    queue_offer_request(h, r);
}

/* As large as the share, while there are no descriptors either. */
static void waits_for_the_whole_share(QueueHarness *h)
{
    queue_offer_many(h, 6, 16, 0);
    offer_bufs(h, false, 4, 16 * KiB);
    queue_settle(h);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_RUNNING);
    g_assert_true(h->parked);
    queue_finish(h);
    g_assert_cmpuint(STAT(h, requests), ==, 7);
}

static void test_whole_share(void)
{
    const QueueParams params = {
        .ring_size = 8, .indirect = true, .share = 64 * KiB,
    };

    queue_run_matrix(&params, waits_for_the_whole_share);
}

/* A receive buffer gets a table, unless that is what does not fit. */
static void receives_without_table(QueueHarness *h)
{
    const BackendRequest *r;

    offer_bufs(h, true, 4, 12 * KiB);
    queue_settle(h);
    r = backend_fetch(h);
    g_assert_nonnull(r);
    g_assert_true(r->ring.indirect);
    queue_finish(h);

    offer_bufs(h, true, 4, 16 * KiB);
    queue_settle(h);
    g_assert_false(h->parked);
    r = backend_fetch(h);
    g_assert_nonnull(r);
    g_assert_false(r->ring.indirect);
    queue_finish(h);
}

/* It takes a table, and there is no room for one. */
static void can_never_receive(QueueHarness *h)
{
    offer_bufs(h, true, 16, 4 * KiB);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                        "memory-isolation-size");
    g_assert_cmpuint(backend_fetch_all(h), ==, 0);
    g_assert_cmpuint(STAT(h, parked), ==, 0);
}

static void test_receive(void)
{
    const QueueParams params = {
        .ring_size = 8, .indirect = true, .share = 64 * KiB,
    };

    queue_run_matrix(&params, receives_without_table);
    queue_run_matrix(&params, can_never_receive);
}

static void can_never_fit(QueueHarness *h)
{
    queue_offer(h, 16, 64 * KiB);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                        "memory-isolation-size");
    g_assert_cmpuint(backend_fetch_all(h), ==, 0);
    g_assert_cmpuint(STAT(h, parked), ==, 0);
}

static void test_too_large(void)
{
    const QueueParams params = { .share = 64 * KiB };

    queue_run_matrix(&params, can_never_fit);
}

static void too_many_descriptors(QueueHarness *h)
{
    queue_offer(h, 16, 0);
    offer_bufs(h, false, 8, 1);
    queue_finish(h);
    offer_bufs(h, false, 9, 1);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                        "takes no indirect descriptors");
}

static void test_too_long(void)
{
    const QueueParams params = { .ring_size = 8 };

    queue_run_matrix(&params, too_many_descriptors);
}

static void many_descriptors(QueueHarness *h)
{
    for (unsigned num = 2; num <= 1000; num += 124) {
        const BackendRequest *r;

        offer_bufs(h, false, num, 3);
        queue_settle(h);
        r = backend_fetch(h);
        g_assert_nonnull(r);
        g_assert_cmpint(r->ring.indirect, ==, num > 2);
        queue_finish(h);
    }
}

static void test_indirect(void)
{
    const QueueParams params = {
        .ring_size = 8, .indirect = true, .slot_bytes = 8 * MiB,
    };

    queue_run_matrix(&params, many_descriptors);
}

/* Of 64 descriptors, 16 go to direct chains. */
static void ring_that_fills(QueueHarness *h)
{
    for (unsigned i = 0; i < 60; i++) {
        offer_bufs(h, false, 3, 16);
    }
    queue_settle(h);
    g_assert_true(h->parked);
    g_assert_cmpuint(backend_fetch_all(h), ==, 5 + 64 - 5 * 3);
    for (unsigned i = 0; i < h->held->len; i++) {
        const BackendRequest *r = g_ptr_array_index(h->held, i);

        g_assert_cmpint(r->ring.indirect, ==, i >= 5);
    }
    queue_finish(h);
    for (unsigned i = 0; i < 20; i++) {
        offer_bufs(h, false, 3, 16);
        queue_settle(h);
        g_assert_false(backend_fetch(h)->ring.indirect);
        queue_finish(h);
    }
}

static void test_tables(void)
{
    const QueueParams params = { .indirect = true };

    queue_run_matrix(&params, ring_that_fills);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/isolated-queue/" claim, fn)
    ADD("room/request-as-large-as-the-share-waits", test_whole_share);
    ADD("room/receive-buffer-goes-without-a-table-if-it-must", test_receive);
    ADD("room/request-larger-than-the-share-breaks", test_too_large);
    ADD("room/request-longer-than-the-ring-breaks", test_too_long);
    ADD("room/request-longer-than-the-ring-takes-a-table", test_indirect);
    ADD("room/ring-that-fills-takes-tables", test_tables);
#undef ADD
    return g_test_run();
}
