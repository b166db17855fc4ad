/*
 * Shadow ring against a device that does not play by the rules: what it says
 * that it used, and what it writes elsewhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "ring-hostile.h"

#define ID_BEYOND "device used an id beyond the ring"
#define ID_NOT_OUT "device used an id that is not in flight"
#define IDX_BEYOND "device moved the used index beyond what is in flight"

static uint16_t held_id(const RingHarness *h, unsigned i)
{
    return ((RingRequest *)g_ptr_array_index(h->held, i))->id;
}

static void use_raw_id(RingHarness *h, uint32_t id)
{
    mock_device_use_raw(&h->device, id, 0);
}

static void id_is_size(RingHarness *h)
{
    use_raw_id(h, h->params.size);
}

static void id_is_huge(RingHarness *h)
{
    use_raw_id(h, UINT32_MAX);
}

/* A split ring's id has 32 bits, a packed one's 16. */
static void id_has_high_bits(RingHarness *h)
{
    use_raw_id(h, 0x10000 | held_id(h, 0));
}

static void id_has_top_bit(RingHarness *h)
{
    use_raw_id(h, 0x8000 | held_id(h, 0));
}

static void id_is_free(RingHarness *h)
{
    uint16_t id = 0;

    while (h->device.held[id]) {
        id++;
    }
    use_raw_id(h, id);
}

static void id_twice_in_batch(RingHarness *h)
{
    uint16_t id = held_id(h, 1);

    mock_device_use(&h->device, id, 0);
    use_raw_id(h, id);
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
    const struct vring_desc *desc = (struct vring_desc *)h->device.desc;

    harness_without_table(h);
    harness_add(h, 2, 1);
    harness_publish(h);
    harness_fetch(h);
    use_raw_id(h, le16_to_cpu(desc[h->fetched.id].next));
}

/* In a packed ring the slot is no name: the slots of a chain name nothing. */
static void id_of_slot(RingHarness *h)
{
    unsigned slot;

    harness_without_table(h);
    harness_add(h, 4, 0);
    harness_publish(h);
    harness_fetch(h);
    for (slot = 0; slot < h->params.size; slot++) {
        if (!h->device.held[slot]) {
            use_raw_id(h, slot);
            return;
        }
    }
    g_assert_not_reached();
}

/* It can see the descriptor, but it was not given it. */
static uint16_t add_unpublished(RingHarness *h)
{
    const MockDevice *d = &h->device;
    uint16_t slot = d->next_avail % h->params.size;
    const struct vring_packed_desc *packed =
        (struct vring_packed_desc *)d->desc + slot;
    const struct vring_avail *avail = (struct vring_avail *)d->driver;

    harness_add(h, 1, 0);
    return le16_to_cpu(h->params.format == SHADOW_RING_PACKED ?
                       packed->id : avail->ring[slot]);
}

