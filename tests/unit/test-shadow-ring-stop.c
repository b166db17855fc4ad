/*
 * Shadow ring and a device that stops: where it says that it stopped, whether
 * that can be true, and how both go on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "ring-hostile.h"

#define ID_BEYOND "device used an id beyond the ring"
#define ID_NOT_OUT "device used an id that is not in flight"
#define BASE_BEYOND "device stopped at an index that no request in flight has"
#define BASE_LIES "device used a request that it says it did not fetch"

static void take_back(RingHarness *h)
{
    for (unsigned round = 0; round < 20; round++) {
        unsigned num = g_test_rand_int_range(0, h->params.size + 1);
        unsigned fetched = g_test_rand_int_range(0, num + 1);

        harness_add_and_publish(h, num);
        for (unsigned i = 0; i < fetched; i++) {
            harness_fetch(h);
        }
        harness_stop_and_resume(h);
        g_assert_cmpuint(shadow_ring_in_flight(h->ring), ==, fetched);
        g_assert_false(harness_should_kick(h) && fetched == 0);
        harness_use_all(h);
        harness_take_all(h);
    }
}

/*
 * Chains come back, and single descriptors go where they were: none of the
 * others may look available to the device that goes on there.
 */
static void take_back_everywhere(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        for (unsigned fetch = 0; fetch < 2; fetch++) {
            harness_go_to(h, place);
            while (shadow_ring_room(h->ring)) {
                unsigned room = MIN(shadow_ring_room(h->ring), 200);

                harness_add(h, g_test_rand_int_range(1, room + 1), 0);
            }
            harness_publish(h);
            if (fetch) {
                harness_fetch(h);
            }
            harness_stop_and_resume(h);
            while (shadow_ring_room(h->ring)) {
                harness_add_and_publish(h, 1);
                g_assert_cmpuint(harness_fetch_all(h), ==, 1);
            }
            harness_use_all(h);
            harness_take_all(h);
        }
    }
}

/* Used ones are shown and not taken when the device stops. */
static void stop_with_everything(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned i = 0; i < 3 * h->params.size; i += step) {
        while (shadow_ring_room(h->ring)) {
            harness_add_and_publish(h, 1);
            if (g_test_rand_bit()) {
                harness_fetch(h);
            }
        }
        while (h->held->len && g_test_rand_int_range(0, 3)) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), 5);
        }
        harness_stop_and_resume(h);
        /* And once more, with nothing new. */
        harness_stop_and_resume(h);
        while (h->held->len && g_test_rand_int_range(0, 3)) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), 5);
        }
        harness_publish_used(h);
        harness_take_all(h);
    }
}

/*
 * What is used may have to stay in the ring while the device stops: nobody
 * can be told of it.  The device goes on behind it.
 */
static void stop_with_used(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        unsigned num;
        uint32_t base;

        harness_go_to(h, place);
        while (harness_has_room(h, 2)) {
            harness_add(h, 1, h->next_serial % 3 == 0);
        }
        harness_publish(h);
        harness_fetch_all(h);
        num = h->held->len;
        for (unsigned i = 0; i < num / 2; i++) {
            harness_use(h, g_test_rand_int_range(0, h->held->len), 5);
        }
        harness_publish_used(h);
        base = shadow_ring_base(h->ring);
        g_assert_cmphex(base, ==, mock_device_base(&h->device));
        mock_device_resume(&h->device, base);
        harness_use_all(h);
        g_assert_cmpuint(harness_take_all(h), ==, num);
    }
}

/* What was added since is nothing that the device could have fetched. */
static void answer_without_added(RingHarness *h)
{
    uint16_t unfetched;

    if (h->params.size < 7) {
        return;
    }
    harness_add_and_publish(h, 3);
    harness_fetch(h);
    harness_add(h, 1, 0);
    harness_add(h, 0, 2);
    g_assert_true(shadow_ring_unfetched(h->ring, mock_device_base(&h->device),
                                        &unfetched));
    g_assert_cmpuint(unfetched, ==, 2);
}

