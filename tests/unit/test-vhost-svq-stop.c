/*
 * Tests of vhost-vdpa's shadow virtqueue: stop and start, devices that break
 * the rules.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "linux-headers/linux/vhost.h"
#include "svq-harness.h"

static const SvqParams defaults;
static const SvqParams size_8 = { .size = 8 };

/* The next run's device fetches @num requests, the first of them @first. */
static void start_again(SvqHarness *h, const MockVqRequest *first,
                        unsigned num)
{
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, num);
    g_assert_cmpuint(h->vq->inuse, ==, 0);
    svq_start(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, num);
    if (num) {
        g_assert_true(g_array_index(h->held, SvqHeld, 0).request == first);
    }
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, num);
}

/* What the device used before it stopped, nobody was called for. */
static void stop_returns(SvqHarness *h)
{
    svq_offer(h, 5, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    while (h->held->len) {
        svq_use(h, 0, 10);
    }
    mock_device_publish(&h->device);
    svq_stop(h);
    g_assert_cmpuint(svq_collect(h), ==, 5);
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 1);
    start_again(h, NULL, 0);
}

static void test_stop_returns(void)
{
    svq_run_matrix(&defaults, stop_returns);
}

/* All that is out, whether or not the device has fetched it. */
static void stop_unpops(SvqHarness *h)
{
    MockVqRequest *first = svq_offer(h, 1, 1, 1);

    svq_offer(h, 5, 1, 1);
    svq_settle();
    for (unsigned i = 0; i < 3; i++) {
        svq_fetch(h);
    }
    svq_stop(h);
    g_assert_cmpuint(svq_collect(h), ==, 0);
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 0);
    start_again(h, first, 6);
}

static void test_stop_unpops(void)
{
    svq_run_matrix(&defaults, stop_unpops);
}

/* Used in order, so that the rest is the newest. */
static void stop_unpops_the_rest(SvqHarness *h)
{
    MockVqRequest *third;

    svq_offer(h, 2, 1, 1);
    third = svq_offer(h, 1, 1, 1);
    svq_offer(h, 3, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    svq_use(h, 0, 1);
    svq_publish_used(h);
    svq_settle();
    svq_use(h, 0, 1);
    mock_device_publish(&h->device);
    svq_stop(h);
    g_assert_cmpuint(svq_collect(h), ==, 2);
    start_again(h, third, 4);
}

static void test_stop_rest(void)
{
    svq_run_matrix(&defaults, stop_unpops_the_rest);
}

/*
 * Of six, the second and the fourth were used.  Winding back by four would
 * offer the fourth again and lose the first: so the first and the third are
 * completed without data, and the last two go back.
 */
static void stop_with_gaps(SvqHarness *h)
{
    MockVqRequest *r[6];

    for (unsigned i = 0; i < 6; i++) {
        r[i] = svq_offer(h, 1, 1, 1);
    }
    svq_settle();
    svq_fetch_all(h);
    svq_use(h, 3, 7);
    svq_use(h, 1, 8);
    svq_publish_used(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 2);
    svq_take_events(&h->vq->call);
    svq_stop(h);
    g_assert_true(mock_vq_take(h->vq) == r[0]);
    g_assert_cmpuint(r[0]->len, ==, 0);
    g_assert_true(mock_vq_take(h->vq) == r[2]);
    g_assert_cmpuint(r[2]->len, ==, 0);
    g_assert_null(mock_vq_take(h->vq));
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 1);
    start_again(h, r[4], 2);
}

static void test_stop_gaps(void)
{
    svq_run_matrix(&defaults, stop_with_gaps);
}

/* The newest of all is the one that waits for room. */
static void stop_while_full(SvqHarness *h)
{
    MockVqRequest *first = svq_offer(h, 1, 4, 4);

    svq_offer(h, 2, 1, 1);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, 1);
    g_assert_false(h->vq->notify);
    svq_stop(h);
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, 3);
    /* The next one to have the ring need not be one that asks first. */
    g_assert_true(h->vq->notify);
    svq_start(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    g_assert_true(g_array_index(h->held, SvqHeld, 0).request == first);
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 2);
    svq_use_all(h);
    svq_settle();
    svq_collect(h);
}

