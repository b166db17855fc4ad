/*
 * Shadow ring against an honest device: what goes in comes out.
 *
 * Each test is a claim.  Its scenario is written once and runs on the whole
 * matrix of ring-matrix.c, also with the ring's memory hidden from the driver,
 * so every one of them shows that nothing is read back.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "ring-harness.h"

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

        harness_with_table(h);
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

/* Whatever the device wants to be told now. */
static void device_asks(RingHarness *h)
{
    switch (g_test_rand_int_range(0, h->params.event_idx ? 4 : 2)) {
    case 0:
        mock_device_suppress_kicks(&h->device);
        break;
    case 1:
        mock_device_arm_kicks(&h->device);
        break;
    default:
        mock_device_ask_for_kick(&h->device,
                                 g_test_rand_int_range(-3, 8));
        break;
    }
}

static void random_step(RingHarness *h)
{
    switch (g_test_rand_int_range(0, 10)) {
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
    case 7:
        if (g_test_rand_int_range(0, 20) == 0) {
            harness_stop_and_resume(h);
        }
        break;
    case 8:
        device_asks(h);
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

/* The last value of an index is a place to stop at, as any other. */
static void stop_at_the_last_index(RingHarness *h)
{
    if (h->params.size == 8 && !h->params.blind) {
        harness_round_trip(h, UINT16_MAX);
        harness_add_and_publish(h, 1);
        g_assert_cmphex(mock_device_base(&h->device), ==, UINT16_MAX);
        harness_stop_and_resume(h);
        harness_round_trip(h, h->params.size);
    }
}

/* So it wraps at each of its descriptors, and spans the whole ring. */
static void chain_everywhere(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        for (unsigned num = 1; num <= h->params.size; num += step) {
            unsigned num_in = g_test_rand_int_range(0, num + 1);

            harness_go_to(h, place);
            harness_without_table(h);
            harness_add(h, num - num_in, num_in);
            harness_publish(h);
            g_assert_cmpuint(harness_fetch_all(h), ==, 1);
            harness_use_all(h);
            g_assert_nonnull(harness_take(h));
            g_assert_null(harness_take(h));
        }
    }
}

/* A whole ring at once, in chains of any length, at each place. */
static void batch_everywhere(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        harness_go_to(h, place);
        while (shadow_ring_room(h->ring)) {
            unsigned room = MIN(shadow_ring_room(h->ring), 200);

            harness_add(h, g_test_rand_int_range(1, room + 1), 0);
        }
        g_assert_false(harness_fetch(h));
        harness_publish(h);
        harness_fetch_all(h);
        while (h->held->len) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), 1);
            if (g_test_rand_bit()) {
                harness_publish_used(h);
                harness_take_all(h);
            }
        }
        harness_publish_used(h);
        harness_take_all(h);
    }
}

static void last_freed_first(RingHarness *h)
{
    uint16_t id;

    if (h->params.size < 7) {
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

static void test_layout_split(void)
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

static void test_layout_packed(void)
{
    for (uint32_t size = 1; size <= 32768; size++) {
        ShadowRingLayout l = shadow_ring_layout(SHADOW_RING_PACKED, size);

        g_assert_cmpuint(l.desc, ==, 0);
        g_assert_cmpuint(l.driver, >=, 16 * size);
        g_assert_cmpuint(l.device, >=, l.driver + 4);
        g_assert_cmpuint(l.bytes, >=, l.device + 4);
        g_assert_cmpuint(l.bytes, <, 16 * size + 8 + 3 * 64);
        g_assert_cmpuint((l.driver | l.device | l.bytes) % 64, ==, 0);
    }
}

static void fill_large(RingHarness *h, unsigned num)
{
    while (shadow_ring_room(h->ring)) {
        harness_add(h, MIN(num, shadow_ring_room(h->ring)), 0);
    }
    harness_publish(h);
}

static void run_large(ShadowRingFormat format, uint16_t size)
{
    RingParams params = { .format = format, .size = size, .event_idx = true };
    RingHarness *h = harness_new(&params);
    const int events[] = { 0, -1, size - 1, size, size + 1, -size };

    g_assert_cmpuint(shadow_ring_size(h->ring), ==, size);
    g_assert_false(shadow_ring_indirect(h->ring));
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        /* Somewhere else in each lap. */
        harness_round_trip(h, 1 + i);
        mock_device_should_call(&h->device);
        harness_should_kick_any(h);
        mock_device_ask_for_kick(&h->device, events[i]);
        g_assert_false(harness_arm_calls(h));
        fill_large(h, i ? 97 : 1);
        harness_should_kick(h);
        harness_fetch_all(h);
        harness_use_all(h);
        g_assert_true(mock_device_should_call(&h->device));
        harness_take_all(h);
    }
    harness_free(h);
}

static void test_largest_split(void)
{
    run_large(SHADOW_RING_SPLIT, 32768);
}

static void test_largest_packed(void)
{
    run_large(SHADOW_RING_PACKED, 32767);
    run_large(SHADOW_RING_PACKED, 32768);
}

/* A ring of any size goes round, more than once. */
static void test_any_size(void)
{
    for (unsigned size = 1; size <= 70; size++) {
        RingParams params = {
            .format = SHADOW_RING_PACKED,
            .size = size,
            .event_idx = size & 2,
            .indirect = size & 4,
        };
        RingHarness *h = harness_new(&params);

        for (unsigned i = 0; i < 1000; i++) {
            random_step(h);
        }
        harness_free(h);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    harness_add_test("tokens-come-back-in-order", in_order);
    harness_add_test("tokens-come-back-out-of-order", out_of_order);
    harness_add_test("added-is-invisible-before-publish", invisible);
    harness_add_test("used-is-empty-before-it-is-shown", hidden_used);
    harness_add_test("used-len-passes-through", raw_len);
    harness_add_test("a-chain-fills-the-ring", whole_ring);
    harness_add_test("a-table-takes-one-descriptor", table);
    harness_add_test("random-steps-lose-and-double-nothing", random_steps);
    harness_add_test("indices-wrap-round-an-old-request", wrap);
    harness_add_test_of(SHADOW_RING_SPLIT, "device-stops-at-the-last-index",
                        stop_at_the_last_index);
    harness_add_test("chain-works-at-each-place-in-each-length",
                     chain_everywhere);
    harness_add_test("batch-works-at-each-place", batch_everywhere);
    harness_add_test("last-freed-descriptor-is-first-used",
                     last_freed_first);
    g_test_add_func("/shadow-ring/split/areas-share-no-cache-line",
                    test_layout_split);
    g_test_add_func("/shadow-ring/packed/areas-share-no-cache-line",
                    test_layout_packed);
    g_test_add_func("/shadow-ring/split/size-32768-works",
                    test_largest_split);
    g_test_add_func("/shadow-ring/packed/size-32768-works",
                    test_largest_packed);
    g_test_add_func("/shadow-ring/packed/any-size-works", test_any_size);
    return g_test_run();
}