/* An in-order device forgets what it fetched, and fetches it again. */
static void fetch_again(RingHarness *h)
{
    unsigned step = harness_place_step(h);

    for (unsigned place = 0; place < 2 * h->params.size; place += step) {
        unsigned num = MIN(h->params.size, 5);
        uint16_t unfetched;

        harness_go_to(h, place);
        harness_add_and_publish(h, num);
        harness_fetch_all(h);
        harness_use(h, 0, 0);
        harness_publish_used(h);
        harness_take_all(h);
        while (h->held->len) {
            harness_unfetch(h);
        }
        g_assert_true(shadow_ring_unfetched(h->ring,
                                            mock_device_base(&h->device),
                                            &unfetched));
        g_assert_cmpuint(unfetched, ==, num - 1);
        g_assert_cmpuint(harness_fetch_all(h), ==, num - 1);
        harness_use_all(h);
        harness_take_all(h);
    }
}

/* What a device is told that sees a ring for the first time. */
static void first_base(RingHarness *h)
{
    bool packed = h->params.format == SHADOW_RING_PACKED;
    uint16_t unfetched = 1;

    g_assert_cmphex(shadow_ring_base(h->ring), ==, packed ? 0x80008000 : 0);
    g_assert_true(shadow_ring_unfetched(h->ring, packed ? 0x8000 : 0,
                                        &unfetched));
    g_assert_cmpuint(unfetched, ==, 0);
    harness_round_trip(h, 1);
    g_assert_cmphex(shadow_ring_base(h->ring), ==, !packed ? 1 :
                    h->params.size == 1 ? 0 : 0x80018001);
}

#define ANSWER_REQUESTS 4

/**
 * Answer - a ring that has just stopped
 * @h: with four requests published, of which all but @used are out
 * @start: place where each begins; then the place after the last
 */
typedef struct Answer {
    RingHarness *h;
    uint32_t start[ANSWER_REQUESTS + 1];
} Answer;

static void answer_begin(Answer *a, const RingParams *params, unsigned place,
                         int used)
{
    RingHarness *h = harness_new(params);

    harness_go_to(h, place);
    for (unsigned i = 0; i < ANSWER_REQUESTS; i++) {
        a->start[i] = h->published_end;
        harness_add(h, 1, i % 2);
        harness_publish(h);
        harness_fetch(h);
    }
    a->start[ANSWER_REQUESTS] = h->published_end;
    a->h = h;
    if (used >= 0) {
        harness_use(h, used, 0);
        harness_publish_used(h);
        harness_take(h);
    }
}

/* Returns: how many it says were not fetched; negative: it cannot be true. */
static int answer_means(const Answer *a, uint32_t place, int used)
{
    bool packed = a->h->params.format == SHADOW_RING_PACKED;
    int num = 0;

    while (num <= ANSWER_REQUESTS && a->start[ANSWER_REQUESTS - num] != place) {
        num++;
    }
    if (packed) {
        /* None that came back already. */
        return num <= ANSWER_REQUESTS - 1 - used ? num : -1;
    }
    /* Which of them came back is found out by take_back. */
    return num <= ANSWER_REQUESTS - (used >= 0) ? num : -1;
}

static void expect_meaning(const RingParams *params, unsigned place, int used,
                           uint32_t raw_base, uint32_t stop)
{
    Answer a;
    uint16_t num = 0xdead;
    int expected;

    answer_begin(&a, params, place, used);
    expected = answer_means(&a, stop, used);
    g_assert_cmpint(shadow_ring_unfetched(a.h->ring, raw_base, &num), ==,
                    expected >= 0);
    g_assert_cmpint(num, ==, expected >= 0 ? expected : 0xdead);
    g_assert_cmpint(!shadow_ring_fault(a.h->ring), ==, expected >= 0);
    harness_free(a.h);
}

/* Each word that a packed device can answer with, about. */
static void any_answer_packed(const RingParams *params, unsigned place,
                              int used)
{
    static const uint16_t halves[] = { 0, 0x8000, 0xffff };
    uint16_t size = params->size;

    for (unsigned i = 0; i < 2 * (size + 3); i++) {
        uint16_t off = i / 2 > size + 1 ? 0x7fff : i / 2;
        bool wrap = i % 2;
        uint32_t stop = off >= size ? UINT32_MAX : wrap ? off : off + size;

        expect_meaning(params, place, used, off | wrap << 15 |
                       (uint32_t)halves[i % 3] << 16, stop);
    }
}

