# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults that a device at full speed must find.

Each is planted in a copy of the ring files: one text there is replaced by
another.  The run is one that the true ring passes.
"""

from __future__ import annotations

from dataclasses import dataclass

SPLIT = "shadow-ring-split.c"
PACKED = "shadow-ring-packed.c"
RACE = "WARNING: ThreadSanitizer: data race"
STUCK = "both sides sleep"


@dataclass(frozen=True)
class Planted:
    """One fault: what it is, where, and which run shows it."""

    name: str
    file: str
    old: str
    new: str
    device: str                 # linux, honest, or a compiler: under TSan
    words: str
    fault: str                  # a part of what the program says


def _relaxed(file: str, old: str, new: str, what: str) -> list[Planted]:
    options = "--num 20000 --size 64" + (" --packed" if file == PACKED
                                         else "")
    return [Planted(f"{what}-{compiler}", file, old, new, compiler, options,
                    RACE) for compiler in ("gcc", "clang")]


FAULTS = [
    # Payload is plain memory: a missing order is a race on it.
    *_relaxed(SPLIT, "foreign_write16_release(&s->avail->idx, ring->sent_seq)",
              "foreign_write16(&s->avail->idx, ring->sent_seq)",
              "split-publish-relaxed"),
    *_relaxed(SPLIT, "uint16_t raw_idx = foreign_read16_acquire(",
              "uint16_t raw_idx = foreign_read16(", "split-take-relaxed"),
    *_relaxed(PACKED, "foreign_write16_release(&p->desc[p->batch_slot].flags",
              "foreign_write16(&p->desc[p->batch_slot].flags",
              "packed-publish-relaxed"),
    *_relaxed(PACKED,
              "packed_is_used(p, foreign_read16_acquire(&desc->flags))",
              "packed_is_used(p, foreign_read16(&desc->flags))",
              "packed-take-relaxed"),

    # Two sides in one thread know at once when both sleep.
    Planted("vringh-kick-looks-at-last-only", SPLIT,
            "                                  ring->sent_seq, num);",
            "                                  ring->sent_seq, 1);",
            "linux", "--one-thread --event-idx --num 10000", STUCK),
    Planted("vringh-event-wrap-forgotten", SPLIT,
            "return (uint16_t)(now - event - 1) < num;",
            "return now > event && now - event - 1 < (int64_t)num;",
            "linux", "--one-thread --event-idx --num 70000 --size 8", STUCK),
    Planted("vringh-arms-behind", SPLIT,
            "        split_send_used_event(s, s->next_used);",
            "        split_send_used_event(s, s->next_used - 1);",
            "linux", "--one-thread --event-idx --num 10000", STUCK),
    Planted("vringh-wish-stays", SPLIT,
            "        split_send_flags(s, 0);", "        ;",
            "linux", "--one-thread --num 10000", STUCK),
    Planted("vringh-table-out-of-order", SPLIT,
            "flags & VRING_DESC_F_NEXT ? i + 1 : 0);",
            "flags & VRING_DESC_F_NEXT ? num - 1 : 0);",
            "linux", "--one-thread --indirect --num 10000",
            "another number of buffers"),
    Planted("vringh-ring-slot-not-written", SPLIT,
            "if (ring->order[slot] != head) {",
            "if (!ring->sent_seq) {",
            "linux", "--one-thread --num 10000", "the device"),
    Planted("vringh-chain-half-freed", SPLIT,
            "s->link[s->link[head].last].next = s->next_free;",
            "s->link[head].next = s->next_free;",
            "linux", "--one-thread --num 10000",
            "another number of buffers"),

    Planted("packed-kick-counts-requests", PACKED,
            "    p->num_unasked += p->batch_descs;",
            "    p->num_unasked += 1;",
            "honest", "--one-thread --event-idx --packed --num 10000", STUCK),
    Planted("packed-arms-without-wrap", PACKED,
            "                ring_cursor_encode(p->next_used);",
            "                p->next_used.idx;",
            "honest", "--one-thread --event-idx --packed --num 10000", STUCK),
]