static void test_stop_full(void)
{
    svq_run_matrix(&size_8, stop_while_full);
}

/* At random, and each run on another kind of ring. */
static void stop_often(SvqHarness *h)
{
    for (unsigned run = 0; run < 40; run++) {
        MockVqRequest *r;

        while ((r = mock_vq_get(h->vq, 1, 2)) &&
               g_test_rand_int_range(0, 12)) {
            mock_vq_offer(h->vq, r);
        }
        svq_settle();
        svq_fetch_all(h);
        for (int n = g_test_rand_int_range(0, 10); n && h->held->len; n--) {
            svq_use(h, g_test_rand_int_range(0, MIN(h->held->len, 2)), 1);
        }
        svq_publish_used(h);
        if (g_test_rand_int_range(0, 2)) {
            svq_settle();
        }
        svq_stop(h);
        while ((r = mock_vq_take(h->vq))) {
            const SvqUsed *used = &g_array_index(h->used, SvqUsed, 0);

            if (h->used->len && used->request == r) {
                g_array_remove_index(h->used, 0);
            } else {
                g_assert_cmpuint(r->len, ==, 0);
            }
        }
        g_assert_cmpuint(h->used->len, ==, 0);
        g_assert_cmpuint(h->vq->inuse, ==, 0);
        h->params.format = run & 1 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        h->params.event_idx = run & 2;
        h->params.indirect = run & 4;
        svq_start(h);
    }
}

static void test_stop_often(void)
{
    const SvqParams params = { .size = 16 };

    svq_run_matrix(&params, stop_often);
}

static void test_stop_twice(void)
{
    SvqHarness *h = svq_harness_new(&defaults);

    svq_stop(h);
    vhost_svq_stop(h->svq);
    g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, 0);
    svq_take_events(&h->vq->kick);
    event_notifier_set(&h->vq->kick);
    svq_settle();
    g_assert_cmpuint(svq_take_events(&h->vq->kick), ==, 1);
    /* Kicks come, and nobody has started. */
    vhost_svq_set_svq_kick_fd(h->svq, event_notifier_get_fd(&h->vq->kick));
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, 1);
    h->keep_kick_fd = true;
    svq_start(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    svq_harness_free(h);
    /* And one that never did. */
    vhost_svq_free(vhost_svq_new(NULL, NULL));
}

/* Devices that break the rules */

typedef void HostileMove(SvqHarness *h);

static void use_beyond_the_ring(SvqHarness *h)
{
    mock_device_use_raw(&h->device, h->params.size, 1);
}

static void use_what_is_not_out(SvqHarness *h)
{
    unsigned id = 0;

    while (h->device.held[id]) {
        id++;
    }
    mock_device_use_raw(&h->device, id, 1);
}

static void use_twice(SvqHarness *h)
{
    uint16_t id = g_array_index(h->held, SvqHeld, 0).id;

    svq_use(h, 0, 1);
    mock_device_use_raw(&h->device, id, 1);
}

static void use_more_than_is_out(SvqHarness *h)
{
    mock_device_run_ahead(&h->device, 4);
}

static void check_broken(SvqHarness *h, unsigned returned)
{
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
    g_assert_nonnull(strstr(mock_error_report(),
                            SVQ_DEVICE ": virtqueue 0 has stopped: "));
    g_assert_cmpuint(svq_collect(h), ==, returned);
    /* The machine goes on, and nobody listens to the device any more. */
    g_assert_null(h->vq->error);
    event_notifier_set(&h->svq->hdev_call);
    event_notifier_set(&h->vq->kick);
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(mock_num_error_reports(), ==, 0);
    g_assert_cmpuint(svq_take_events(&h->svq->hdev_call), ==, 1);
    g_assert_cmpuint(svq_take_events(&h->vq->kick), >, 0);
    g_assert_cmpuint(svq_collect(h), ==, 0);
    /* Nor does it begin again because vhost masks an interrupt. */
    vhost_svq_set_svq_kick_fd(h->svq, event_notifier_get_fd(&h->vq->kick));
    svq_settle();
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, 1);
    svq_stop(h);
    g_assert_cmpuint(mock_num_error_reports(), ==, 0);
}

