/*
 * Tests of the isolated queue's stop and start, and of lost connections.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "queue-harness.h"

static const QueueParams defaults;

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

static void stop_at_rest(QueueHarness *h)
{
    for (unsigned i = 0; i < 5; i++) {
        queue_offer_many(h, 10, 100, 100);
        queue_settle(h);
        backend_fetch_all(h);
        while (h->held->len) {
            backend_complete(h, 0);
        }
        /* Nobody calls: the stop itself must find them. */
        queue_stop(h, true);
        g_assert_cmpuint(h->num_returned, ==, 10 * (i + 1));
        assert_state(h, ISOLATED_QUEUE_IDLE);
        queue_attach(h);
        assert_state(h, ISOLATED_QUEUE_RUNNING);
    }
    finish_all(h, 50);
}

static void stop_unfetched(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 0);
    queue_stop(h, true);
    assert_state(h, ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 10);
    g_assert_cmpuint(bounce_pool_held(h->link->pool), ==, 0);
    queue_attach(h);
    finish_all(h, 10);
}

static void stop_fetched(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    fetch(h, 6);
    queue_stop(h, true);
    assert_state(h, ISOLATED_QUEUE_KEPT);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 6);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 4);
    /* A second stop finds nothing to do. */
    queue_attach(h);
    queue_stop(h, true);
    assert_state(h, ISOLATED_QUEUE_KEPT);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 6);
    queue_attach(h);
    finish_all(h, 10);
}

/* The parked request was popped, but the backend never saw it. */
static void stop_parked(QueueHarness *h)
{
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    g_assert_true(h->parked);
    fetch(h, 2);
    backend_complete(h, 1);
    queue_stop_begin(h);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 8);
    mock_device_publish(&h->device);
    /* It has device-readable bytes, so it is waited for. */
    g_assert_cmpuint(isolated_queue_drain(h->q), ==, 1);
    /* In vain, but it is completed before the backend answers. */
    backend_complete(h, 0);
    mock_device_publish(&h->device);
    isolated_queue_stopped(h->q, mock_device_base(&h->device), true);
    queue_stop_end(h, mock_device_base(&h->device));
    assert_state(h, ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(h->num_returned, ==, 2);
    queue_attach(h);
    finish_all(h, 10);
}

static void stop_receiving(QueueHarness *h)
{
    queue_offer_many(h, 3, 0, 100);
    queue_offer_many(h, 2, 100, 0);
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop_begin(h);
    g_assert_cmpuint(isolated_queue_drain(h->q), ==, 2);
    isolated_queue_stopped(h->q, mock_device_base(&h->device), true);
    queue_stop_end(h, mock_device_base(&h->device));
    queue_attach(h);
    finish_all(h, 5);
}

static void stop_anywhere(QueueHarness *h)
{
    uint64_t offered = 0;

    for (unsigned i = 0; i < 200; i++) {
        offered += queue_do_anything(h);
        queue_stop(h, true);
        queue_attach(h);
    }
    finish_all(h, offered);
}

/* It forgets what it fetched and did not use, and asks for it again. */
static void in_order_backend(QueueHarness *h)
{
    for (unsigned i = 0; i < 20; i++) {
        uint32_t base;

        queue_offer_many(h, 10, 100, 100);
        queue_settle(h);
        fetch(h, 8);
        backend_complete(h, 0);
        backend_complete(h, 0);
        backend_publish(h);
        base = backend_base_before(h, 6);
        queue_stop_begin(h);
        g_assert_cmpuint(isolated_queue_drain(h->q), ==, 8);
        isolated_queue_stopped(h->q, base, true);
        queue_stop_end(h, base);
        assert_state(h, ISOLATED_QUEUE_IDLE);
        queue_attach(h);
        queue_finish(h);
    }
    finish_all(h, 200);
}

/* Stop with 6 requests out of 10 fetched and some used; answer @raw_base. */
static void stop_with_answer(QueueHarness *h, unsigned num_used,
                             uint32_t raw_base)
{
    queue_stop_begin(h);
    while (num_used--) {
        backend_complete(h, h->held->len - 1);
    }
    mock_device_publish(&h->device);
    isolated_queue_drain(h->q);
    isolated_queue_stopped(h->q, raw_base, true);
    queue_stop_end(h, mock_device_base(&h->device));
}

/**
 * Lie - an answer that cannot be true
 * @num_used: requests used, of those fetched last
 * @ahead: requests, after the truth
 * @split: what is said then
 * @packed: what is said then: a request that came back was fetched, of course
 */
typedef struct Lie {
    unsigned num_used;
    int ahead;
    const char *split;
    const char *packed;
} Lie;

