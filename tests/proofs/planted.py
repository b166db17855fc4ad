# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs that the proofs must find: a proof that finds none shows nothing.

Each is a small change to a copy of a source file, named by what it breaks,
with the proof that is to fail and, where its runs are many, which of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from table import Edit

RING = "hw/virtio/shadow-ring.c"
INTERNAL = "hw/virtio/shadow-ring-internal.h"
SPLIT = "hw/virtio/shadow-ring-split.c"
PACKED = "hw/virtio/shadow-ring-packed.c"
CHAIN = "hw/virtio/virtio-chain.c"
UNDO = "hw/virtio/virtio-chain-undo.c"
POOL = "hw/virtio/bounce-pool.c"


@dataclass(frozen=True)
class Bug:
    """A change to a copy of a source file that @proof finds."""

    name: str
    proof: str
    edit: Edit
    cases: tuple[str, ...] = ()
    slow: bool = False


PLANTED: tuple[Bug, ...] = (
    Bug("id-one-beyond-the-ring-is-accepted", "split-any-state-2",
        Edit(INTERNAL, "raw_id >= ring->size", "raw_id > ring->size"),
        ("take",)),
    Bug("unpublished-token-is-given-back", "split-any-state-2",
        Edit(INTERNAL, "entry[raw_id].seq >= ring->sent_seq",
             "entry[raw_id].seq > ring->sent_seq"), ("take",)),
    Bug("token-is-given-back-twice", "split-first-4-steps-2",
        Edit(INTERNAL, "    entry->token = NULL;\n", ""), slow=True),
    Bug("room-is-not-given-back", "split-any-state-2",
        Edit(INTERNAL, "    ring->num_free += entry->num_descs;\n", ""),
        ("take",)),
    Bug("broken-ring-goes-on", "split-broken-4",
        Edit(RING, "    if (ring->fault) {\n"
             "        return SHADOW_RING_BROKEN;\n    }\n", "")),
    Bug("broken-ring-is-taken-back-from", "packed-broken-3",
        Edit(RING, "    if (ring->fault) {\n        return NULL;\n    }\n",
             "")),
    Bug("used-index-is-not-masked", "split-any-state-2",
        Edit(SPLIT, "s->next_used & (ring->size - 1)", "s->next_used"),
        ("take",)),
    Bug("chain-is-not-closed", "split-any-state-4",
        Edit(SPLIT, "s->link[s->link[head].last].next = s->next_free;",
             "s->link[head].next = s->next_free;"), ("take",), slow=True),
    Bug("kick-check-forgets-the-batch", "split-any-state-2",
        Edit(SPLIT, "ring->sent_seq, num);", "ring->sent_seq, 1);"),
        ("kick",)),
    Bug("kick-check-is-not-moved-back", "split-any-state-2",
        Edit(SPLIT, "    s->next_kick_seq = MIN(s->next_kick_seq, "
             "ring->sent_seq);\n", ""), ("take_back",)),
    Bug("any-vring-base-is-believed", "split-any-state-2",
        Edit(SPLIT, "raw_base > UINT16_MAX || unfetched > "
             "shadow_ring_published(ring)", "raw_base > UINT16_MAX"),
        ("unfetched",)),
    Bug("event-of-the-next-buffer-is-met", "split-event",
        Edit(SPLIT, "(now - event - 1) < num", "(now - event - 1) <= num")),
    Bug("packed-slot-runs-over-the-end", "packed-any-state-2",
        Edit(INTERNAL, "unlikely(idx >= size)", "unlikely(idx > size)"),
        ("add",)),
    Bug("packed-used-cursor-moves-by-one", "packed-any-state-2",
        Edit(PACKED, "packed_step_used(p, ring->entry[raw_id].num_descs)",
             "packed_step_used(p, 1)"), ("take",)),
    Bug("packed-used-flags-keep-the-lap", "packed-any-state-2",
        Edit(PACKED, "        p->used_flags ^= PACKED_F_BOTH;\n", ""),
        ("take",)),
    Bug("packed-id-is-not-given-back", "packed-any-state-2",
        Edit(PACKED, "    packed_give_id(p, raw_id);\n", ""), ("take",)),
    Bug("packed-batch-is-published-at-its-end", "packed-any-state-3",
        Edit(PACKED, "    if (p->batch_descs) {\n",
             "    if (!p->batch_descs) {\n"),
        ("add",), slow=True),
    Bug("packed-base-among-returned-requests-is-believed",
        "packed-any-state-2",
        Edit(PACKED, "!entry->token || entry->seq != seq", "!entry->token"),
        ("unfetched",)),
    Bug("packed-kick-is-lost-where-the-lap-ends", "packed-any-state-3",
        Edit(INTERNAL, "(now.wrap == event.wrap ? 0 : size)",
             "(now.wrap == event.wrap ? 0 : 0)"), ("kick",)),
    Bug("packed-event-decision-forgets-the-lap", "packed-event-formula",
        Edit(INTERNAL, "behind + 2 * size", "behind + size")),
    Bug("packed-step-back-keeps-the-wrap-counter", "packed-cursor",
        Edit(INTERNAL, "bool around = num > c.idx;\n\n    return "
             "(RingCursor) {\n        .idx = around ? c.idx + size - num : "
             "c.idx - num,\n        .wrap = c.wrap ^ around,",
             "bool around = num > c.idx;\n\n    return "
             "(RingCursor) {\n        .idx = around ? c.idx + size - num : "
             "c.idx - num,\n        .wrap = c.wrap,")),
    Bug("descriptor-beyond-its-table-is-read", "chain-pop-2",
        Edit(CHAIN, "desc->next >= table->num_descs",
             "desc->next > table->num_descs"), ("split",)),
    Bug("chain-outgrows-its-storage", "chain-pop-2",
        Edit(CHAIN, "num == VIRTQUEUE_MAX_SIZE", "num > VIRTQUEUE_MAX_SIZE"),
        ("split",)),
    Bug("ring-outside-its-region-is-used", "chain-pop-2",
        Edit(CHAIN, "cache->len < size", "cache->len + 1 < size"),
        ("packed",)),
    Bug("thread-takes-the-big-lock", "chain-pop-2",
        Edit(CHAIN, "vdev->ring_as &&\n        !bql_locked()",
             "vdev->ring_as &&\n        bql_locked()"),
        ("split",)),
    Bug("too-many-packed-requests-are-popped", "chain-pop-2",
        Edit(CHAIN, "vq->inuse >= num || chain->ndescs > num - vq->inuse",
             "vq->inuse >= num"), ("packed",)),
    Bug("unpop-forgets-the-lap", "chain-pop-2",
        Edit(UNDO, "if (vq->last_avail_idx < chain->ndescs)",
             "if (vq->last_avail_idx <= chain->ndescs)"), ("packed",)),
    Bug("copy-runs-over-the-end-of-ram", "chain-copy",
        Edit(CHAIN, "offset + sizeof(ChainDesc) <= table->end",
             "offset < table->end")),
    Bug("hole-that-is-too-small-is-taken", "pool-any-state",
        Edit(POOL, "e->end - start < size", "e->end - start + 512 < size"),
        ("2-extents-0-recent",), slow=True),
    Bug("alignment-of-a-recent-span-is-not-looked-at", "pool-any-state",
        Edit(POOL, "extent_bytes(e) == size && QEMU_IS_ALIGNED(e->start, "
             "align)", "extent_bytes(e) == size"), ("1-extents-1-recent",), slow=True),
    Bug("tail-of-a-hole-is-lost", "pool-any-state",
        Edit(POOL, "            extent_insert(pool, i + 1, tail);\n", ""),
        ("1-extents-1-recent",), slow=True),
    Bug("neighbours-are-not-merged", "pool-any-state",
        Edit(POOL, "prev->end == e.start", "prev->end + 1 == e.start"),
        ("1-extents-2-recent",), slow=True),
    Bug("what-is-given-is-still-held", "pool-any-state",
        Edit(POOL, "    pool->num_held--;\n", ""), ("1-extents-0-recent",)),
    Bug("used-span-is-called-fresh", "pool-any-state",
        Edit(POOL, "taken.start >= pool->high_water",
             "taken.end >= pool->high_water"), ("1-extents-1-recent",), slow=True),
)
