/*
 * Tests of the isolated queue's data path.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "mock-data.h"
#include "queue-harness.h"

static const QueueParams defaults;

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

/* Fetch, complete in random order, collect. */
static void round_trip(QueueHarness *h)
{
    queue_settle(h);
    backend_fetch_all(h);
    while (h->held->len) {
        backend_complete(h, g_test_rand_int_range(0, h->held->len));
    }
    backend_publish(h);
    queue_settle(h);
    queue_collect(h);
}

static void random_requests(QueueHarness *h)
{
    uint64_t offered = 0;

    for (unsigned i = 0; i < 100; i++) {
        for (int n = g_test_rand_int_range(1, 30); n > 0; n--) {
            offered += !!queue_offer_random(h, 16 * KiB);
        }
        round_trip(h);
    }
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, offered);
    g_assert_cmpuint(STAT(h, requests), ==, offered);
    g_assert_cmpuint(STAT(h, clamped), ==, 0);
}

static void test_data(void)
{
    queue_run_matrix(&defaults, random_requests);
}

static void test_data_indirect(void)
{
    const QueueParams params = { .indirect = true, .ring_size = 8 };

    queue_run_matrix(&params, random_requests);
}

static void test_data_not_scrubbed(void)
{
    const QueueParams params = { .no_scrub = true };

    queue_run_matrix(&params, random_requests);
}

static void large_requests(QueueHarness *h)
{
    for (unsigned i = 0; i < 8; i++) {
        queue_offer_random(h, 1 * MiB);
        queue_offer_random(h, 1 * MiB);
        round_trip(h);
    }
    queue_finish(h);
}

static void test_data_large(void)
{
    const QueueParams params = { .slot_bytes = 8 * MiB };

    queue_run_matrix(&params, large_requests);
}

/* In the thread that writes to it. */
static void look_for_secrets(QueueHarness *h)
{
    mock_mark_check_secret(h->link->region->host, h->link->region->size);
}

/* Nothing of the guest but what it wants to have read. */
static void only_readable_bytes(QueueHarness *h)
{
    for (unsigned i = 0; i < 20; i++) {
        while (queue_offer_random(h, 4 * KiB)) {
            continue;
        }
        queue_settle(h);
        queue_call(h, look_for_secrets);
        round_trip(h);
    }
    queue_finish(h);
}

static void test_secret(void)
{
    const QueueParams params = { .num_requests = 32 };

    queue_run_matrix(&params, only_readable_bytes);
}

/* The small ones go behind the page, so that keeping its place costs none. */
static void span_of_a_disk_request(QueueHarness *h)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 16, 16, 0);
    mock_guest_add(h->guest, r, true, 4096, 4096, 0);
    mock_guest_add(h->guest, r, true, 1, 1, 0);
    queue_offer_request(h, r);
    queue_settle(h);
    g_assert_cmpuint(bounce_pool_held(h->link->pool), ==,
                     4096 + BOUNCE_GRANULE);
    queue_finish(h);
}

static void test_span(void)
{
    queue_run_matrix(&defaults, span_of_a_disk_request);
}

/* Each span is used anew; what is in it shows whether it was cleared. */
static void reused_span(QueueHarness *h)
{
    bool dirty = false;

    for (unsigned i = 0; i < 3; i++) {
        const BackendRequest *r;
        const ShadowRingBuf *buf;

        queue_offer(h, 16, 4096);
        queue_settle(h);
        r = backend_fetch(h);
        buf = &r->ring.bufs[1];
        dirty |= !buffer_is_zero(backend_host(h, buf->addr), buf->len);
        backend_complete_all(h);
        queue_settle(h);
        g_assert_cmpuint(queue_collect(h), ==, 1);
    }
    /* Where all of it goes to the guest, even an honest backend's would. */
    g_assert_cmpint(dirty, ==, h->params.no_scrub && !h->params.all_writable);
}

static void test_scrub(void)
{
    const QueueParams off = { .no_scrub = true };
    const QueueParams all = { .no_scrub = true, .all_writable = true };

    queue_run_matrix(&defaults, reused_span);
    queue_run_matrix(&off, reused_span);
    queue_run_matrix(&all, reused_span);
}

/* What the backend was given, and what it has written. */
static void returned_span(QueueHarness *h)
{
    ShadowRingBuf bufs[2];

    queue_offer(h, 64, 4096);
    queue_settle(h);
    memcpy(bufs, backend_fetch(h)->ring.bufs, sizeof(bufs));
    g_assert_false(buffer_is_zero(backend_host(h, bufs[0].addr), 64));
    backend_complete_all(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(bufs); i++) {
        g_assert_cmpint(buffer_is_zero(backend_host(h, bufs[i].addr),
                                       bufs[i].len), ==, h->params.wipe);
    }
}

static void test_wipe(void)
{
    const QueueParams wiped = { .wipe = true };

    queue_run_matrix(&defaults, returned_span);
    queue_run_matrix(&wiped, returned_span);
}

/* One request with 600 + 400 writable bytes, used as the backend says. */
static void one_used(QueueHarness *h, uint64_t written, uint32_t len)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 16, 16, 0);
    mock_guest_add(h->guest, r, true, 600, 16, 0);
    mock_guest_add(h->guest, r, true, 400, 16, 0);
    queue_offer_request(h, r);
    queue_settle(h);
    g_assert_nonnull(backend_fetch(h));
    backend_use(h, 0, written, len);
    backend_publish(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
}

