/*
 * Shadow ring against an honest device.
 *
 * Each test is a claim.  Its scenario is written once and runs on the whole
 * matrix of ring-harness.c, also with the ring's memory hidden from the
 * driver, so every one of them shows that nothing is read back.
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

static void in_order(RingHarness *h)
{
    for (unsigned round = 0; round < 5; round++) {
        harness_add_and_publish(h, h->params.size);
        g_assert_cmpuint(harness_fetch_all(h), ==, h->params.size);
        harness_use_all(h);
        g_assert_cmpuint(harness_take_all(h), ==, h->params.size);
    }
}

static void out_of_order(RingHarness *h)
{
    for (unsigned round = 0; round < 5; round++) {
        unsigned num = g_test_rand_int_range(1, h->params.size + 1);

        harness_add_and_publish(h, MIN(num, shadow_ring_room(h->ring)));
        harness_fetch_all(h);
        num = g_test_rand_int_range(1, h->held->len + 1);
        while (num--) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), num);
        }
        harness_publish_used(h);
        harness_take_all(h);
    }
}

static void invisible(RingHarness *h)
{
    harness_add(h, 0, 1);
    g_assert_false(harness_fetch(h));
    g_assert_false(harness_should_kick(h));
    harness_publish(h);
    g_assert_true(harness_fetch(h));
    harness_publish(h);
    g_assert_false(harness_fetch(h));
}

static void hidden_used(RingHarness *h)
{
    harness_add_and_publish(h, h->params.size);
    harness_fetch_all(h);
    harness_use(h, 0, 1);
    g_assert_null(harness_take(h));
    harness_publish_used(h);
    g_assert_nonnull(harness_take(h));
    g_assert_null(harness_take(h));
}

/* Lengths are nobody's business here; they only pass through. */
static void raw_len(RingHarness *h)
{
    static const uint32_t lens[] = { 0, 1, INT32_MAX, UINT32_MAX };

    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        harness_add_and_publish(h, 1);
        harness_fetch_all(h);
        harness_use(h, 0, lens[i]);
        harness_publish_used(h);
        g_assert_nonnull(harness_take(h));
    }
}

static void whole_ring(RingHarness *h)
{
    for (unsigned num_in = 0; num_in <= h->params.size; num_in++) {
        if (num_in > 8 && num_in < h->params.size - 8) {
            continue;
        }
        g_assert_true(harness_has_room(h, h->params.size));
        harness_add(h, h->params.size - num_in, num_in);
        harness_publish(h);
        g_assert_cmpuint(harness_fetch_all(h), ==, 1);
        harness_use_all(h);
        g_assert_nonnull(harness_take(h));
    }
}

/* A table may have more descriptors than the ring. */
static void table(RingHarness *h)
{
    if (!h->params.indirect) {
        return;
    }
    for (unsigned i = 0; i < 3 * h->params.size; i++) {
        unsigned num_out = i % (HARNESS_TABLE_BUFS + 1);

        h->next_serial |= 1;
        harness_add(h, num_out, HARNESS_TABLE_BUFS - num_out);
        harness_publish(h);
        g_assert_true(harness_fetch(h));
        g_assert_true(h->fetched.indirect);
        if (shadow_ring_room(h->ring) == 0) {
            harness_use_all(h);
            harness_take_all(h);
        }
    }
}

static void add_random(RingHarness *h)
{
    unsigned num = g_test_rand_int_range(1, 9);
    unsigned num_in = g_test_rand_int_range(0, num + 1);

    if (harness_has_room(h, num)) {
        harness_add(h, num - num_in, num_in);
    }
}

static void random_step(RingHarness *h)
{
    switch (g_test_rand_int_range(0, 8)) {
    case 0:
    case 1:
        add_random(h);
        break;
    case 2:
        harness_publish(h);
        break;
    case 3:
        harness_fetch(h);
        break;
    case 4:
        if (h->held->len) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), 7);
        }
        break;
    case 5:
        harness_publish_used(h);
        break;
    case 6:
        harness_take(h);
        break;
    default:
        harness_should_kick(h);
        harness_suppress_calls(h);
        g_assert_cmpint(harness_arm_calls(h), ==, harness_has_used(h));
        break;
    }
}

static void random_steps(RingHarness *h)
{
    for (unsigned i = 0; i < 5000; i++) {
        random_step(h);
    }
    harness_publish(h);
    harness_fetch_all(h);
    harness_use_all(h);
    harness_take_all(h);
    g_assert_cmpuint(shadow_ring_room(h->ring), ==, h->params.size);
}