#define NOT_IN_FLIGHT "no request in flight"

static const Lie lies[] = {
    { 0, 5, NOT_IN_FLIGHT, NOT_IN_FLIGHT },
    { 0, -7, NOT_IN_FLIGHT, NOT_IN_FLIGHT },
    { 6, -1, NOT_IN_FLIGHT, NOT_IN_FLIGHT },
    /* The newest was used, and the answer says it was not fetched. */
    { 1, -1, "did not fetch", NOT_IN_FLIGHT },
    { 2, -3, "did not fetch", NOT_IN_FLIGHT },
};

static void lie(QueueHarness *h, unsigned num_used, uint32_t raw_base,
                const char *why)
{
    h->num_faulted = 0;
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    fetch(h, 6);
    stop_with_answer(h, num_used, raw_base);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_BACKEND, why);
    queue_reset(h);
    queue_reconnect(h);
    queue_attach(h);
    queue_offer_many(h, 10, 100, 100);
    queue_finish(h);
}

static void backend_lies(QueueHarness *h)
{
    bool packed = h->params.format == SHADOW_RING_PACKED;

    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        const Lie *l = &lies[i];

        /* Each request has two descriptors, and six will be fetched. */
        lie(h, l->num_used,
            mock_device_base_at(&h->device, (6 + l->ahead) * (1 + packed)),
            packed ? l->packed : l->split);
    }
    lie(h, 0, packed ? 0x7fff : 0x10000, NOT_IN_FLIGHT);
    lie(h, 0, UINT32_MAX, NOT_IN_FLIGHT);
}

static void pause_and_go_on(QueueHarness *h)
{
    queue_offer_many(h, 20, 100, 100);
    queue_settle(h);
    fetch(h, 10);
    queue_detach(h);
    backend_complete(h, 3);
    mock_device_publish(&h->device);
    /* Nobody would hear it, or a descriptor that is closed by then. */
    g_assert_false(mock_device_should_call(&h->device));
    fetch(h, 2);
    queue_offer_many(h, 20, 100, 100);
    g_assert_cmpuint(queue_collect(h), ==, 0);
    queue_attach(h);
    queue_settle(h);
    g_assert_cmpuint(queue_collect(h), ==, 1);
    finish_all(h, 40);
}

/* QEMU would drop a completion then: it comes when the guest can see it. */
static void stop_without_guest(QueueHarness *h)
{
    queue_offer_many(h, 4, 100, 100);
    queue_settle(h);
    fetch(h, 4);
    backend_complete(h, 1);
    queue_detach(h);
    backend_publish(h);
    h->guest->unusable = true;
    mock_guest_own(h->guest, true);
    g_assert_cmpuint(isolated_queue_drain(h->q), ==, 0);
    isolated_queue_stopped(h->q, mock_device_base(&h->device), true);
    mock_guest_disown(h->guest);
    assert_state(h, ISOLATED_QUEUE_KEPT);
    h->stopped = true;
    h->guest->unusable = false;
    g_assert_cmpuint(queue_collect(h), ==, 0);
    queue_attach(h);
    /* It may be quick. */
    backend_complete(h, 0);
    backend_publish(h);
    finish_all(h, 4);
}

static void connection_lost(QueueHarness *h)
{
    uint64_t offered = 0;

    for (unsigned i = 0; i < 50; i++) {
        for (int n = g_test_rand_int_range(5, 40); n > 0; n--) {
            offered += !!queue_offer_random(h, 2000);
        }
        queue_settle(h);
        while (g_test_rand_int_range(0, 16) && backend_fetch(h)) {
            continue;
        }
        while (g_test_rand_int_range(0, 8) && h->held->len) {
            backend_complete(h, g_test_rand_int_range(0, h->held->len));
        }
        if (g_test_rand_bit()) {
            backend_publish(h);
        }
        queue_stop(h, false);
        queue_reconnect(h);
        queue_attach(h);
    }
    finish_all(h, offered);
}

static void lose_connection_with(QueueHarness *h, unsigned num)
{
    queue_offer_many(h, num, 100, 100);
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop(h, false);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, num);
    queue_reconnect(h);
}

static void stop_unstarted(QueueHarness *h)
{
    mock_guest_own(h->guest, true);
    isolated_queue_stopped(h->q, 0, false);
    mock_guest_disown(h->guest);
}

/*
 * What was kept is nobody's: it goes back to the guest's ring, so the VM can
 * be saved, or the next start takes it from there.
 */