static void id_of_unpublished(RingHarness *h)
{
    use_raw_id(h, add_unpublished(h));
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

/* The descriptor @i after the next one looks used. */
static void look_used(RingHarness *h, unsigned i, uint16_t id, uint16_t junk)
{
    uint32_t place = mock_device_place(&h->device, h->device.next_used, i);
    uint16_t bits = place < h->params.size ? F_AVAIL | F_USED : 0;

    mock_device_write_used_desc(&h->device, place, id, 0, junk | bits);
}

static void all_look_used(RingHarness *h, uint16_t junk)
{
    for (unsigned i = 0; i < h->held->len; i++) {
        look_used(h, i, held_id(h, i), junk);
    }
}

static void flags_ahead(RingHarness *h)
{
    all_look_used(h, 0);
    look_used(h, h->held->len, held_id(h, 0), 0);
}

static void flags_ahead_of_published(RingHarness *h)
{
    all_look_used(h, 0);
    look_used(h, h->held->len, add_unpublished(h), 0);
}

static void flags_ahead_of_nothing(RingHarness *h)
{
    harness_use_all(h);
    harness_take_all(h);
    look_used(h, 0, 0, 0);
}

/* All that is not a matter of the two bits. */
static void flags_with_garbage(RingHarness *h)
{
    all_look_used(h, (uint16_t)~(F_AVAIL | F_USED));
}

/* Used in another lap is not used: the right id, three wrong flags. */
static void flags_of_other_laps(RingHarness *h)
{
    static const uint16_t bits[] = { 0, F_AVAIL, F_USED, F_AVAIL | F_USED };
    uint32_t place = h->device.next_used;
    bool wrap = place < h->params.size;
    RingRequest *request;

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        if (bits[i] != (wrap ? F_AVAIL | F_USED : 0)) {
            mock_device_write_used_desc(&h->device, place, held_id(h, 0), 0,
                                        bits[i]);
            g_assert_false(harness_has_used(h));
            g_assert_false(harness_arm_calls(h));
            g_assert_cmpint(harness_take_any(h, &request), ==,
                            SHADOW_RING_EMPTY);
        }
    }
}

/* A used descriptor behind the one that is next is not looked at. */
static void used_out_of_turn(RingHarness *h)
{
    MockDevice *d = &h->device;

    mock_device_write_used_desc(d, mock_device_place(d, d->next_used, 1),
                                held_id(h, 0), 0, F_AVAIL | F_USED);
    mock_device_write_used_desc(d, mock_device_place(d, d->next_used, 2),
                                held_id(h, 1), 0, 0);
}

/* Inside the chain that was used: it is skipped, whatever is in it. */
static void used_inside_chain(RingHarness *h)
{
    MockDevice *d = &h->device;
    RingRequest *request;

    harness_use_all(h);
    harness_take_all(h);
    harness_without_table(h);
    harness_add(h, 3, 0);
    harness_publish(h);
    harness_fetch(h);
    look_used(h, 1, h->fetched.id, 0);
    look_used(h, 2, h->fetched.id, 0);
    mock_device_use(d, h->fetched.id, 0);
    mock_device_publish(d);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_OK);
}

/* Gone before anybody looked: then nothing happened. */
static void flags_withdrawn(RingHarness *h)
{
    MockDevice *d = &h->device;
    uint16_t flags = mock_device_read_flags(d, d->next_used);
    RingRequest *request;

    look_used(h, 0, held_id(h, 0), 0);
    g_assert_true(harness_has_used(h));
    mock_device_write_flags(d, d->next_used, flags);
    g_assert_cmpint(harness_take_any(h, &request), ==, SHADOW_RING_EMPTY);
    harness_use_all(h);
}

static void descs_rewritten(RingHarness *h)
{
    mock_device_scribble(&h->device);
    harness_use_all(h);
}

static void events_garbage(RingHarness *h)
{
    for (unsigned i = 0; i < 64; i++) {
        mock_device_write_kick_words(&h->device, g_test_rand_int(),
                                     g_test_rand_int());
        harness_should_kick_any(h);
        harness_suppress_calls(h);
        g_assert_false(harness_arm_calls(h));
    }
    harness_use_all(h);
}

/*
 * Each kind of nonsense, and something published that it is asked about.  One
 * kick too many costs the device something, one too few the guest.
 */
static void events_senseless(RingHarness *h)
{
    static const uint16_t flags[] = { 2, 3, 0xfffe, 0xffff };
    uint16_t size = h->params.size;
    /* Without event_idx the device must not name a place at all. */
    bool event_idx = h->params.event_idx;
    const uint16_t events[] = {
        size, size + 1, 0x7fff, 0x8000 | size, 0x8000 | (size + 1), 0xffff,
        event_idx ? size : 0, event_idx ? size : 0x8000,
    };

    harness_use_all(h);
    harness_take_all(h);
    for (unsigned i = 0; i < ARRAY_SIZE(flags) * ARRAY_SIZE(events); i++) {
        mock_device_write_kick_words(&h->device, flags[i % 4], events[i / 4]);
        harness_add_and_publish(h, 1);
        g_assert_true(harness_should_kick_any(h));
        harness_fetch_all(h);
        harness_use_all(h);
        g_assert_cmpuint(harness_take_all(h), ==, 1);
    }
}

