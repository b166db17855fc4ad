/*
 * Tests of the isolated queue when guest or backend break the rules.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "queue-harness.h"

static const QueueParams defaults;

/**
 * Fault - one way to break the rules
 * @offer: the guest does; NULL: it is well-behaved
 * @use: the backend does, with 5 requests fetched; NULL: it is well-behaved
 * @fault: whose fault it is
 * @why: part of what is said
 */
typedef struct Fault {
    void (*offer)(QueueHarness *h);
    void (*use)(QueueHarness *h);
    IsolatedQueueFault fault;
    const char *why;
} Fault;

static MockGuestRequest *bad_request(QueueHarness *h)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 16, 16, 0);
    mock_guest_add(h->guest, r, false, 16, 16, 0);
    mock_guest_add(h->guest, r, true, 16, 16, 0);
    mock_guest_add(h->guest, r, true, 16, 16, 0);
    return r;
}

static void offer_bad_chain(QueueHarness *h)
{
    MockGuestRequest *r = bad_request(h);

    r->bad_chain = true;
    queue_offer_request(h, r);
}

static void offer_bad_source(QueueHarness *h)
{
    MockGuestRequest *r = bad_request(h);

    r->bad_buf = 1;
    queue_offer_request(h, r);
}

static void offer_bad_target(QueueHarness *h)
{
    MockGuestRequest *r = bad_request(h);

    r->bad_buf = 3;
    queue_offer_request(h, r);
}

/* Completions behind it stay in the ring. */
static void use_last(QueueHarness *h)
{
    backend_fetch_all(h);
    backend_complete(h, h->held->len - 1);
    backend_complete(h, 1);
    backend_complete(h, 0);
    backend_publish(h);
}

static void use_bad(QueueHarness *h, uint32_t id)
{
    mock_device_use_raw(&h->device, id, 0);
    backend_publish(h);
}

static void use_id_out_of_range(QueueHarness *h)
{
    use_bad(h, h->params.ring_size);
}

static void use_id_huge(QueueHarness *h)
{
    use_bad(h, UINT32_MAX);
}

static void use_id_twice(QueueHarness *h)
{
    const BackendRequest *r = g_ptr_array_index(h->held, 0);
    uint16_t id = r->ring.id;

    backend_complete(h, 0);
    use_bad(h, id);
}

/* Nothing more was used, but the ring says so. */
static void use_ahead(QueueHarness *h)
{
    backend_fetch_all(h);
    while (h->held->len) {
        backend_complete(h, 0);
    }
    backend_publish(h);
    queue_settle(h);
    mock_device_run_ahead(&h->device, 100);
    event_notifier_set(&h->link->call);
}

static const Fault faults[] = {
    { offer_bad_chain, NULL, ISOLATED_QUEUE_FAULT_GUEST_RING, "is a loop" },
    { offer_bad_source, NULL, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
      "device-readable buffer is not in RAM" },
    { offer_bad_target, use_last, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
      "device-writable buffer is not in RAM" },
    { NULL, use_id_out_of_range, ISOLATED_QUEUE_FAULT_BACKEND, "id" },
    { NULL, use_id_huge, ISOLATED_QUEUE_FAULT_BACKEND, "id" },
    { NULL, use_id_twice, ISOLATED_QUEUE_FAULT_BACKEND, "" },
    { NULL, use_ahead, ISOLATED_QUEUE_FAULT_BACKEND, "device " },
};

static void break_it(QueueHarness *h, const Fault *f)
{
    h->num_faulted = 0;
    queue_offer_many(h, 10, 100, 100);
    queue_settle(h);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_nonnull(backend_fetch(h));
    }
    if (f->offer) {
        f->offer(h);
        queue_settle(h);
    }
    if (f->use) {
        f->use(h);
    }
    queue_assert_broken(h, f->fault, f->why);
    queue_collect(h);
}

