/*
 * Shadow ring against an honest device: kicks and calls.
 *
 * Whether a kick is due is decided twice: by the ring, and by the mock device
 * in harness_should_kick(), which counts places one by one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "ring-harness.h"

static bool buffer_is(const uint8_t *buf, uint8_t byte, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (buf[i] != byte) {
            return false;
        }
    }
    return true;
}

/* The oracle in harness_should_kick() counts places one by one. */
static void expect_kick(RingHarness *h, int ahead, unsigned num, bool chain)
{
    mock_device_ask_for_kick(&h->device, ahead);
    if (chain) {
        harness_without_table(h);
        harness_add(h, 1, num - 1);
        harness_publish(h);
    } else {
        harness_add_and_publish(h, num);
    }
    harness_should_kick(h);
    g_assert_false(harness_should_kick(h));
    harness_fetch_all(h);
    harness_use_all(h);
    harness_take_all(h);
}

/* Of the events, those near the batch; in a small packed ring all of them. */
static void kick_event_here(RingHarness *h, unsigned num, bool chain)
{
    int cycle = MIN(h->device.cycle, 16);

    for (int ahead = -3; ahead < cycle; ahead++) {
        expect_kick(h, ahead, num, chain);
    }
    expect_kick(h, h->device.cycle / 2, num, chain);
    expect_kick(h, g_test_rand_int_range(0, h->device.cycle), num, chain);
}

/* Batches and chains of any length, at each place. */
static void kick_event(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    if (!h->params.event_idx) {
        return;
    }
    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        for (unsigned num = 1; num <= MIN(h->params.size, 8); num++) {
            harness_go_to(h, place);
            kick_event_here(h, num, false);
            kick_event_here(h, num, true);
        }
    }
}

static void kick_over_batches(RingHarness *h)
{
    if (h->params.size < 7) {
        return;
    }
    mock_device_arm_kicks(&h->device);
    harness_add_and_publish(h, 2);
    harness_add_and_publish(h, 3);
    /* Only the first of five was asked for, and that in an older batch. */
    g_assert_true(harness_should_kick(h));
    harness_add_and_publish(h, 2);
    g_assert_cmpint(harness_should_kick(h), ==, !h->params.event_idx);
}

/* One publish, then more is added that nobody can see. */
static void kick_not_for_added(RingHarness *h)
{
    if (h->params.size < 7) {
        return;
    }
    for (unsigned i = 0; i < 20; i++) {
        mock_device_arm_kicks(&h->device);
        harness_add_and_publish(h, 1);
        harness_add(h, 1, 0);
        harness_add(h, 1, 2);
        g_assert_true(harness_should_kick(h));
        g_assert_false(harness_should_kick(h));
        harness_stop_and_resume(h);
    }
}

/* A device that polls takes more than a lap; then it asks for any place. */
static void kick_after_lap(RingHarness *h)
{
    uint32_t num = 0;

    if (h->params.blind || !h->params.event_idx) {
        return;
    }
    while (num < h->device.cycle + 8) {
        harness_add_and_publish(h, MIN(h->params.size, 32));
        num += harness_fetch_all(h);
        harness_use_all(h);
        harness_take_all(h);
    }
    mock_device_ask_for_kick(&h->device,
                             g_test_rand_int_range(0, h->device.cycle));
    g_assert_true(harness_should_kick(h));
    g_assert_false(harness_should_kick(h));
}

static void kick_flags(RingHarness *h)
{
    bool packed = h->params.format == SHADOW_RING_PACKED;

    if (h->params.event_idx && !packed) {
        return;
    }
    for (unsigned i = 0; i < h->params.size; i++) {
        if (packed) {
            mock_device_write_kick_words(&h->device, i % 2 == 0, 0xffff);
        } else {
            /* Unknown bits mean nothing. */
            mock_device_write_kick_words(&h->device,
                                         i % 2 ? 0xfffe : 0xffff, 0);
        }
        harness_add_and_publish(h, 1);
        g_assert_cmpint(harness_should_kick(h), ==, i % 2);
    }
}

static void suppressed(RingHarness *h)
{
    harness_suppress_calls(h);
    for (unsigned i = 0; i < 3000; i++) {
        harness_add_and_publish(h, 1);
        harness_fetch_all(h);
        harness_use_all(h);
        g_assert_false(mock_device_should_call(&h->device));
        harness_take_all(h);
        if (i % 100 == 0) {
            harness_suppress_calls(h);
        }
    }
}

