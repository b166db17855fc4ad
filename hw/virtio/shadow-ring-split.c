/*
 * Shadow ring, split format: driver side of virtio 1.2, 2.7.
 *
 * The descriptor table, the available ring and the used ring lie in memory
 * that the device can write at any time.  Of all that only four words are
 * ever read, each once into a local: used.idx, an element's id and len, and
 * the word that says whether the device wants a kick.  The rest is written
 * and never read back; what must be known later is kept in process memory:
 *
 * - link[] chains the descriptors, in use and free alike.  Free ones form a
 *   stack, so that descriptors which are in the cache are used again first.
 *   The id of a request is its first descriptor; link[id].last ends the chain,
 *   which goes back to the stack in one step however long it is.
 * - avail.idx is the low half of sent_seq, avail.ring[] is order[].
 * - sent_flags and sent_used_event spare stores that would change nothing and
 *   would take the cache line from the device.
 *
 * seen_used is used.idx as it was read last.  It may not run ahead of
 * next_used by more than the requests in flight; until next_used has caught
 * up it is not read again, so a batch costs one look at the device's line.
 *
 * Notifications follow virtio 1.2, 2.7.7 and 2.7.10.  With event_idx the wish
 * not to be called is an event that lies behind the device's index and will
 * be met only after the index has gone nearly round: 32768 used buffers at
 * least.  It is a hint either way.
 *
 * Not here: tokens, and whether an id may be used now (shadow-ring.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "standard-headers/linux/virtio_ring.h"
#include "shadow-ring-internal.h"

/* No two areas share a line, or the two sides would fight for it. */
#define SPLIT_AREA_ALIGN 64

typedef struct SplitDesc {
    ForeignLe64 addr;
    ForeignLe32 len;
    ForeignLe16 flags;
    ForeignLe16 next;
} SplitDesc;

QEMU_BUILD_BUG_ON(sizeof(SplitDesc) != SHADOW_RING_DESC_BYTES);

typedef struct SplitAvail {
    ForeignLe16 flags;
    ForeignLe16 idx;
    ForeignLe16 ring[];       /* @size of them, then used_event */
} SplitAvail;

typedef struct SplitUsedElem {
    ForeignLe32 id;
    ForeignLe32 len;
} SplitUsedElem;

typedef struct SplitUsed {
    ForeignLe16 flags;
    ForeignLe16 idx;
    SplitUsedElem ring[];     /* @size of them, then avail_event */
} SplitUsed;

/* What we know about a descriptor. */
typedef struct SplitLink {
    uint16_t next;            /* in its chain, or on the free stack      */
    uint16_t last;            /* of the chain that it begins             */
} SplitLink;

typedef struct SplitRing {
    ShadowRing ring;

    /* Shared memory: we write these, the device must not but can. */
    SplitDesc *desc;
    SplitAvail *avail;
    ForeignLe16 *used_event;
    /* Shared memory: the device writes these. */
    const SplitUsed *used;
    const ForeignLe16 *avail_event;

    /* Ours alone; the thread that uses the ring, no lock. */
    SplitLink *link;          /* by descriptor                           */
    uint16_t next_free;       /* top of the stack, if ring.num_free > 0  */
    uint16_t next_used;       /* index of the used buffer to take next   */
    uint16_t sent_flags;      /* avail.flags                             */
    uint16_t sent_used_event; /* what we last stored there               */
    uint64_t next_kick_seq;   /* first request not asked about yet       */

    /* Private copy of what the device wrote, checked. */
    uint16_t seen_used;       /* used.idx when we last looked            */
} SplitRing;

static SplitRing *split_ring(ShadowRing *ring)
{
    return container_of(ring, SplitRing, ring);
}

static const SplitRing *split_ring_const(const ShadowRing *ring)
{
    return container_of(ring, SplitRing, ring);
}

/* Virtio 1.2, 2.7: 16 bytes a descriptor; 6 + 2 and 6 + 8 bytes a slot. */
static ShadowRingLayout split_layout(uint16_t size)
{
    uint64_t driver = ROUND_UP((uint64_t)size * SHADOW_RING_DESC_BYTES,
                               SPLIT_AREA_ALIGN);
    uint64_t device = ROUND_UP(driver + 6 + 2 * (uint64_t)size,
                               SPLIT_AREA_ALIGN);

    return (ShadowRingLayout) {
        .desc = 0,
        .driver = driver,
        .device = device,
        .bytes = ROUND_UP(device + 6 + 8 * (uint64_t)size, SPLIT_AREA_ALIGN),
    };
}

