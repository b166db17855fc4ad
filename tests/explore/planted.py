# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults that the explorer must find.

Each is planted in a copy of the ring files: one text there is replaced by
another.  The scenario is one that the true ring passes.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMON = "shadow-ring.c"
INTERNAL = "shadow-ring-internal.h"
SPLIT = "shadow-ring-split.c"
PACKED = "shadow-ring-packed.c"


@dataclass(frozen=True)
class Planted:
    """One fault: what it is, where, and which scenario shows it."""

    name: str
    file: str
    old: str
    new: str
    scenario: str
    fault: str                  # a part of what the explorer says

    @property
    def options(self) -> list[str]:
        form = "packed" if self.file == PACKED else "split"
        words = self.scenario.split()
        if "--format" not in words:
            words += ["--format", form]
        return words


SLEEPS = "sleeps and nobody will wake it"

FAULTS = [
    # Barriers.  x86 needs the full ones, C11 all of them.
    Planted("split-kick-without-barrier", SPLIT,
            "    smp_mb();\n    if (ring->event_idx) {",
            "    if (ring->event_idx) {",
            "--memory tso --size 1 --num 2 --event-idx", SLEEPS),
    Planted("split-kick-without-barrier-flags", SPLIT,
            "    smp_mb();\n    if (ring->event_idx) {",
            "    if (ring->event_idx) {",
            "--memory tso --size 1 --num 2", SLEEPS),
    Planted("split-kick-barrier-too-late", SPLIT,
            "    smp_mb();\n"
            "    if (ring->event_idx) {\n"
            "        return split_event_passed("
            "foreign_read16(s->avail_event),",
            "    if (ring->event_idx) {\n"
            "        uint16_t event = foreign_read16(s->avail_event);\n"
            "        smp_mb();\n"
            "        return split_event_passed(event,",
            "--memory tso --size 1 --num 2 --event-idx", SLEEPS),
    Planted("split-arm-without-barrier", SPLIT,
            "    smp_mb();\n    return split_has_used(ring);",
            "    return split_has_used(ring);",
            "--memory tso --size 1 --num 2 --event-idx", SLEEPS),
    Planted("split-arm-without-barrier-flags", SPLIT,
            "    smp_mb();\n    return split_has_used(ring);",
            "    return split_has_used(ring);",
            "--memory tso --size 1 --num 2", SLEEPS),
    Planted("split-publish-without-release", SPLIT,
            "foreign_write16_release(&s->avail->idx, ring->sent_seq)",
            "foreign_write16(&s->avail->idx, ring->sent_seq)",
            "--memory c11 --size 1 --num 2 --event-idx",
            "buffers for the device"),
    Planted("split-take-without-acquire", SPLIT,
            "uint16_t raw_idx = foreign_read16_acquire(&s->used->idx)",
            "uint16_t raw_idx = foreign_read16(&s->used->idx)",
            "--memory c11 --size 1 --num 2 --event-idx",
            "came back with the length"),
    Planted("packed-kick-without-barrier", PACKED,
            "    smp_mb();\n    return packed_wants_kick(",
            "    return packed_wants_kick(",
            "--memory tso --size 1 --num 2 --event-idx", SLEEPS),
    Planted("packed-kick-without-barrier-flags", PACKED,
            "    smp_mb();\n    return packed_wants_kick(",
            "    return packed_wants_kick(",
            "--memory tso --size 1 --num 2", SLEEPS),
    Planted("packed-arm-without-barrier", PACKED,
            "    smp_mb();\n    return packed_has_used(ring);",
            "    return packed_has_used(ring);",
            "--memory tso --size 1 --num 2 --event-idx", SLEEPS),
    Planted("packed-arm-without-barrier-flags", PACKED,
            "    smp_mb();\n    return packed_has_used(ring);",
            "    return packed_has_used(ring);",
            "--memory tso --size 1 --num 2", SLEEPS),
    Planted("packed-publish-without-release", PACKED,
            "foreign_write16_release(&p->desc[p->batch_slot].flags",
            "foreign_write16(&p->desc[p->batch_slot].flags",
            "--memory c11 --size 2 --num 2 --event-idx", "for the device"),
    Planted("packed-take-without-acquire", PACKED,
            "packed_is_used(p, foreign_read16_acquire(&desc->flags))",
            "packed_is_used(p, foreign_read16(&desc->flags))",
            "--memory c11 --size 1 --num 2 --event-idx",
            "came back with the length"),

    # What is shown before it is complete.
    Planted("split-index-before-descriptors", SPLIT,
            "    if (chain->table) {\n        split_write_table",
            "    foreign_write16_release(&s->avail->idx, "
            "ring->next_seq + 1);\n"
            "    if (chain->table) {\n        split_write_table",
            "--memory sc --size 2 --num 3 --event-idx", "for the device"),
    Planted("split-index-before-ring", SPLIT,
            "    /* Often it is there already",
            "    foreign_write16_release(&s->avail->idx, "
            "ring->next_seq + 1);\n"
            "    /* Often it is there already",
            "--memory sc --size 2 --num 4 --event-idx --bufs 1",
            "for the device"),
    Planted("packed-first-flags-first", PACKED,
            "    first_flags = flags;\n",
            "    first_flags = flags;\n"
            "    foreign_write16(&desc->flags, flags);\n",
            "--memory sc --size 3 --num 3 --event-idx --bufs 2", SLEEPS),

    Planted("packed-batch-shown-at-its-first-chain", PACKED,
            "    if (p->batch_descs) {\n"
            "        foreign_write16(&p->desc[p->next_avail.idx].flags, "
            "flags);\n    } else {",
            "    foreign_write16(&p->desc[p->next_avail.idx].flags, flags);\n"
            "    if (!p->batch_descs) {",
            "--memory c11 --size 2 --num 2 --event-idx", "for the device"),

    # Event arithmetic.
    Planted("split-kick-looks-at-last-only", SPLIT,
            "                                  ring->sent_seq, num);",
            "                                  ring->sent_seq, 1);",
            "--memory sc --size 2 --num 4 --event-idx", SLEEPS),
    Planted("split-event-off-by-one", SPLIT,
            "return (uint16_t)(now - event - 1) < num;",
            "return (uint16_t)(now - event) < num;",
            "--memory sc --size 2 --num 3 --event-idx", SLEEPS),
    Planted("split-event-wrap-forgotten", SPLIT,
            "return (uint16_t)(now - event - 1) < num;",
            "return now > event && now - event - 1 < (int64_t)num;",
            "--memory sc --size 2 --num 4 --event-idx --before 65534", SLEEPS),
    Planted("split-arms-behind", SPLIT,
            "        split_send_used_event(s, s->next_used);",
            "        split_send_used_event(s, s->next_used - 1);",
            "--memory sc --size 2 --num 3 --event-idx", SLEEPS),
    Planted("split-arms-ahead", SPLIT,
            "        split_send_used_event(s, s->next_used);",
            "        split_send_used_event(s, s->next_used + 1);",
            "--memory sc --size 2 --num 3 --event-idx", SLEEPS),
    Planted("packed-kick-looks-at-last-only", PACKED,
            "ring_cursor_passed(packed_sent_end(p), num, event,",
            "ring_cursor_passed(packed_sent_end(p), 1, event,",
            "--memory sc --size 3 --num 4 --event-idx", SLEEPS),
    Planted("packed-kick-looks-at-what-is-not-published", PACKED,
            "ring_cursor_passed(packed_sent_end(p), num, event,",
            "ring_cursor_passed(p->next_avail, num, event,",
            "--memory sc --size 2 --num 4 --event-idx --driver late", SLEEPS),
    Planted("packed-kick-counts-requests", PACKED,
            "    p->num_unasked += p->batch_descs;",
            "    p->num_unasked += 1;",
            "--memory sc --size 4 --num 4 --event-idx --bufs 2", SLEEPS),
    Planted("packed-arms-without-wrap", PACKED,
            "                ring_cursor_encode(p->next_used);",
            "                p->next_used.idx;",
            "--memory sc --size 2 --num 3 --event-idx", SLEEPS),
    Planted("packed-event-wrap-ignored", INTERNAL,
            "(now.wrap == event.wrap ? 0 : size);", "0;",
            "--format packed --memory sc --size 2 --num 4 --event-idx",
            SLEEPS),
    Planted("packed-event-half-circle", INTERNAL,
            "(uint64_t)(behind < 0 ? behind + 2 * size : behind) < num",
            "(uint64_t)behind < num - 1",
            "--format packed --memory sc --size 2 --num 4 --event-idx",
            SLEEPS),

    # Wishes that are not what was sent.
    Planted("split-wish-stays", SPLIT,
            "        split_send_flags(s, 0);", "        ;",
            "--memory sc --size 2 --num 3", SLEEPS),
    Planted("split-look-before-sleep-is-stale", SPLIT,
            "    return s->next_used != s->seen_used ||\n"
            "           foreign_read16(&s->used->idx) != s->seen_used;",
            "    return s->next_used != s->seen_used;",
            "--memory sc --size 2 --num 3 --event-idx", SLEEPS),
    Planted("split-kick-wish-inverted", SPLIT,
            "return !(foreign_read16(&s->used->flags)",
            "return (foreign_read16(&s->used->flags)",
            "--memory sc --size 2 --num 3", SLEEPS),
    Planted("packed-event-store-spared", PACKED,
            "if (p->sent_event != event) {",
            "if ((p->sent_event ^ event) >> 16) {",
            "--memory sc --size 2 --num 4 --event-idx", SLEEPS),
    Planted("packed-disable-is-enable", PACKED,
            "    uint32_t event = PACKED_EVENT(VRING_PACKED_EVENT_FLAG_ENABLE)",
            "    uint32_t event = "
            "PACKED_EVENT(VRING_PACKED_EVENT_FLAG_DISABLE)",
            "--memory sc --size 2 --num 3", SLEEPS),
    Planted("packed-kick-asks-old-event", PACKED,
            "        return false;\n    case VRING_PACKED_EVENT_FLAG_DESC:",
            "    case VRING_PACKED_EVENT_FLAG_ENABLE:\n"
            "        return false;\n    case VRING_PACKED_EVENT_FLAG_DESC:",
            "--memory sc --size 2 --num 3", SLEEPS),

    # Tokens and descriptors.
    Planted("split-ring-slot-not-written", SPLIT,
            "if (ring->order[slot] != head) {",
            "if (!ring->sent_seq) {",
            "--memory sc --size 2 --num 4 --event-idx", "for the device"),
    Planted("split-chain-half-freed", SPLIT,
            "s->link[s->link[head].last].next = s->next_free;",
            "s->link[head].next = s->next_free;",
            "--memory sc --size 4 --num 6 --bufs 2 --event-idx "
            "--driver one --device all", "for the device"),
    Planted("common-room-of-a-chain-lost", INTERNAL,
            "    ring->num_free += entry->num_descs;",
            "    ring->num_free++;",
            "--memory sc --size 4 --num 4 --bufs 2 --event-idx "
            "--driver one --device all", "the ring is not empty at the end"),
    Planted("common-publishes-one-less", COMMON,
            "    ring->sent_seq = ring->next_seq;\n    ring->ops->publish",
            "    ring->sent_seq = ring->next_seq - (ring->sent_seq > 1);\n"
            "    ring->ops->publish",
            "--memory sc --size 2 --num 4 --event-idx", SLEEPS),
    Planted("packed-skips-one-slot-of-a-chain", PACKED,
            "    packed_step_used(p, ring->entry[raw_id].num_descs);",
            "    packed_step_used(p, 1);",
            "--memory sc --size 4 --num 4 --bufs 2 --event-idx "
            "--driver one --device all", SLEEPS),
    Planted("packed-id-not-given-back", PACKED,
            "    packed_give_id(p, raw_id);\n", "",
            "--memory sc --size 2 --num 4 --event-idx",
            "came back with the length"),
    Planted("packed-id-in-first-descriptor-only", PACKED,
            "        packed_write_buf(desc, buf, id);\n"
            "        foreign_write16",
            "        packed_write_buf(desc, buf, 0);\n"
            "        foreign_write16",
            "--memory sc --size 4 --num 4 --bufs 2 --event-idx "
            "--driver all --device reverse", "came back with the length"),
    Planted("packed-chain-keeps-its-wrap-counter", PACKED,
            "            flags ^= PACKED_F_BOTH;\n", "",
            "--memory sc --size 4 --num 3 --bufs 3 --event-idx "
            "--driver one --device all",
            "a chain with a part that is not available"),
    Planted("packed-wraps-one-slot-late", INTERNAL,
            "    if (unlikely(idx >= size)) {",
            "    if (unlikely(idx > size)) {",
            "--format packed --memory sc --size 2 --num 4 --event-idx",
            "access outside of the shared memory"),
    Planted("packed-used-wraps-one-slot-late", PACKED,
            "    if (unlikely(p->next_used.idx >= p->ring.size)) {",
            "    if (unlikely(p->next_used.idx > p->ring.size)) {",
            "--memory sc --size 3 --num 4 --bufs 2 --event-idx "
            "--driver one --device all",
            "access outside of the shared memory"),
    Planted("packed-used-keeps-its-wrap-counter", PACKED,
            "        p->used_flags ^= PACKED_F_BOTH;\n", "",
            "--memory sc --size 2 --num 4 --event-idx", SLEEPS),
    Planted("packed-lap-not-told-apart", PACKED,
            "return (raw_flags & PACKED_F_BOTH) == p->used_flags;",
            "raw_flags &= PACKED_F_BOTH;\n"
            "    return raw_flags == PACKED_F_BOTH || !raw_flags;",
            "--memory sc --size 2 --num 4 --event-idx", "not in flight"),
]