/* One request stays out all the time: how old it is must not matter. */
static void wrap(RingHarness *h)
{
    uint32_t num = 0;

    if (h->params.blind) {
        return;
    }
    harness_add_and_publish(h, 1);
    harness_fetch_all(h);
    while (num < 2 * 65536 + 10) {
        harness_add_and_publish(h, MIN(shadow_ring_room(h->ring), 37));
        num += harness_fetch_all(h);
        while (h->held->len > 1) {
            harness_use(h, h->held->len - 1, 0);
        }
        if (h->params.size == 1) {
            num++;
            harness_use_all(h);
            harness_take_all(h);
            harness_add_and_publish(h, 1);
            harness_fetch_all(h);
        }
        harness_publish_used(h);
        harness_take_all(h);
    }
    harness_use_all(h);
    g_assert_cmpuint(harness_take_all(h), ==, 1);
}

/* The oracle counts the published indices one by one. */
static void expect_kick(RingHarness *h, uint16_t event, unsigned num)
{
    uint16_t old = h->device.next_avail;
    bool expected = mock_event_passed(event, old, num);

    mock_device_write_avail_event(&h->device, event);
    harness_add_and_publish(h, num);
    g_assert_cmpint(harness_should_kick(h), ==, expected);
    g_assert_false(harness_should_kick(h));
    harness_fetch_all(h);
    harness_use_all(h);
    harness_take_all(h);
}

static void kick_event(RingHarness *h)
{
    if (!h->params.event_idx) {
        return;
    }
    for (unsigned num = 1; num <= MIN(h->params.size, 9); num++) {
        for (int i = -3; i < (int)num + 3; i++) {
            expect_kick(h, h->device.next_avail + i, num);
        }
        expect_kick(h, h->device.next_avail + 0x8000, num);
        expect_kick(h, g_test_rand_int(), num);
    }
}

static void kick_over_batches(RingHarness *h)
{
    uint16_t event = h->device.next_avail;

    if (h->params.size < 8) {
        return;
    }
    mock_device_arm_kicks(&h->device);
    harness_add_and_publish(h, 2);
    harness_add_and_publish(h, 3);
    /* Only the first of five was asked for, and that in an older batch. */
    g_assert_cmpuint(event, ==, h->device.next_avail);
    g_assert_true(harness_should_kick(h));
    harness_add_and_publish(h, 3);
    g_assert_cmpint(harness_should_kick(h), ==, !h->params.event_idx);
}

/* A device that polls takes more than a lap; then it asks for any index. */
static void kick_after_lap(RingHarness *h)
{
    uint32_t num = 0;

    if (h->params.blind || !h->params.event_idx) {
        return;
    }
    while (num < 65536 + 8) {
        harness_add_and_publish(h, MIN(h->params.size, 32));
        num += harness_fetch_all(h);
        harness_use_all(h);
        harness_take_all(h);
    }
    mock_device_write_avail_event(&h->device, h->device.next_avail - 65530);
    g_assert_true(harness_should_kick(h));
    g_assert_false(harness_should_kick(h));
}

static void kick_flags(RingHarness *h)
{
    if (h->params.event_idx) {
        return;
    }
    for (unsigned i = 0; i < h->params.size; i++) {
        /* Unknown bits mean nothing. */
        mock_device_write_used_flags(&h->device, i % 2 ? 0xfffe : 0xffff);
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
    uint8_t *avail = (uint8_t *)h->device.avail;
    size_t bytes = 6 + 2 * h->params.size;

    if (h->params.blind) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        harness_suppress_calls(h);
        memset(avail, 0xa5, bytes);
        harness_publish(h);
        harness_suppress_calls(h);
        g_assert_true(buffer_is(avail, 0xa5, bytes));
        harness_arm_calls(h);
        memset(avail, 0xa5, bytes);
        harness_arm_calls(h);
        g_assert_true(buffer_is(avail, 0xa5, bytes));
    }
    /* Slot 0 of a new ring leads to descriptor 0, as it did before. */
    harness_add(h, 1, 0);
    g_assert_true(buffer_is(avail, 0xa5, bytes));
}

