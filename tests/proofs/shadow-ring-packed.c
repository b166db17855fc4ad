/*
 * Proofs of the packed shadow ring.  See ring-steps.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "hw/virtio/shadow-ring.c"
#include "hw/virtio/shadow-ring-packed.c"

#define RING_FORMAT SHADOW_RING_PACKED
/* Virtio 1.2, 2.8.14: an event structure each. */
#define DRIVER_BYTES 4
#define DEVICE_BYTES 4

#include "ring-steps.h"

/* The other format is not linked in. */
const ShadowRingOps shadow_ring_split_ops;

static void format_havoc(ShadowRing *ring)
{
    PackedRing *p = packed_ring(ring);

    for (unsigned i = 0; i < RING_SIZE; i++) {
        p->next_free[i] = nondet_u16();
    }
    p->free_id = nondet_u16();
    p->next_avail.idx = nondet_u16();
    p->next_avail.wrap = nondet_bool();
    p->next_used.idx = nondet_u16();
    p->next_used.wrap = nondet_bool();
    p->used_flags = nondet_u16();
    p->batch_slot = nondet_u16();
    p->batch_flags = nondet_u16();
    p->batch_descs = nondet_u32();
    p->sent_event = nondet_u32();
    p->num_unasked = nondet_u64();
    /* As with the numbers of requests: no machine lasts so long. */
    ASSUME(p->num_unasked < UINT64_MAX - RING_SIZE);
}

/* Places of two laps, 0 to 2 * @size - 1: the second has wrap counter 0. */
static uint32_t place(RingCursor c, uint32_t size)
{
    return c.idx + (c.wrap ? 0 : size);
}

/* The place @num before @place, on the circle of two laps. */
static uint32_t place_before(uint32_t place, uint32_t num, uint32_t size)
{
    return place >= num ? place - num : place + 2 * size - num;
}

static bool ids_invariant(const PackedRing *p)
{
    bool seen[RING_SIZE] = { false };
    uint16_t id = p->free_id;

    for (unsigned i = p->ring.num_in_flight; i < RING_SIZE; i++) {
        if (id >= RING_SIZE || seen[id] || p->ring.entry[id].token) {
            return false;
        }
        seen[id] = true;
        id = p->next_free[id];
    }
    return true;
}

static bool format_invariant(const ShadowRing *ring)
{
    const PackedRing *p = packed_ring_const(ring);
    uint32_t unpublished = 0;
    uint32_t avail = place(p->next_avail, RING_SIZE);

    if (p->next_avail.idx >= RING_SIZE || p->next_used.idx >= RING_SIZE) {
        return false;
    }
    for (unsigned id = 0; id < RING_SIZE; id++) {
        if (ring->entry[id].token && ring->entry[id].seq >= ring->sent_seq) {
            unpublished += ring->entry[id].num_descs;
        }
    }
    /* Slots between the cursors are those of the requests that are out. */
    return ids_invariant(p) && p->batch_descs == unpublished &&
           p->used_flags == (p->next_used.wrap ? PACKED_F_BOTH : 0) &&
           place_before(avail, RING_SIZE - ring->num_free, RING_SIZE) ==
           place(p->next_used, RING_SIZE) &&
           (!unpublished || p->batch_slot ==
            place_before(avail, unpublished, RING_SIZE) % RING_SIZE);
}

static uint64_t format_unasked(const ShadowRing *ring)
{
    return packed_ring_const(ring)->num_unasked;
}

/* Virtio 1.2, 2.8.10, looking at the last @num slots one by one. */
static bool format_kick_wanted(const ShadowRing *ring, uint64_t num,
                               uint64_t raw_event)
{
    const PackedRing *p = packed_ring_const(ring);
    uint32_t end = place_before(place(p->next_avail, RING_SIZE),
                                p->batch_descs, RING_SIZE);
    uint32_t flags = (uint32_t)raw_event >> 16;
    uint32_t slot = raw_event & 0x7fff;
    uint32_t event = slot + (raw_event & 0x8000 ? 0 : RING_SIZE);

    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    }
    for (unsigned i = 1; i <= 2 * RING_SIZE && i <= num; i++) {
        if (event == place_before(end, i, RING_SIZE)) {
            return true;
        }
    }
    /* What makes no sense is a wish to be kicked. */
    return !ring->event_idx || slot >= RING_SIZE;
}

static RingCursor any_cursor(uint16_t size)
{
    RingCursor c = { nondet_u16(), nondet_bool() };

    ASSUME(c.idx < size);
    return c;
}

/* All sizes, places and distances. */
void proof_cursor(void)
{
    uint16_t size = nondet_u16();
    uint16_t num = nondet_u16();
    RingCursor c, forward;

    ASSUME(size > 0 && size <= SHADOW_RING_SIZE_MAX && num <= size);
    c = any_cursor(size);
    forward = ring_cursor_forward(c, num, size);
    PROVE(forward.idx < size, "a step forward stays in the ring");
    PROVE(place_before(place(forward, size), num, size) == place(c, size),
          "a step forward goes so many places on");
    PROVE(ring_cursor_equal(ring_cursor_back(forward, num, size), c),
          "a step back undoes a step forward");
    PROVE(ring_cursor_equal(ring_cursor_decode(ring_cursor_encode(c)), c),
          "a cursor is decoded as it was encoded");
    PROVE((ring_cursor_encode(c) & 0x7fff) == c.idx &&
          ring_cursor_encode(c) >> VRING_PACKED_EVENT_F_WRAP_CTR == c.wrap,
          "offset and wrap counter are where the specification has them");
}

/* The event decision: any size, place, event and count. */
typedef struct Event {
    uint16_t size;
    RingCursor now, event;
} Event;

static Event any_event(void)
{
    Event e = { .size = nondet_u16() };

    ASSUME(e.size > 0 && e.size <= SHADOW_RING_SIZE_MAX);
    e.now = any_cursor(e.size);
    e.event = any_cursor(e.size);
    return e;
}

/*
 * For each size alone, format_kick_wanted() is compared with it, slot by slot.
 */
void proof_event_formula(void)
{
    Event e = any_event();
    uint16_t num = nondet_u16();
    uint16_t offset = e.event.idx - (e.event.wrap == e.now.wrap ? 0 : e.size);

    ASSUME(num <= e.size);
    PROVE(ring_cursor_passed(e.now, num, e.event, e.size) ==
          !!vring_need_event(offset, e.now.idx, e.now.idx - num),
          "the usual formula says the same");
}