static void armed(RingHarness *h)
{
    for (unsigned i = 0; i < 100; i++) {
        harness_suppress_calls(h);
        harness_add_and_publish(h, h->params.size);
        harness_fetch_all(h);
        g_assert_false(harness_arm_calls(h));
        harness_use(h, 0, 0);
        harness_publish_used(h);
        g_assert_true(mock_device_should_call(&h->device));
        harness_suppress_calls(h);
        harness_use_all(h);
        g_assert_false(mock_device_should_call(&h->device));
        harness_take_all(h);
        /* Next time at another place. */
        harness_round_trip(h, 1);
        mock_device_should_call(&h->device);
    }
}

/* With event_idx a wish is for one buffer, else until it is withdrawn. */
static void armed_for_one(RingHarness *h)
{
    if (h->params.size < 2) {
        return;
    }
    for (unsigned i = 0; i < 2 * h->params.size; i += 2) {
        harness_add_and_publish(h, 2);
        harness_fetch_all(h);
        g_assert_false(harness_arm_calls(h));
        harness_use(h, 1, 0);
        harness_publish_used(h);
        g_assert_true(mock_device_should_call(&h->device));
        harness_use_all(h);
        g_assert_cmpint(mock_device_should_call(&h->device), ==,
                        !h->params.event_idx);
        harness_take_all(h);
        harness_round_trip(h, 1);
        mock_device_should_call(&h->device);
    }
}

/* Also when the last wish was made almost a lap ago. */
static void suppressed_for_laps(RingHarness *h)
{
    uint32_t num = 0;
    unsigned num_calls = 0;

    if (h->params.blind) {
        return;
    }
    while (num < 3 * 65536) {
        harness_add_and_publish(h, MIN(h->params.size, 32));
        harness_suppress_calls(h);
        num += harness_fetch_all(h);
        harness_use_all(h);
        num_calls += mock_device_should_call(&h->device);
        harness_take_all(h);
    }
    g_assert_cmpuint(num_calls, ==, 0);
}

static void look_again(RingHarness *h)
{
    harness_add_and_publish(h, h->params.size);
    harness_fetch_all(h);
    g_assert_false(harness_arm_calls(h));
    harness_use_all(h);
    g_assert_true(harness_arm_calls(h));
    g_assert_nonnull(harness_take(h));
    g_assert_cmpint(harness_arm_calls(h), ==, h->params.size > 1);
}

/* What the device finds has changed in the meantime: its own fault. */
static void unchanged(RingHarness *h)
{
    const MockDevice *d = &h->device;

    if (h->params.blind) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        harness_suppress_calls(h);
        memset(d->driver, 0xa5, d->driver_bytes);
        harness_publish(h);
        harness_suppress_calls(h);
        g_assert_true(buffer_is(d->driver, 0xa5, d->driver_bytes));
        harness_arm_calls(h);
        memset(d->driver, 0xa5, d->driver_bytes);
        harness_arm_calls(h);
        g_assert_true(buffer_is(d->driver, 0xa5, d->driver_bytes));
    }
    /* Slot 0 of a new split ring leads to descriptor 0, as it did before. */
    harness_add(h, 1, 0);
    g_assert_true(buffer_is(d->driver, 0xa5, d->driver_bytes));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    harness_add_test("kick-exactly-when-the-event-was-passed", kick_event);
    harness_add_test("kick-check-covers-older-batches", kick_over_batches);
    harness_add_test("kick-check-leaves-out-the-unpublished",
                     kick_not_for_added);
    harness_add_test("kick-after-a-lap-without-a-check", kick_after_lap);
    harness_add_test("kick-unless-the-flag-says-no", kick_flags);
    harness_add_test("suppressed-calls-are-not-made", suppressed);
    harness_add_test("armed-call-comes-once", armed);
    harness_add_test("armed-call-is-for-one-buffer-with-event-idx",
                     armed_for_one);
    harness_add_test("suppressed-calls-stay-so-for-laps",
                     suppressed_for_laps);
    harness_add_test("arming-says-to-look-again", look_again);
    harness_add_test("words-that-do-not-change-are-not-stored", unchanged);
    return g_test_run();
}
