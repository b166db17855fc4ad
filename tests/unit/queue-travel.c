/*
 * Queue harness: a queue that is saved, and loaded where there is another
 * backend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

/* QEMU's ring counts what was popped, whoever loads it. */
bool guest_chain_restore(GuestQueue *queue, unsigned slots)
{
    MockGuest *g = (MockGuest *)queue->vq;

    return slots == g->device.num_held;
}

/* With everything that hangs off it. */
static void replace_queue(QueueHarness *h)
{
    IsolatedQueueConfig config = h->q->config;

    isolated_queue_free(h->q);
    h->q = isolated_queue_new(&config);
}

GByteArray *queue_save(QueueHarness *h)
{
    GByteArray *stream = g_byte_array_new();

    queue_collect(h);
    isolated_queue_disconnect(h->q);
    mock_guest_own(h->guest, true);
    isolated_queue_unpark(h->q);
    mock_guest_disown(h->guest);
    isolated_queue_save(h->q, stream);
    return stream;
}

void queue_travel(QueueHarness *h)
{
    g_autoptr(GByteArray) stream = queue_save(h);
    unsigned out = isolated_queue_in_flight(h->q);

    replace_queue(h);
    g_assert_true(isolated_queue_load(h->q, stream->data, stream->len,
                                      &error_abort));
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, out);
    g_assert_cmpint(isolated_queue_state(h->q), ==,
                    out ? ISOLATED_QUEUE_KEPT : ISOLATED_QUEUE_IDLE);
    queue_reconnect(h);
}

void queue_load_anything(QueueHarness *h, const uint8_t *data, size_t size)
{
    Error *err = NULL;

    replace_queue(h);
    if (isolated_queue_load(h->q, data, size, &err)) {
        return;
    }
    error_free_or_abort(&err);
    g_assert_cmpuint(isolated_queue_in_flight(h->q), ==, 0);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_IDLE);
}

void queue_travel_often(QueueHarness *h)
{
    uint64_t offered = 0;

    for (unsigned i = 0; i < 12; i++) {
        offered += queue_do_anything(h);
        queue_stop(h, g_test_rand_bit());
        if (g_test_rand_bit()) {
            queue_travel(h);
        } else if (isolated_queue_state(h->q) != ISOLATED_QUEUE_BROKEN) {
            queue_reconnect(h);
        }
        queue_attach(h);
    }
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, offered);
}