static void used_lengths(QueueHarness *h)
{
    one_used(h, 1000, 1000);
    one_used(h, 1000, 700);
    one_used(h, 1000, 600);
    one_used(h, 1000, 1);
    one_used(h, 1000, 0);
    /* The backend says that it wrote more than it did. */
    one_used(h, 0, 1000);
    one_used(h, 10, 601);
    g_assert_cmpuint(STAT(h, clamped), ==, 0);
    one_used(h, 1000, 1001);
    one_used(h, 20, UINT32_MAX);
    g_assert_cmpuint(STAT(h, clamped), ==, 2);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_RUNNING);
}

/* Nothing was written, and nothing can be: no more than a way of speaking. */
static void length_of_nothing(QueueHarness *h)
{
    queue_offer(h, 100, 0);
    queue_settle(h);
    g_assert_nonnull(backend_fetch(h));
    backend_use(h, 0, 0, 100);
    backend_publish(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
    g_assert_cmpuint(STAT(h, clamped), ==, 0);
}

static void test_length_of_nothing(void)
{
    queue_run_matrix(&defaults, length_of_nothing);
}

static void test_used_lengths(void)
{
    const QueueParams all = { .all_writable = true };

    queue_run_matrix(&defaults, used_lengths);
    queue_run_matrix(&all, used_lengths);
}

/* Wait for the queue without waking its thread up. */
static void wait_for(QueueHarness *h, bool (*done)(QueueHarness *h))
{
    int64_t deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (!done(h)) {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        main_loop_wait(true);
        g_usleep(100);
    }
}

static bool backend_has_request(QueueHarness *h)
{
    return mock_device_has_avail(&h->device);
}

static bool guest_has_completion(QueueHarness *h)
{
    return queue_collect(h) > 0;
}

/* Nothing but a kick and a call: also when the thread has polled before. */
static void sleeper(QueueHarness *h)
{
    for (unsigned i = 0; i < 30; i++) {
        g_usleep(i % 3 * 1000);
        queue_offer(h, 16, 16);
        wait_for(h, backend_has_request);
        g_assert_cmpuint(backend_fetch_all(h), ==, 1);
        g_usleep(i % 4 * 1000);
        backend_complete_all(h);
        wait_for(h, guest_has_completion);
    }
}

static void test_sleeper(void)
{
    queue_run_matrix(&defaults, sleeper);
}

static int64_t cpu_ns;

static void read_cpu_clock(QueueHarness *h)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    cpu_ns = ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

/* What the queue's thread needs of the processor in 20 ms. */
static int64_t cpu_ns_at_rest(QueueHarness *h)
{
    int64_t start;

    queue_call(h, read_cpu_clock);
    start = cpu_ns;
    for (unsigned i = 0; i < 20; i++) {
        main_loop_wait(true);
        g_usleep(1000);
    }
    queue_call(h, read_cpu_clock);
    return cpu_ns - start;
}

/* A queue that waits does nothing at all, whatever its guest does. */
static void assert_at_rest(QueueHarness *h)
{
    unsigned looks = h->guest->num_looks;
    int64_t spent;

    /*
     * Time that a host took from us is counted too: once without will do.  A
     * queue that never rests ends with the test's time.
     */
    do {
        spent = cpu_ns_at_rest(h);
    } while (spent >= 10 * SCALE_MS);
    g_assert_cmpuint(qatomic_read(&h->guest->num_looks), ==, looks);
}

/* Two requests find room, and each completion makes room for one. */
static void waits_for_room(QueueHarness *h)
{
    uint64_t kicks;

    queue_offer_many(h, 10, 20000, 20000);
    queue_settle(h);
    g_assert_true(h->parked);
    g_assert_cmpuint(STAT(h, parked), >=, 1);
    g_assert_cmpuint(backend_fetch_all(h), ==, 2);

    kicks = h->guest->num_kicks;
    assert_at_rest(h);
    queue_offer_many(h, 10, 20000, 20000);
    assert_at_rest(h);
    for (unsigned i = 0; i < 10; i++) {
        backend_complete(h, 0);
        backend_publish(h);
        queue_settle(h);
        g_assert_cmpuint(queue_collect(h), ==, 1);
        g_assert_true(h->parked);
        g_assert_cmpuint(backend_fetch_all(h), ==, 1);
    }
    queue_finish(h);
    g_assert_cmpuint(h->guest->num_kicks, ==, kicks);
    g_assert_cmpuint(STAT(h, requests), ==, 20);

    /* And then it listens again. */
    queue_offer(h, 20000, 20000);
    queue_finish(h);
}

static void test_parked(void)
{
    const QueueParams few_descs = { .ring_size = 4 };
    const QueueParams few_bytes = { .share = 96 * KiB };

    queue_run_matrix(&few_descs, waits_for_room);
    queue_run_matrix(&few_bytes, waits_for_room);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/isolated-queue/" claim, fn)
    ADD("data/arrives-and-comes-back", test_data);
    ADD("data/arrives-through-indirect-tables", test_data_indirect);
    ADD("data/arrives-without-scrubbing", test_data_not_scrubbed);
    ADD("data/arrives-in-large-buffers", test_data_large);
    ADD("data/backend-sees-readable-bytes-only", test_secret);
    ADD("data/reused-span-is-zero-unless-told-otherwise", test_scrub);
    ADD("data/returned-span-is-zero-if-told-so", test_wipe);
    ADD("data/alignment-wastes-no-page", test_span);
    ADD("data/used-length-is-clamped-and-counted", test_used_lengths);
    ADD("data/used-length-of-nothing-is-not-counted", test_length_of_nothing);
    ADD("signal/kick-and-call-wake-a-sleeping-thread", test_sleeper);
    ADD("room/request-waits-for-a-completion-and-nobody-spins", test_parked);
#undef ADD
    return g_test_run();
}