static void take_back(RingHarness *h)
{
    for (unsigned round = 0; round < 20; round++) {
        unsigned num = g_test_rand_int_range(0, h->params.size + 1);
        unsigned fetched = g_test_rand_int_range(0, num + 1);
        uint16_t unfetched;

        harness_add_and_publish(h, num);
        for (unsigned i = 0; i < fetched; i++) {
            harness_fetch(h);
        }
        g_assert_true(shadow_ring_unfetched(h->ring, h->device.next_avail,
                                            &unfetched));
        g_assert_cmpuint(unfetched, ==, num - fetched);
        while (unfetched--) {
            g_assert_nonnull(harness_take_back(h));
        }
        /* The device's own answer is where both go on. */
        g_assert_cmpuint(shadow_ring_base(h->ring), ==,
                         h->device.next_avail);
        g_assert_false(harness_should_kick(h) && fetched == 0);
        g_assert_false(harness_fetch(h));
        harness_use_all(h);
        harness_take_all(h);
    }
}

static void republish(RingHarness *h)
{
    RingRequest *newest;

    harness_add_and_publish(h, h->params.size);
    harness_should_kick(h);
    newest = harness_take_back(h);
    g_assert_nonnull(newest);
    mock_device_write_avail_event(&h->device, h->params.size - 1);
    harness_add_and_publish(h, 1);
    g_assert_true(harness_should_kick(h));
    g_assert_cmpuint(harness_fetch_all(h), ==, h->params.size);
    harness_use_all(h);
    harness_take_all(h);
}

static void last_freed_first(RingHarness *h)
{
    uint16_t id;

    if (h->params.size < 8) {
        return;
    }
    harness_add_and_publish(h, 4);
    harness_fetch_all(h);
    id = ((RingRequest *)g_ptr_array_index(h->held, 2))->id;
    harness_use(h, 2, 0);
    harness_publish_used(h);
    harness_take(h);
    harness_add_and_publish(h, 1);
    g_assert_true(harness_fetch(h));
    g_assert_cmpuint(h->fetched.id, ==, id);
}

static void test_layout(void)
{
    for (uint32_t size = 1; size <= 32768; size *= 2) {
        ShadowRingLayout l = shadow_ring_layout(SHADOW_RING_SPLIT, size);

        g_assert_cmpuint(l.desc, ==, 0);
        g_assert_cmpuint(l.driver, >=, 16 * size);
        g_assert_cmpuint(l.device, >=, l.driver + 6 + 2 * size);
        g_assert_cmpuint(l.bytes, >=, l.device + 6 + 8 * size);
        g_assert_cmpuint(l.bytes, <, 26 * size + 12 + 3 * 64);
        g_assert_cmpuint((l.driver | l.device | l.bytes) % 64, ==, 0);
    }
}

static void test_largest(void)
{
    RingParams params = { .format = SHADOW_RING_SPLIT, .size = 32768 };
    RingHarness *h = harness_new(&params);

    g_assert_cmpuint(shadow_ring_size(h->ring), ==, 32768);
    g_assert_false(shadow_ring_indirect(h->ring));
    for (unsigned i = 0; i < 5; i++) {
        harness_add_and_publish(h, 32768);
        harness_fetch_all(h);
        harness_use_all(h);
        g_assert_cmpuint(harness_take_all(h), ==, 32768);
    }
    harness_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    harness_add_test("tokens-come-back-in-order", in_order);
    harness_add_test("tokens-come-back-out-of-order", out_of_order);
    harness_add_test("added-is-invisible-before-publish", invisible);
    harness_add_test("used-is-empty-before-used-idx-moves", hidden_used);
    harness_add_test("used-len-passes-through", raw_len);
    harness_add_test("a-chain-fills-the-ring", whole_ring);
    harness_add_test("a-table-takes-one-descriptor", table);
    harness_add_test("random-steps-lose-and-double-nothing", random_steps);
    harness_add_test("indices-wrap-round-an-old-request", wrap);
    harness_add_test("kick-exactly-when-the-event-was-passed", kick_event);
    harness_add_test("kick-check-covers-older-batches", kick_over_batches);
    harness_add_test("kick-after-a-lap-without-a-check", kick_after_lap);
    harness_add_test("kick-unless-the-flag-says-no", kick_flags);
    harness_add_test("suppressed-calls-are-not-made", suppressed);
    harness_add_test("suppressed-calls-stay-so-for-laps",
                     suppressed_for_laps);
    harness_add_test("armed-call-comes-once", armed);
    harness_add_test("arming-says-to-look-again", look_again);
    harness_add_test("words-that-do-not-change-are-not-stored", unchanged);
    harness_add_test("unfetched-requests-are-taken-back", take_back);
    harness_add_test("taken-back-requests-can-be-republished", republish);
    harness_add_test("last-freed-descriptor-is-first-used",
                     last_freed_first);
    g_test_add_func("/shadow-ring/split/areas-share-no-cache-line",
                    test_layout);
    g_test_add_func("/shadow-ring/split/size-32768-works", test_largest);
    return g_test_run();
}