static void connection_lost_and_a_failed_start(QueueHarness *h)
{
    lose_connection_with(h, 20);
    stop_unstarted(h);
    assert_state(h, ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 0);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 20);
    queue_attach(h);
    queue_settle(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, 20);
    finish_all(h, 20);
}

/* As a network backend does which has got nothing to put into them. */
static void connection_lost_and_nothing_fetched(QueueHarness *h)
{
    unsigned num = 20;

    lose_connection_with(h, num);
    for (unsigned i = 0; i < 3; i++) {
        queue_attach(h);
        queue_settle(h);
        if (i == 2) {
            /* All but some. */
            fetch(h, 5);
        }
        queue_stop(h, true);
        g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, i == 2 ? 5 : 0);
        assert_state(h, i == 2 ? ISOLATED_QUEUE_KEPT : ISOLATED_QUEUE_IDLE);
        queue_offer(h, 0, 100);
        num++;
    }
    queue_attach(h);
    finish_all(h, num);
}

/* As virtio-net does while the link is down: it pops, and pushes no byte. */
static void device_drops(QueueHarness *h, unsigned num)
{
    MockGuest *g = h->guest;

    while (num--) {
        MockGuestRequest *r = g_ptr_array_index(h->out, h->out->len -
                                                mock_guest_num_offered(g));
        unsigned slot = (h->used_first + h->used_num++) % MOCK_GUEST_MAX;

        g_assert_true(mock_device_fetch(&g->device, &g->fetched));
        g_assert_cmpint(r->state, ==, MOCK_GUEST_OFFERED);
        r->state = MOCK_GUEST_PUSHED;
        g->next_pop++;
        g->sent_used = ++g->next_push;
        mock_device_use(&g->device, g->fetched.id, 0);
        mock_device_publish(&g->device);
        /* To the model it is as if the backend had done it. */
        h->used[slot] = (QueueCompletion) { .guest = r, .serial = r->serial };
        r->fetched = true;
        h->num_fetched++;
        g_assert_cmpuint(queue_collect(h), ==, 1);
        h->num_returned--;
    }
}

/*
 * While the device is stopped its own code may pop from the ring, so what was
 * kept is not its newest any more, however often the ring went round.
 */
static void connection_lost_and_others_popped(QueueHarness *h)
{
    lose_connection_with(h, 5);
    for (unsigned round = 0; round < 70; round++) {
        queue_offer_many(h, 30, 100, 0);
        device_drops(h, 30);
        stop_unstarted(h);
        g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 5);
        assert_state(h, ISOLATED_QUEUE_KEPT);
    }
    queue_offer_many(h, 7, 100, 100);
    queue_attach(h);
    queue_settle(h);
    queue_stop(h, true);
    /* The seven are the newest, the five are not. */
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 5);
    g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 7);
    queue_attach(h);
    finish_all(h, 12);
}

static void connection_lost_at_once(QueueHarness *h)
{
    queue_offer_many(h, 20, 100, 100);
    queue_settle(h);
    backend_fetch_all(h);
    backend_complete(h, 4);
    backend_complete(h, 4);
    backend_publish(h);
    queue_settle(h);
    queue_detach(h);
    queue_reconnect(h);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 18);
    queue_attach(h);
    queue_settle(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, 18);
    finish_all(h, 20);
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, scenario) \
    g_test_add_data_func("/isolated-queue/" claim, scenario, run)
    ADD("stop/returns-what-is-completed", stop_at_rest);
    ADD("stop/gives-back-what-was-not-fetched", stop_unfetched);
    ADD("stop/keeps-what-was-fetched", stop_fetched);
    ADD("stop/does-not-wait-for-receive-buffers", stop_receiving);
    ADD("stop/at-any-moment-loses-nothing", stop_anywhere);
    ADD("stop/sends-again-what-the-backend-forgot", in_order_backend);
    ADD("stop/answer-that-cannot-be-true-breaks", backend_lies);
    ADD("stop/leaves-completions-to-a-guest-that-can-see", stop_without_guest);
    ADD("pause/goes-on-where-it-was", pause_and_go_on);
    ADD("lost/everything-is-sent-again-in-order", connection_lost);
    ADD("lost/and-a-failed-start-gives-all-back",
        connection_lost_and_a_failed_start);
    ADD("lost/and-what-the-next-did-not-fetch-goes-back",
        connection_lost_and_nothing_fetched);
    ADD("lost/gives-nothing-back-if-others-have-popped",
        connection_lost_and_others_popped);
    ADD("lost/at-once-and-nothing-returns-twice", connection_lost_at_once);
#undef ADD
    g_test_add_data_func("/isolated-queue/stop/gives-back-what-had-to-wait",
                         stop_parked, run_small);
    return g_test_run();
}