static void any_answer_split(const RingParams *params, unsigned place,
                             int used)
{
    for (int i = -12; i < 12; i++) {
        uint16_t answer = place + i;

        expect_meaning(params, place, used, answer, answer);
        expect_meaning(params, place, used, 0x10000 | answer, UINT32_MAX);
    }
}

static void any_answer(RingHarness *h)
{
    if (h->params.size < 7 || h->params.size > 8 || h->params.blind) {
        return;
    }
    for (unsigned place = 0; place < 2 * h->params.size; place++) {
        for (int used = -1; used < ANSWER_REQUESTS; used++) {
            if (h->params.format == SHADOW_RING_PACKED) {
                any_answer_packed(&h->params, place, used);
            } else {
                any_answer_split(&h->params, place, used);
            }
        }
    }
}

static void republish(RingHarness *h)
{
    RingRequest *newest;

    harness_add_and_publish(h, h->params.size);
    harness_should_kick(h);
    newest = harness_take_back(h);
    g_assert_nonnull(newest);
    if (h->params.event_idx) {
        mock_device_ask_for_kick(&h->device, h->params.size - 1);
    }
    harness_add_and_publish(h, 1);
    g_assert_true(harness_should_kick(h));
    g_assert_cmpuint(harness_fetch_all(h), ==, h->params.size);
    harness_use_all(h);
    harness_take_all(h);
}

static void expect_no_base(RingHarness *h, uint32_t raw_base)
{
    uint16_t num = 0xdead;

    g_assert_false(shadow_ring_unfetched(h->ring, raw_base, &num));
    g_assert_cmphex(num, ==, 0xdead);
}

static void base_ahead(RingHarness *h)
{
    expect_no_base(h, mock_device_base_at(&h->device, 1));
}

static void base_behind(RingHarness *h)
{
    int ahead = -shadow_ring_in_flight(h->ring) - 1;

    expect_no_base(h, mock_device_base_at(&h->device, ahead));
}

static void base_too_wide(RingHarness *h)
{
    expect_no_base(h, 0x10000 | h->device.next_avail);
}

static void base_of_other_lap(RingHarness *h)
{
    expect_no_base(h, mock_device_base_at(&h->device, h->params.size));
}

static void base_beyond_ring(RingHarness *h)
{
    expect_no_base(h, (mock_device_base(&h->device) & ~0x7fffu) |
                   h->params.size);
}

static void base_of_nonsense(RingHarness *h)
{
    expect_no_base(h, UINT32_MAX);
}

static void base_inside_chain(RingHarness *h)
{
    harness_without_table(h);
    harness_add(h, 3, 0);
    harness_publish(h);
    expect_no_base(h, mock_device_base_at(&h->device, 1));
}

static void base_of_used(RingHarness *h)
{
    uint32_t base = mock_device_base_at(&h->device, -1);
    uint16_t num;
    RingRequest *request;

    harness_use(h, h->held->len - 1, 0);
    harness_publish_used(h);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    if (h->params.format == SHADOW_RING_PACKED) {
        expect_no_base(h, base);
        return;
    }
    g_assert_true(shadow_ring_unfetched(h->ring, base, &num));
    g_assert_cmpuint(num, ==, 1);
    g_assert_null(shadow_ring_take_back(h->ring));
}

/* Its id has been given to a younger one since, which does not help. */
static void base_of_used_id_again(RingHarness *h)
{
    harness_use(h, h->held->len - 1, 0);
    harness_publish_used(h);
    g_assert_nonnull(harness_take(h));
    harness_add(h, 1, 0);
    harness_publish(h);
    expect_no_base(h, mock_device_base_at(&h->device, -1));
}

/*
 * The ring has to look at used descriptors to name its base, and what they
 * say is wrong.  It goes no further, and finds out when they are taken.
 */
static void base_before_bad_id(RingHarness *h, uint16_t id)
{
    uint32_t base = mock_device_base(&h->device);

    mock_device_use_raw(&h->device, id, 0);
    g_assert_cmphex(shadow_ring_base(h->ring), ==, base);
    g_assert_null(shadow_ring_fault(h->ring));
}