static void run_hostile(HostileMove *move, unsigned returned)
{
    for (unsigned i = 0; i < 4; i++) {
        SvqParams p = {
            .format = i & 1 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT,
            .event_idx = i & 2,
        };
        SvqHarness *h = svq_harness_new(&p);

        svq_offer(h, 3, 1, 1);
        svq_settle();
        svq_fetch_all(h);
        move(h);
        event_notifier_set(&h->svq->hdev_call);
        svq_settle();
        check_broken(h, returned);
        /* A new run begins with a new ring. */
        svq_start(h);
        svq_settle();
        g_assert_cmpuint(svq_fetch_all(h), ==, 4 - returned);
        svq_use_all(h);
        svq_settle();
        svq_collect(h);
        svq_harness_free(h);
    }
}

static void test_hostile_id(void)
{
    run_hostile(use_beyond_the_ring, 0);
}

static void test_hostile_stale(void)
{
    run_hostile(use_what_is_not_out, 0);
}

static void test_hostile_twice(void)
{
    run_hostile(use_twice, 1);
}

static void test_hostile_ahead(void)
{
    SvqHarness *h = svq_harness_new(&defaults);

    /* Only the split format has an index that can run ahead. */
    svq_offer(h, 3, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    use_more_than_is_out(h);
    event_notifier_set(&h->svq->hdev_call);
    svq_settle();
    check_broken(h, 0);
    svq_harness_free(h);
}

/* Found only at the stop. */
static void broken_at_the_stop(SvqHarness *h)
{
    MockVqRequest *first = svq_offer(h, 1, 1, 1);

    svq_settle();
    svq_fetch_all(h);
    use_beyond_the_ring(h);
    svq_stop(h);
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
    start_again(h, first, 1);
}

static void test_hostile_stop(void)
{
    svq_run_matrix(&defaults, broken_at_the_stop);
}

/* Descriptors and indices are written, never read back. */
static void scribbled(SvqHarness *h)
{
    svq_offer(h, 8, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    mock_device_scribble(&h->device);
    while (h->held->len) {
        svq_use(h, 0, 1);
    }
    /* Whether to call was among it. */
    mock_device_publish(&h->device);
    event_notifier_set(&h->svq->hdev_call);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 8);
    g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, h->params.size);
}

static void test_hostile_scribble(void)
{
    svq_run_matrix(&defaults, scribbled);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/vhost-svq/" claim, fn)
    ADD("stop/what-was-used-is-returned", test_stop_returns);
    ADD("stop/what-was-not-used-is-unpopped", test_stop_unpops);
    ADD("stop/the-rest-is-unpopped-newest-first", test_stop_rest);
    ADD("stop/what-cannot-be-unpopped-is-completed-empty", test_stop_gaps);
    ADD("stop/a-waiting-request-is-unpopped-too", test_stop_full);
    ADD("stop/nothing-is-lost-or-doubled-over-many-runs", test_stop_often);
    ADD("stop/twice-and-before-start-is-harmless", test_stop_twice);
    ADD("hostile/used-id-beyond-the-ring-stops-the-queue", test_hostile_id);
    ADD("hostile/used-id-not-out-stops-the-queue", test_hostile_stale);
    ADD("hostile/used-id-twice-stops-the-queue", test_hostile_twice);
    ADD("hostile/used-index-ahead-stops-the-queue", test_hostile_ahead);
    ADD("hostile/broken-ring-is-found-at-the-stop", test_hostile_stop);
    ADD("hostile/rewritten-descriptors-have-no-effect",
        test_hostile_scribble);
#undef ADD
    return g_test_run();
}