static ShadowRing *split_new(const ShadowRingConfig *config)
{
    ShadowRingLayout layout = split_layout(config->size);
    SplitRing *s = g_new0(SplitRing, 1);
    uint8_t *mem = config->mem;

    assert(is_power_of_2(config->size));

    s->desc = (SplitDesc *)(mem + layout.desc);
    s->avail = (SplitAvail *)(mem + layout.driver);
    s->used_event = &s->avail->ring[config->size];
    s->used = (const SplitUsed *)(mem + layout.device);
    s->avail_event = (const ForeignLe16 *)&s->used->ring[config->size];

    s->link = g_new0(SplitLink, config->size);
    for (unsigned i = 0; i + 1 < config->size; i++) {
        s->link[i].next = i + 1;
    }
    return &s->ring;
}

static void split_free(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);

    g_free(s->link);
    g_free(s);
}

static void split_write_desc(SplitDesc *desc, const ShadowRingBuf *buf,
                             uint16_t flags, uint16_t next)
{
    foreign_write64(&desc->addr, buf->addr);
    foreign_write32(&desc->len, buf->len);
    foreign_write16(&desc->flags, flags);
    foreign_write16(&desc->next, next);
}

/* Virtio 1.2, 2.7.4.2: all device-readable buffers come first. */
static uint16_t split_buf_flags(const ShadowRingChain *chain, unsigned i)
{
    bool last = i + 1 == chain->num_out + chain->num_in;

    return (i >= chain->num_out ? VRING_DESC_F_WRITE : 0) |
           (last ? 0 : VRING_DESC_F_NEXT);
}

/* Returns: the last descriptor of the chain that begins at next_free. */
static uint16_t split_write_chain(SplitRing *s, const ShadowRingChain *chain)
{
    unsigned num = chain->num_out + chain->num_in;
    uint16_t next = s->next_free;
    uint16_t last = next;

    for (unsigned i = 0; i < num; i++) {
        uint16_t flags = split_buf_flags(chain, i);

        last = next;
        next = s->link[last].next;
        split_write_desc(&s->desc[last], &chain->bufs[i], flags,
                         flags & VRING_DESC_F_NEXT ? next : 0);
    }
    return last;
}

/* Virtio 1.2, 2.7.5.3 */
static void split_write_table(SplitRing *s, const ShadowRingChain *chain)
{
    unsigned num = chain->num_out + chain->num_in;
    SplitDesc *table = chain->table;
    ShadowRingBuf buf = {
        .addr = chain->table_addr,
        .len = num * SHADOW_RING_DESC_BYTES,
    };

    for (unsigned i = 0; i < num; i++) {
        uint16_t flags = split_buf_flags(chain, i);

        split_write_desc(&table[i], &chain->bufs[i], flags,
                         flags & VRING_DESC_F_NEXT ? i + 1 : 0);
    }
    split_write_desc(&s->desc[s->next_free], &buf, VRING_DESC_F_INDIRECT, 0);
}

static uint16_t split_add(ShadowRing *ring, const ShadowRingChain *chain)
{
    SplitRing *s = split_ring(ring);
    uint16_t slot = ring->next_seq & ring->order_mask;
    uint16_t head = s->next_free;
    uint16_t last = head;

    if (chain->table) {
        split_write_table(s, chain);
    } else {
        last = split_write_chain(s, chain);
    }
    s->link[head].last = last;
    s->next_free = s->link[last].next;

    /* Often it is there already: a stack gives the same descriptor again. */
    if (ring->order[slot] != head) {
        foreign_write16(&s->avail->ring[slot], head);
    }
    return head;
}

static void split_publish(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);

    /*
     * Our stores of descriptors and avail.ring[] before our store of
     * avail.idx; the device loads avail.idx, then those.  Otherwise it could
     * follow an old descriptor.
     */
    foreign_write16_release(&s->avail->idx, ring->sent_seq);
}

/*
 * Does one of the @num indices that end before @now equal @event?
 * (virtio 1.2, 2.7.10.1)
 */
static bool split_event_passed(uint16_t event, uint16_t now, uint64_t num)
{
    return (uint16_t)(now - event - 1) < num;
}

static bool split_should_kick(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);
    uint64_t num = ring->sent_seq - s->next_kick_seq;

    if (!num) {
        return false;
    }
    s->next_kick_seq = ring->sent_seq;

    /*
     * Our store of avail.idx before our load of avail_event or used.flags;
     * the device stores those, then loads avail.idx once more before it
     * sleeps.  Without both, a kick can be lost.
     */
    smp_mb();
    if (ring->event_idx) {
        return split_event_passed(foreign_read16(s->avail_event),
                                  ring->sent_seq, num);
    }
    return !(foreign_read16(&s->used->flags) & VRING_USED_F_NO_NOTIFY);
}

