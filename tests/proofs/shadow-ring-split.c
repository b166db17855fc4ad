/*
 * Proofs of the split shadow ring.  See ring-steps.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "hw/virtio/shadow-ring.c"
#include "hw/virtio/shadow-ring-split.c"

#define RING_FORMAT SHADOW_RING_SPLIT
/* Virtio 1.2, 2.7: flags, index, a slot for each descriptor, an event. */
#define DRIVER_BYTES (6 + 2 * RING_SIZE)
#define DEVICE_BYTES (6 + 8 * RING_SIZE)

#include "ring-steps.h"

/* The other format is not linked in. */
const ShadowRingOps shadow_ring_packed_ops;

static void format_havoc(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);

    for (unsigned i = 0; i < RING_SIZE; i++) {
        s->link[i].next = nondet_u16();
        s->link[i].last = nondet_u16();
    }
    s->next_free = nondet_u16();
    s->next_used = nondet_u16();
    s->seen_used = nondet_u16();
    s->sent_flags = nondet_u16();
    s->sent_used_event = nondet_u16();
    s->next_kick_seq = nondet_u64();
}

/* @num descriptors, linked from @d on, that no other list has.  The last one. */
static bool list_invariant(const SplitRing *s, uint16_t d, unsigned num,
                           bool *seen, uint16_t *last)
{
    for (unsigned i = 0; i < RING_SIZE && i < num; i++) {
        if (d >= RING_SIZE || seen[d]) {
            return false;
        }
        seen[d] = true;
        *last = d;
        d = s->link[d].next;
    }
    return true;
}

static bool format_invariant(const ShadowRing *ring)
{
    const SplitRing *s = split_ring_const(ring);
    bool seen[RING_SIZE] = { false };
    uint16_t last = 0;

    if (s->next_kick_seq > ring->sent_seq ||
        !list_invariant(s, s->next_free, ring->num_free, seen, &last)) {
        return false;
    }
    for (unsigned id = 0; id < RING_SIZE; id++) {
        const ShadowRingEntry *entry = &ring->entry[id];

        if (entry->token &&
            (!list_invariant(s, id, entry->num_descs, seen, &last) ||
             s->link[id].last != last)) {
            return false;
        }
    }
    return true;
}

static uint64_t format_unasked(const ShadowRing *ring)
{
    return ring->sent_seq - split_ring_const(ring)->next_kick_seq;
}

/*
 * Virtio 1.2, 2.7.10: with event_idx, is the index that the device named one
 * of the last @num?  Otherwise its flag decides.
 */
static bool format_kick_wanted(const ShadowRing *ring, uint64_t num,
                               uint64_t raw_event)
{
    uint16_t first = ring->sent_seq - num;
    uint16_t event = raw_event;

    if (!ring->event_idx) {
        return !(event & VRING_USED_F_NO_NOTIFY);
    }
    return num > UINT16_MAX || (uint16_t)(event - first) < num;
}

/* All events, indices and counts. */
void proof_event(void)
{
    uint16_t event = nondet_u16();
    uint16_t now = nondet_u16();
    uint64_t num = nondet_u64();
    uint16_t old = now - num;
    bool passed = split_event_passed(event, now, num);
    unsigned some = nondet_u16();

    /* Each of the indices old, old + 1, ... now - 1 is met. */
    if (some < num) {
        PROVE(split_event_passed(old + some, now, num),
              "an event among the new indices is met");
    }
    /* An event that is met is one of them: this many behind the first. */
    if (passed) {
        PROVE(num > UINT16_MAX || (uint16_t)(event - old) < num,
              "an event that is met is among the new indices");
    }
    if (num <= UINT16_MAX) {
        PROVE(passed == !!vring_need_event(event, now, old),
              "the usual formula says the same");
    }
}
