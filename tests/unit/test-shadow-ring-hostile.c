/*
 * Shadow ring against a device that does not play by the rules.
 *
 * A move is a row of a table: what the device does to a ring that has up to
 * three requests in flight, how many tokens come back all the same, and the
 * sentence with which the ring breaks, if it must.  Afterwards it must give
 * nothing more, whatever the device does then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "ring-harness.h"

#define ID_BEYOND "device used an id beyond the ring"
#define ID_NOT_OUT "device used an id that is not in flight"
#define IDX_BEYOND "device moved the used index beyond what is in flight"
#define BASE_BEYOND "device stopped at an index that no request in flight has"
#define BASE_LIES "device used a request that it says it did not fetch"

typedef struct HostileMove {
    const char *name;
    void (*act)(RingHarness *h);
    const char *fault;        /* NULL: the ring must take no notice */
    unsigned num_ok;          /* tokens before it                   */
    uint16_t min_size;
} HostileMove;

static uint16_t held_id(const RingHarness *h, unsigned i)
{
    return ((RingRequest *)g_ptr_array_index(h->held, i))->id;
}

static void use_raw_id(RingHarness *h, uint32_t id)
{
    mock_device_write_used_elem(&h->device, h->device.next_used++, id, 0);
    mock_device_publish(&h->device);
}

static void id_is_size(RingHarness *h)
{
    use_raw_id(h, h->params.size);
}

static void id_is_huge(RingHarness *h)
{
    use_raw_id(h, UINT32_MAX);
}

static void id_has_high_bits(RingHarness *h)
{
    use_raw_id(h, 0x10000 | held_id(h, 0));
}

static void id_is_free(RingHarness *h)
{
    use_raw_id(h, h->params.size - 1);
}

static void id_twice_in_batch(RingHarness *h)
{
    uint16_t id = held_id(h, 1);

    mock_device_use(&h->device, id, 0);
    mock_device_use(&h->device, id, 0);
    mock_device_publish(&h->device);
}

static void id_again_later(RingHarness *h)
{
    RingRequest *request;
    uint16_t id = held_id(h, 0);

    use_raw_id(h, id);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    use_raw_id(h, id);
}

static void id_inside_chain(RingHarness *h)
{
    harness_add(h, 2, 1);
    harness_publish(h);
    harness_fetch(h);
    use_raw_id(h, le16_to_cpu(h->device.desc[h->fetched.id].next));
}

/* It can see the descriptor, but it was not given it. */
static void id_of_unpublished(RingHarness *h)
{
    uint16_t slot = h->device.next_avail & (h->params.size - 1);

    harness_add(h, 1, 0);
    use_raw_id(h, le16_to_cpu(h->device.avail->ring[slot]));
}

static void idx_ahead_by_one(RingHarness *h)
{
    mock_device_write_used_idx(&h->device, h->device.next_used +
                               shadow_ring_in_flight(h->ring) + 1);
}

static void idx_ahead_of_published(RingHarness *h)
{
    harness_add(h, 1, 0);
    mock_device_write_used_idx(&h->device, h->device.next_used +
                               shadow_ring_in_flight(h->ring));
}

static void idx_ahead_of_nothing(RingHarness *h)
{
    harness_use_all(h);
    harness_take_all(h);
    mock_device_write_used_idx(&h->device, h->device.next_used + 1);
}

static void idx_ahead_by_half_lap(RingHarness *h)
{
    mock_device_write_used_idx(&h->device, h->device.next_used + 0x8000);
}

static void idx_backwards(RingHarness *h)
{
    mock_device_write_used_idx(&h->device, h->device.next_used - 1);
}

/* Once seen, it counts; that it was withdrawn changes nothing. */
static void idx_withdrawn(RingHarness *h)
{
    RingRequest *request;
    uint16_t idx = h->device.next_used;

    harness_use_all(h);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    mock_device_write_used_idx(&h->device, idx);
    while (shadow_ring_in_flight(h->ring)) {
        g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    }
    mock_device_write_used_idx(&h->device, h->device.next_used);
}

static void descs_rewritten(RingHarness *h)
{
    memset(h->device.desc, 0xff, h->params.size * sizeof(*h->device.desc));
    harness_use_all(h);
}

static void avail_rewritten(RingHarness *h)
{
    memset(h->device.avail, 0xff, 6 + 2 * h->params.size);
    harness_use_all(h);
}

static void events_garbage(RingHarness *h)
{
    for (unsigned i = 0; i < 64; i++) {
        mock_device_write_avail_event(&h->device, g_test_rand_int());
        mock_device_write_used_flags(&h->device, g_test_rand_int());
        harness_should_kick(h);
        harness_suppress_calls(h);
        g_assert_false(harness_arm_calls(h));
    }
    harness_use_all(h);
}

static void base_ahead(RingHarness *h)
{
    uint16_t num = 0xdead;

    g_assert_false(shadow_ring_unfetched(h->ring, h->device.next_avail + 1,
                                         &num));
    g_assert_cmphex(num, ==, 0xdead);
}

static void base_behind(RingHarness *h)
{
    uint16_t base = h->device.next_avail - shadow_ring_in_flight(h->ring) - 1;
    uint16_t num;

    g_assert_false(shadow_ring_unfetched(h->ring, base, &num));
}

static void base_too_wide(RingHarness *h)
{
    uint16_t num;

    g_assert_false(shadow_ring_unfetched(h->ring,
                                         0x10000 | h->device.next_avail,
                                         &num));
}

