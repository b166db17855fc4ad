/*
 * Tests of an isolated queue that travels with its VM.
 *
 * Whatever the backend has, has fetched, has completed or has never seen: each
 * request is returned once, with the bytes of the backend that is there then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "queue-harness.h"

static void finish_all(QueueHarness *h, uint64_t num)
{
    queue_attach(h);
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, num);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 0);
}

static void nothing_out(QueueHarness *h)
{
    queue_stop(h, true);
    queue_travel(h);
    queue_attach(h);
    queue_offer_many(h, 10, 100, 100);
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 10);
}

static void some_fetched(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    for (unsigned i = 0; i < 6; i++) {
        g_assert_nonnull(backend_fetch(h));
    }
    /* The newest, so that the others cannot go back to the ring. */
    backend_complete(h, 5);
    queue_stop(h, true);
    queue_travel(h);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 5);
    finish_all(h, 10);
}

/* Again and again, each time with another backend. */
static void further_and_further(QueueHarness *h)
{
    queue_offer_many(h, 20, 100, 100);
    for (unsigned i = 0; i < 5; i++) {
        queue_settle(h);
        backend_fetch_all(h);
        backend_complete(h, h->held->len - 1);
        queue_stop(h, true);
        queue_travel(h);
        g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 20 - (i + 1));
        queue_attach(h);
    }
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 20);
}

static void backend_was_dead(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop(h, false);
    queue_travel(h);
    finish_all(h, 10);
}

static void long_chains(QueueHarness *h)
{
    for (unsigned i = 0; i < 20; i++) {
        queue_offer_random(h, 20000);
    }
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop(h, true);
    queue_travel(h);
    finish_all(h, 20);
}

/* Of a guest with five requests out: every byte changed, every length. */
static void bad_streams(QueueHarness *h)
{
    g_autoptr(GByteArray) stream = NULL;

    queue_offer_many(h, 5, 100, 100);
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop(h, true);
    stream = queue_save(h);
    for (size_t i = 0; i < stream->len; i++) {
        g_autofree uint8_t *bad = g_memdup2(stream->data, stream->len);

        queue_load_anything(h, bad, i);
        bad[i] ^= 1 << g_test_rand_int_range(0, 8);
        queue_load_anything(h, bad, stream->len);
    }
    g_byte_array_append(stream, stream->data, 1);
    queue_load_anything(h, stream->data, stream->len);
    queue_reset(h);
}

typedef struct Claim {
    const char *path;
    QueueScenario *scenario;
} Claim;

static void test_claim(const void *opaque)
{
    const Claim *claim = opaque;
    const QueueParams params = { .indirect = true };

    queue_run_matrix(&params, claim->scenario);
}

static void test_any_rings(void)
{
    /* Each connection has a region, and touches what it uses. */
    QueueParams params = { .share = 1 * MiB };

    queue_run_ring_pairs(&params, queue_travel_often);
    params.part_bytes = 500;
    queue_run_ring_pairs(&params, queue_travel_often);
}

int main(int argc, char **argv)
{
    static const Claim claims[] = {
        { "/isolated-queue/stream/nothing-out", nothing_out },
        { "/isolated-queue/stream/some-fetched", some_fetched },
        { "/isolated-queue/stream/further-and-further", further_and_further },
        { "/isolated-queue/stream/backend-was-dead", backend_was_dead },
        { "/isolated-queue/stream/long-chains", long_chains },
        { "/isolated-queue/stream/bad-streams", bad_streams },
    };

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    for (unsigned i = 0; i < ARRAY_SIZE(claims); i++) {
        g_test_add_data_func(claims[i].path, &claims[i], test_claim);
    }
    g_test_add_func("/isolated-queue/stream/at-any-moment", test_any_rings);
    return g_test_run();
}
