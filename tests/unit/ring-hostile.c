/*
 * Ring harness: devices that do not play by the rules.
 *
 * A move comes when the ring has been round, and some requests are out.  If
 * it breaks the ring, nothing comes out of that any more, whatever the device
 * does then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "ring-hostile.h"

/* Buffers that look used, so far as the format can say that. */
static void use_nonsense(RingHarness *h, unsigned i)
{
    MockDevice *d = &h->device;

    if (h->params.format == SHADOW_RING_PACKED) {
        mock_device_write_used_desc(d, i, i, 0, i % 2 ? F_AVAIL | F_USED : 0);
    } else {
        mock_device_write_used_elem(d, d->next_used + i, i, 0);
        mock_device_write_used_idx(d, d->next_used + i);
    }
}

/* Nothing becomes visible, nothing comes back. */
static void expect_nothing_shown(RingHarness *h)
{
    const MockDevice *d = &h->device;
    g_autofree uint8_t *desc = g_memdup2(d->desc, d->desc_bytes);
    g_autofree uint8_t *driver = g_memdup2(d->driver, d->driver_bytes);
    uint16_t num;

    shadow_ring_publish(h->ring);
    if (h->num_unpublished == 0) {
        g_assert_null(shadow_ring_take_back(h->ring));
    }
    g_assert_false(shadow_ring_unfetched(h->ring, mock_device_base(d), &num));
    g_assert_cmpmem(d->desc, d->desc_bytes, desc, d->desc_bytes);
    g_assert_cmpmem(d->driver, d->driver_bytes, driver, d->driver_bytes);
}

/* Nothing comes out, and the first fault stays. */
static void expect_broken(RingHarness *h, const char *fault)
{
    unsigned in_flight = shadow_ring_in_flight(h->ring);
    unsigned room = shadow_ring_room(h->ring);
    RingRequest *request;

    g_assert_cmpstr(shadow_ring_fault(h->ring), ==, fault);
    for (unsigned i = 0; i < 4; i++) {
        use_nonsense(h, i);
        g_assert_cmpint(harness_take_any(h, &request), ==,
                        SHADOW_RING_BROKEN);
        g_assert_null(request);
        g_assert_false(harness_has_used(h));
        g_assert_false(harness_arm_calls(h));
        g_assert_false(shadow_ring_should_kick(h->ring));
        harness_suppress_calls(h);
    }
    expect_nothing_shown(h);
    g_assert_cmpuint(shadow_ring_in_flight(h->ring), ==, in_flight);
    g_assert_cmpuint(shadow_ring_room(h->ring), ==, room);
    g_assert_cmpstr(shadow_ring_fault(h->ring), ==, fault);
}

static void run_move(RingHarness *h, const HostileMove *move, unsigned laps)
{
    RingRequest *request;

    if (h->params.size < move->min_size) {
        return;
    }
    /* Not the first lap of the ring, and not the first index either. */
    harness_round_trip(h, h->params.size + 1 + laps * h->params.size);
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
    run_move(h, the_move, 0);
}

/* With the other wrap counter. */
static void run_the_move_later(RingHarness *h)
{
    run_move(h, the_move, 1);
}

static void test_split(const void *data)
{
    the_move = data;
    harness_run_matrix(SHADOW_RING_SPLIT, run_the_move);
}

static void test_packed(const void *data)
{
    the_move = data;
    harness_run_matrix(SHADOW_RING_PACKED, run_the_move);
    harness_run_matrix(SHADOW_RING_PACKED, run_the_move_later);
}

static void add_move(const HostileMove *move, ShadowRingFormat format)
{
    g_autofree char *path = g_strdup_printf("/shadow-ring/%s/%s",
                                            harness_format_name(format),
                                            move->name);

    g_test_add_data_func(path, move, format == SHADOW_RING_PACKED ?
                         test_packed : test_split);
}

void hostile_add_tests(const HostileMove *moves, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        for (unsigned format = 0; format < SHADOW_RING__MAX; format++) {
            if (moves[i].formats & (1 << format)) {
                add_move(&moves[i], format);
            }
        }
    }
}