static void base_of_used(RingHarness *h)
{
    uint16_t num;
    RingRequest *request;

    harness_use(h, h->held->len - 1, 0);
    harness_publish_used(h);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
    g_assert_true(shadow_ring_unfetched(h->ring, h->device.next_avail - 1,
                                        &num));
    g_assert_cmpuint(num, ==, 1);
    g_assert_null(shadow_ring_take_back(h->ring));
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
    { "used-id-beyond-ring-breaks-ring", id_is_size, ID_BEYOND },
    { "used-id-huge-breaks-ring", id_is_huge, ID_BEYOND },
    { "used-id-is-not-cut-to-16-bits", id_has_high_bits, ID_BEYOND },
    { "used-id-free-breaks-ring", id_is_free, ID_NOT_OUT, 0, 8 },
    { "used-id-twice-breaks-ring", id_twice_in_batch, ID_NOT_OUT, 1, 8 },
    { "used-id-again-breaks-ring", id_again_later, ID_NOT_OUT, 0, 2 },
    { "used-id-inside-chain-breaks-ring", id_inside_chain, ID_NOT_OUT, 0, 8 },
    { "used-id-unpublished-breaks-ring", id_of_unpublished, ID_NOT_OUT, 0, 8 },
    { "used-idx-ahead-breaks-ring", idx_ahead_by_one, IDX_BEYOND },
    { "used-idx-ahead-of-published-breaks-ring", idx_ahead_of_published,
      IDX_BEYOND, 0, 8 },
    { "used-idx-ahead-of-nothing-breaks-ring", idx_ahead_of_nothing,
      IDX_BEYOND },
    { "used-idx-half-a-lap-ahead-breaks-ring", idx_ahead_by_half_lap,
      IDX_BEYOND },
    { "used-idx-backwards-breaks-ring", idx_backwards, IDX_BEYOND },
    { "used-idx-withdrawn-has-no-effect", idx_withdrawn, NULL, 0 },
    { "descriptors-rewritten-have-no-effect", descs_rewritten, NULL, 3, 8 },
    { "avail-ring-rewritten-has-no-effect", avail_rewritten, NULL, 3, 8 },
    { "event-words-garbage-has-no-effect", events_garbage, NULL, 3, 8 },
    { "base-ahead-breaks-ring", base_ahead, BASE_BEYOND },
    { "base-behind-breaks-ring", base_behind, BASE_BEYOND },
    { "base-too-wide-breaks-ring", base_too_wide, BASE_BEYOND },
    { "base-of-used-request-breaks-ring", base_of_used, BASE_LIES, 0, 8 },
    { "base-of-older-used-request-breaks-ring", base_of_older, BASE_LIES,
      0, 8 },
};

/* Nothing comes out, and the first fault stays. */
static void expect_broken(RingHarness *h, const char *fault)
{
    unsigned in_flight = shadow_ring_in_flight(h->ring);
    RingRequest *request;
    uint16_t avail_idx;
    uint16_t num;

    g_assert_cmpstr(shadow_ring_fault(h->ring), ==, fault);
    for (unsigned i = 0; i < 3; i++) {
        mock_device_write_used_elem(&h->device, h->device.next_used + i, i, 0);
        mock_device_write_used_idx(&h->device, h->device.next_used + i);
        g_assert_cmpint(harness_take_any(h, &request), ==,
                        SHADOW_RING_BROKEN);
        g_assert_null(request);
        g_assert_false(harness_has_used(h));
        g_assert_false(harness_arm_calls(h));
        g_assert_false(harness_should_kick(h));
        harness_suppress_calls(h);
    }
    /* Nothing becomes visible, nothing comes back. */
    avail_idx = h->device.avail->idx;
    shadow_ring_publish(h->ring);
    g_assert_cmphex(h->device.avail->idx, ==, avail_idx);
    if (h->num_unpublished == 0) {
        g_assert_null(shadow_ring_take_back(h->ring));
    }
    g_assert_false(shadow_ring_unfetched(h->ring, h->device.next_avail,
                                         &num));
    g_assert_cmpuint(shadow_ring_in_flight(h->ring), ==, in_flight);
    g_assert_cmpstr(shadow_ring_fault(h->ring), ==, fault);
}

static void run_move(RingHarness *h, const HostileMove *move)
{
    RingRequest *request;

    if (h->params.size < move->min_size) {
        return;
    }
    /* Not the first lap of the ring, and not the first index either. */
    for (unsigned i = 0; i < h->params.size + 1; i++) {
        harness_add_and_publish(h, 1);
        harness_fetch_all(h);
        harness_use_all(h);
        harness_take_all(h);
    }
    harness_add_and_publish(h, MIN(h->params.size, 3));
    harness_fetch_all(h);
    move->act(h);
    if (shadow_ring_fault(h->ring) == NULL) {
        for (unsigned i = 0; i < move->num_ok; i++) {
            g_assert_cmpint(harness_take_any(h, &request), ==,
                            SHADOW_RING_OK);
        }
        g_assert_cmpint(harness_take_any(h, &request), ==, move->fault ?
                        SHADOW_RING_BROKEN : SHADOW_RING_EMPTY);
    }
    if (move->fault) {
        expect_broken(h, move->fault);
    } else {
        g_assert_null(shadow_ring_fault(h->ring));
    }
}

static const HostileMove *the_move;

static void run_the_move(RingHarness *h)
{
    run_move(h, the_move);
}

static void test_move(const void *data)
{
    the_move = data;
    harness_run_matrix(run_the_move);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(moves); i++) {
        g_autofree char *path = g_strdup_printf("/shadow-ring/split/%s",
                                                moves[i].name);

        g_test_add_data_func(path, &moves[i], test_move);
    }
    return g_test_run();
}