static bool split_has_used(const ShadowRing *ring)
{
    const SplitRing *s = split_ring_const(ring);

    return s->next_used != s->seen_used ||
           foreign_read16(&s->used->idx) != s->seen_used;
}

/* Everything that was seen has been taken: is there more? */
static ShadowRingResult split_look(SplitRing *s)
{
    /*
     * The device stores used.ring[], then used.idx; our load of used.idx
     * before our loads of used.ring[].  Otherwise we could take an old
     * element.
     */
    uint16_t raw_idx = foreign_read16_acquire(&s->used->idx);

    if (raw_idx == s->seen_used) {
        return SHADOW_RING_EMPTY;
    }
    if ((uint16_t)(raw_idx - s->seen_used) > shadow_ring_published(&s->ring)) {
        shadow_ring_break(&s->ring, "device moved the used index beyond what "
                                    "is in flight");
        return SHADOW_RING_BROKEN;
    }
    s->seen_used = raw_idx;
    return SHADOW_RING_OK;
}

static void split_give_descs(SplitRing *s, uint16_t head)
{
    s->link[s->link[head].last].next = s->next_free;
    s->next_free = head;
}

static ShadowRingResult split_take(ShadowRing *ring, void **token,
                                   uint32_t *raw_len)
{
    SplitRing *s = split_ring(ring);
    const SplitUsedElem *elem;
    uint32_t raw_id;
    void *claimed;

    if (s->next_used == s->seen_used) {
        ShadowRingResult result = split_look(s);

        if (result != SHADOW_RING_OK) {
            return result;
        }
    }

    elem = &s->used->ring[s->next_used & (ring->size - 1)];
    raw_id = foreign_read32(&elem->id);
    claimed = shadow_ring_claim(ring, raw_id);
    if (!claimed) {
        return SHADOW_RING_BROKEN;
    }
    split_give_descs(s, raw_id);
    s->next_used++;
    *raw_len = foreign_read32(&elem->len);
    *token = claimed;
    return SHADOW_RING_OK;
}

static void split_send_flags(SplitRing *s, uint16_t flags)
{
    if (s->sent_flags != flags) {
        s->sent_flags = flags;
        foreign_write16(&s->avail->flags, flags);
    }
}

static void split_send_used_event(SplitRing *s, uint16_t event)
{
    if (s->sent_used_event != event) {
        s->sent_used_event = event;
        foreign_write16(s->used_event, event);
    }
}

static void split_suppress_calls(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);
    uint16_t raw_idx;

    if (!ring->event_idx) {
        split_send_flags(s, VRING_AVAIL_F_NO_INTERRUPT);
        return;
    }
    /*
     * An event that the device has passed is as good as none, and after a
     * call it has passed it.  Unchecked: a wrong index costs the device a
     * call at most.
     */
    raw_idx = foreign_read16(&s->used->idx);
    if ((uint16_t)(s->sent_used_event - raw_idx) < 0x8000) {
        split_send_used_event(s, s->next_used - 1);
    }
}

static bool split_arm_calls(ShadowRing *ring)
{
    SplitRing *s = split_ring(ring);

    if (ring->event_idx) {
        split_send_used_event(s, s->next_used);
    } else {
        split_send_flags(s, 0);
    }
    /*
     * Our store of used_event or avail.flags before our load of used.idx; the
     * device stores used.idx, then loads those.  Without both, a call can be
     * lost.
     */
    smp_mb();
    return split_has_used(ring);
}

static uint32_t split_base(const ShadowRing *ring)
{
    return (uint16_t)ring->next_seq;
}

static bool split_unfetched(const ShadowRing *ring, uint32_t raw_base,
                            uint16_t *num)
{
    uint16_t unfetched = ring->sent_seq - raw_base;

    if (raw_base > UINT16_MAX || unfetched > shadow_ring_published(ring)) {
        return false;
    }
    *num = unfetched;
    return true;
}

static void split_take_back(ShadowRing *ring, uint16_t id)
{
    SplitRing *s = split_ring(ring);

    split_give_descs(s, id);
    s->next_kick_seq = MIN(s->next_kick_seq, ring->sent_seq);
    /* The device has stopped: there is no one to order this against. */
    foreign_write16(&s->avail->idx, ring->sent_seq);
}

const ShadowRingOps shadow_ring_split_ops = {
    .layout = split_layout,
    .new = split_new,
    .free = split_free,
    .add = split_add,
    .publish = split_publish,
    .should_kick = split_should_kick,
    .has_used = split_has_used,
    .take = split_take,
    .suppress_calls = split_suppress_calls,
    .arm_calls = split_arm_calls,
    .base = split_base,
    .unfetched = split_unfetched,
    .take_back = split_take_back,
};