/* Whatever guest, backend and control do. */
static void assert_dead(QueueHarness *h, const Fault *f)
{
    unsigned looks = h->guest->num_looks;
    unsigned calls = h->guest->num_calls;

    for (unsigned i = 0; i < 3; i++) {
        queue_offer(h, 100, 100);
        event_notifier_set(&h->guest->kick);
        if (h->held->len) {
            backend_complete(h, 0);
        }
        mock_device_publish(&h->device);
        event_notifier_set(&h->link->call);
        queue_settle(h);
        queue_detach(h);
        if (i == 1) {
            mock_guest_own(h->guest, true);
            g_assert_cmpuint(isolated_queue_drain(h->q), ==, 0);
            isolated_queue_unpark(h->q);
            mock_guest_disown(h->guest);
        }
        queue_attach(h);
    }
    queue_assert_broken(h, f->fault, f->why);
    g_assert_cmpuint(queue_collect(h), ==, 0);
    g_assert_cmpuint(h->guest->num_looks, ==, looks);
    g_assert_cmpuint(h->guest->num_calls, ==, calls);
}

static void assert_alive(QueueHarness *h)
{
    const char *why;

    g_assert_cmpint(isolated_queue_fault(h->q, &why), ==,
                    ISOLATED_QUEUE_FAULT_NONE);
    queue_attach(h);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_RUNNING);
    for (unsigned i = 0; i < 3; i++) {
        queue_offer_many(h, 50, 100, 100);
        queue_finish(h);
    }
}

static void latched_until_reset(QueueHarness *h)
{
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        break_it(h, &faults[i]);
        assert_dead(h, &faults[i]);
        queue_stop(h, true);
        queue_attach(h);
        queue_detach(h);
        queue_reconnect(h);
        queue_attach(h);
        queue_assert_broken(h, faults[i].fault, faults[i].why);
        queue_detach(h);
        queue_reset(h);
        assert_alive(h);
    }
}

/* A backend that did nothing wrong stays connected. */
static void same_connection_after_reset(QueueHarness *h)
{
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        if (faults[i].fault != ISOLATED_QUEUE_FAULT_BACKEND) {
            break_it(h, &faults[i]);
            queue_stop(h, true);
            queue_reset(h);
            assert_alive(h);
        }
    }
}

/* Found outside the data path. */
static void fault_from_outside(QueueHarness *h)
{
    queue_stop(h, true);
    isolated_queue_guest_fault(h->q, "a ring is not in RAM");
    isolated_queue_guest_fault(h->q, "and this is not heard");
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
                        "a ring is not in RAM");
    queue_reset(h);
    assert_alive(h);
}

/* Each is more than one batch may move. */
static MockGuestRequest *offer_batch(QueueHarness *h)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 16, 16, 0);
    mock_guest_add(h->guest, r, true, 9 * MiB, 4096, 0);
    return r;
}

/* A stop finds the fault, and completions behind it. */
static void nothing_behind_a_fault(QueueHarness *h)
{
    MockGuestRequest *r = offer_batch(h);

    r->bad_buf = 1;
    queue_offer_request(h, r);
    queue_offer_request(h, offer_batch(h));
    queue_settle(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, 2);
    queue_stop_begin(h);
    backend_use(h, 0, 0, 1);
    backend_use(h, 0, 0, 1);
    mock_device_publish(&h->device);
    isolated_queue_drain(h->q);
    mock_guest_disown(h->guest);
    g_assert_cmpuint(h->guest->sent_used, ==, 0);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
                        "device-writable buffer is not in RAM");
}

static void test_nothing_behind(void)
{
    const QueueParams params = { .share = 64 * MiB, .slot_bytes = 16 * MiB };

    queue_run_matrix(&params, nothing_behind_a_fault);
}

static void run(const void *scenario)
{
    queue_run_matrix(&defaults, scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, scenario) \
    g_test_add_data_func("/isolated-queue/fault/" claim, scenario, run)
    ADD("is-latched-and-told-once-until-reset", latched_until_reset);
    ADD("of-the-guest-leaves-the-connection-usable",
        same_connection_after_reset);
    ADD("from-outside-is-latched-too", fault_from_outside);
#undef ADD
    g_test_add_func("/isolated-queue/fault/nothing-is-returned-behind-it",
                    test_nothing_behind);
    return g_test_run();
}