static void base_before_id_beyond(RingHarness *h)
{
    base_before_bad_id(h, h->params.size);
}

static void base_before_id_huge(RingHarness *h)
{
    base_before_bad_id(h, 0xffff);
}

static void base_before_id_free(RingHarness *h)
{
    uint16_t id = ((RingRequest *)g_ptr_array_index(h->held, 0))->id;

    harness_use(h, 0, 0);
    harness_publish_used(h);
    harness_take(h);
    base_before_bad_id(h, id);
}

/* All that is out, twice over: it counts no further than there are. */
static void base_before_ids_for_ever(RingHarness *h)
{
    uint32_t place = h->device.next_used;

    for (unsigned i = 0; i < h->params.size; i++) {
        uint32_t next = mock_device_place(&h->device, place, i);

        mock_device_write_used_desc(&h->device, next,
                                    h->fetched.id, 0, next < h->params.size ?
                                    F_AVAIL | F_USED : 0);
    }
    g_assert_cmphex(shadow_ring_base(h->ring) >> 16, ==,
                    mock_device_base_at(&h->device, 0) & 0xffff);
}

/* The newest request is used, and its id belongs to no other. */
static void base_of_older(RingHarness *h)
{
    RingRequest *request;

    harness_use(h, 1, 0);
    harness_publish_used(h);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    g_assert_nonnull(shadow_ring_take_back(h->ring));
    g_assert_null(shadow_ring_take_back(h->ring));
}

static const HostileMove moves[] = {
    { BOTH, "base-ahead-breaks-ring", base_ahead, BASE_BEYOND, 0, 2 },
    { BOTH, "base-behind-breaks-ring", base_behind, BASE_BEYOND, 0, 2 },
    { SPLIT, "base-too-wide-breaks-ring", base_too_wide, BASE_BEYOND },
    { PACKED, "base-of-another-lap-breaks-ring", base_of_other_lap,
      BASE_BEYOND, 0, 7 },
    { PACKED, "base-beyond-ring-breaks-ring", base_beyond_ring, BASE_BEYOND },
    { BOTH, "base-nonsense-breaks-ring", base_of_nonsense, BASE_BEYOND },
    { PACKED, "base-inside-chain-breaks-ring", base_inside_chain, BASE_BEYOND,
      0, 7 },
    { SPLIT, "base-of-used-request-breaks-ring", base_of_used, BASE_LIES,
      0, 8 },
    { PACKED, "base-of-used-request-breaks-ring", base_of_used, BASE_BEYOND,
      0, 7 },
    { PACKED, "base-of-used-request-with-id-again-breaks-ring",
      base_of_used_id_again, BASE_BEYOND, 0, 7 },
    { PACKED, "base-goes-no-further-than-an-id-beyond-ring",
      base_before_id_beyond, ID_BEYOND },
    { PACKED, "base-goes-no-further-than-an-id-huge", base_before_id_huge,
      ID_BEYOND },
    { PACKED, "base-goes-no-further-than-an-id-free", base_before_id_free,
      ID_NOT_OUT },
    { PACKED, "base-goes-no-further-than-what-is-out",
      base_before_ids_for_ever, ID_NOT_OUT, 1, 7 },
    { BOTH, "base-of-older-used-request-breaks-ring", base_of_older, BASE_LIES,
      0, 7 },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    harness_add_test("unfetched-requests-are-taken-back", take_back);
    harness_add_test("taken-back-leaves-nothing-available-at-any-place",
                     take_back_everywhere);
    harness_add_test("device-goes-on-from-our-base", stop_with_everything);
    harness_add_test("device-goes-on-behind-what-is-not-taken",
                     stop_with_used);
    harness_add_test("device-may-fetch-again", fetch_again);
    harness_add_test("first-base-is-what-the-format-begins-with", first_base);
    harness_add_test("taken-back-requests-can-be-republished", republish);
    harness_add_test("answer-leaves-out-the-unpublished",
                     answer_without_added);
    harness_add_test("answer-means-exactly-one-thing", any_answer);
    hostile_add_tests(moves, ARRAY_SIZE(moves));
    return g_test_run();
}
