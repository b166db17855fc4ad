/*
 * Test of the isolated queue: everything at once in random order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

/* Detached while one was on its way to the backend, and to the guest. */
static unsigned num_parts_out, num_parts_in;

static void soak_use(QueueHarness *h)
{
    unsigned i = g_test_rand_int_range(0, h->held->len);
    const BackendRequest *r = g_ptr_array_index(h->held, i);
    uint64_t written = r->guest ?
                       g_test_rand_int_range(0, r->guest->bytes_in + 1) : 0;
    uint32_t len = g_test_rand_bit() ? written :
                   g_test_rand_int_range(0, INT32_MAX);

    backend_use(h, i, written, len);
}

static void soak_check(QueueHarness *h)
{
    queue_settle(h);
    queue_collect(h);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_RUNNING);
    if (!h->parked) {
        g_assert_cmpuint(mock_guest_num_offered(h->guest), ==, 0);
    }
}

static void soak_control(QueueHarness *h)
{
    int step = g_test_rand_int_range(0, 8);

    if (step < 3) {
        queue_detach(h);
        num_parts_out += h->q->next_unsent && h->q->next_unsent->span_bytes;
        num_parts_in += h->q->returning != NULL;
    } else if (step < 6) {
        queue_stop(h, true);
    } else {
        queue_stop(h, false);
    }
    if (step == 0 || step == 5) {
        queue_reset(h);
    }
    if (step >= 6) {
        queue_reconnect(h);
    }
    if (step == 7 && g_test_rand_bit()) {
        queue_reset(h);
    }
    queue_attach(h);
}

static void soak_step(QueueHarness *h)
{
    int step = g_test_rand_int_range(0, 100);

    if (step < 35) {
        queue_offer_random(h, 3000);
    } else if (step < 60) {
        backend_fetch(h);
    } else if (step < 80) {
        if (h->held->len) {
            soak_use(h);
        }
    } else if (step < 88) {
        backend_publish(h);
    } else if (step < 94) {
        queue_collect(h);
    } else if (step < 95) {
        mock_device_arm_kicks(&h->device);
    } else if (step < 98) {
        soak_check(h);
    } else {
        soak_control(h);
    }
    if (!h->iothread) {
        main_loop_wait(true);
    }
}

static void soak(QueueHarness *h)
{
    for (unsigned i = 0; i < 3000; i++) {
        soak_step(h);
    }
    queue_finish(h);
    queue_stop(h, true);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
    g_assert_cmpuint(h->num_faulted, ==, 0);
}

static void test_soak(void)
{
    static const uint16_t sizes[] = { 8, 16, 64, 256 };

    for (unsigned i = 0; i < 6; i++) {
        const QueueParams params = {
            .ring_size = sizes[i % 4],
            .indirect = i % 3 == 0,
            .all_writable = i % 5 == 1,
            .share = i % 2 ? 64 * KiB : 1 * MiB,
            .part_bytes = i % 3 == 2 ? 700 : 0,
            .wipe = i == 5,
            .num_requests = 100,
            .slot_bytes = 64 * KiB,
        };

        queue_run_matrix(&params, soak);
    }
    g_assert_cmpuint(num_parts_out, >, 0);
    g_assert_cmpuint(num_parts_in, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

    g_test_add_func("/isolated-queue/soak/any-order-of-steps-loses-nothing",
                    test_soak);
    return g_test_run();
}