static const HostileMove moves[] = {
    { BOTH, "used-id-beyond-ring-breaks-ring", id_is_size, ID_BEYOND },
    { BOTH, "used-id-huge-breaks-ring", id_is_huge, ID_BEYOND },
    { BOTH, "used-id-with-top-bit-breaks-ring", id_has_top_bit, ID_BEYOND },
    { SPLIT, "used-id-is-not-cut-to-16-bits", id_has_high_bits, ID_BEYOND },
    { BOTH, "used-id-free-breaks-ring", id_is_free, ID_NOT_OUT, 0, 7 },
    { BOTH, "used-id-twice-breaks-ring", id_twice_in_batch, ID_NOT_OUT, 1, 7 },
    { SPLIT, "used-id-again-breaks-ring", id_again_later, ID_NOT_OUT, 0, 2 },
    { PACKED, "used-id-again-breaks-ring", id_again_later, ID_NOT_OUT },
    { SPLIT, "used-id-inside-chain-breaks-ring", id_inside_chain, ID_NOT_OUT,
      0, 8 },
    { PACKED, "used-id-of-a-slot-breaks-ring", id_of_slot, ID_NOT_OUT, 0, 7 },
    { BOTH, "used-id-unpublished-breaks-ring", id_of_unpublished, ID_NOT_OUT,
      0, 7 },
    { SPLIT, "used-idx-ahead-breaks-ring", idx_ahead_by_one, IDX_BEYOND },
    { SPLIT, "used-idx-ahead-of-published-breaks-ring",
      idx_ahead_of_published, IDX_BEYOND, 0, 8 },
    { SPLIT, "used-idx-ahead-of-nothing-breaks-ring", idx_ahead_of_nothing,
      IDX_BEYOND },
    { SPLIT, "used-idx-half-a-lap-ahead-breaks-ring", idx_ahead_by_half_lap,
      IDX_BEYOND },
    { SPLIT, "used-idx-backwards-breaks-ring", idx_backwards, IDX_BEYOND },
    { SPLIT, "used-idx-withdrawn-has-no-effect", idx_withdrawn, NULL },
    { PACKED, "used-flags-ahead-break-ring", flags_ahead, ID_NOT_OUT, 3, 7 },
    { PACKED, "used-flags-ahead-of-published-break-ring",
      flags_ahead_of_published, ID_NOT_OUT, 3, 7 },
    { PACKED, "used-flags-ahead-of-nothing-break-ring",
      flags_ahead_of_nothing, ID_NOT_OUT },
    { PACKED, "used-flags-of-other-laps-have-no-effect",
      flags_of_other_laps, NULL },
    { PACKED, "used-flags-besides-the-two-have-no-effect",
      flags_with_garbage, NULL, 3, 7 },
    { PACKED, "used-flags-withdrawn-have-no-effect", flags_withdrawn, NULL,
      3, 7 },
    { PACKED, "used-out-of-turn-has-no-effect", used_out_of_turn, NULL, 0, 7 },
    { PACKED, "used-inside-a-used-chain-has-no-effect", used_inside_chain,
      NULL, 0, 7 },
    { BOTH, "driver-words-rewritten-have-no-effect", descs_rewritten, NULL,
      3, 7 },
    { BOTH, "event-words-garbage-has-no-effect", events_garbage, NULL, 3, 7 },
    { PACKED, "event-words-senseless-have-no-effect", events_senseless, NULL },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    hostile_add_tests(moves, ARRAY_SIZE(moves));
    return g_test_run();
}
