/*
 * Shadow ring, packed format: driver side of virtio 1.2, 2.8.
 *
 * One descriptor ring holds both directions: we make slots available in order
 * at next_avail, the device overwrites slots as used in order at next_used.
 * Two bits of a slot's flags, compared with the wrap counter of the lap, say
 * whose it is.  The device can write any slot at any time, so a slot's flags
 * are only ever a question, "is the slot at next_used used?", and what it
 * says then (id, len) is read once and checked.  How far next_used moves is
 * looked up by the id in process memory.
 *
 * - A request's id is its name in entry[].  Free ids form a stack.  Every
 *   descriptor of a chain carries the id: devices look at one or the other.
 * - A chain that reaches the end of the ring goes on at slot 0, with the other
 *   wrap counter.  It can be as long as the ring.
 * - A batch becomes visible at once: the flags of its first descriptor are
 *   stored last, by publish.  The others lie behind it in a ring that is read
 *   in order, so their flags are stored as they are written.
 * - The slots of a batch to be hold what an earlier lap left there: never the
 *   bits that mean available in this lap.  take_back leaves them so too.
 *
 * Notifications follow virtio 1.2, 2.8.10.  The event structure of either
 * side is one 32-bit word here, offset and wrap counter in the low half and
 * flags in the high half, so that it is read and written at once.
 *
 * Not here: tokens, and whether an id may be used now (shadow-ring.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_ring.h"
#include "shadow-ring-internal.h"

/* No two areas share a line, or the two sides would fight for it. */
#define PACKED_AREA_ALIGN 64

typedef struct PackedDesc {
    ForeignLe64 addr;
    ForeignLe32 len;
    ForeignLe16 id;
    ForeignLe16 flags;
} PackedDesc;

QEMU_BUILD_BUG_ON(sizeof(PackedDesc) != SHADOW_RING_DESC_BYTES);

/* Virtio 1.2, 2.8.1: the bits of flags that a wrap counter is compared with. */
#define PACKED_F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_F_USED (1 << VRING_PACKED_DESC_F_USED)
#define PACKED_F_BOTH (PACKED_F_AVAIL | PACKED_F_USED)

/* Virtio 1.2, 2.8.14: an event structure, with these flags and no offset. */
#define PACKED_EVENT(flags) ((uint32_t)(flags) << 16)

typedef struct PackedRing {
    ShadowRing ring;

    /* Shared memory: both sides write here. */
    PackedDesc *desc;
    /* Shared memory: we write this, the device must not but can. */
    ForeignLe32 *driver_event;
    /* Shared memory: the device writes this. */
    const ForeignLe32 *device_event;

    /* Ours alone; the thread that uses the ring, no lock. */
    uint16_t *next_free;      /* by id: the one below it on the stack    */
    uint16_t free_id;         /* top of the stack, if ring.num_free > 0  */
    RingCursor next_avail;    /* slot that the next chain begins at      */
    RingCursor next_used;     /* slot of the used buffer to take next    */
    uint16_t used_flags;      /* what its flags are once it is used      */
    uint16_t batch_slot;      /* first slot that was added, unpublished  */
    uint16_t batch_flags;     /* the flags it gets when it is published  */
    uint32_t batch_descs;     /* slots that were added, unpublished      */
    uint32_t sent_event;      /* *driver_event                           */
    uint64_t num_unasked;     /* slots published since the kick check    */
} PackedRing;

static PackedRing *packed_ring(ShadowRing *ring)
{
    return container_of(ring, PackedRing, ring);
}

static const PackedRing *packed_ring_const(const ShadowRing *ring)
{
    return container_of(ring, PackedRing, ring);
}

/* Virtio 1.2, 2.8: 16 bytes a descriptor, 4 bytes an event structure. */
static ShadowRingLayout packed_layout(uint16_t size)
{
    uint64_t driver = ROUND_UP((uint64_t)size * SHADOW_RING_DESC_BYTES,
                               PACKED_AREA_ALIGN);

    return (ShadowRingLayout) {
        .desc = 0,
        .driver = driver,
        .device = driver + PACKED_AREA_ALIGN,
        .bytes = driver + 2 * PACKED_AREA_ALIGN,
    };
}

static ShadowRing *packed_new(const ShadowRingConfig *config)
{
    ShadowRingLayout layout = packed_layout(config->size);
    PackedRing *p = g_new0(PackedRing, 1);
    uint8_t *mem = config->mem;

    p->desc = (PackedDesc *)(mem + layout.desc);
    p->driver_event = (ForeignLe32 *)(mem + layout.driver);
    p->device_event = (const ForeignLe32 *)(mem + layout.device);
    p->next_avail.wrap = true;
    p->next_used.wrap = true;
    p->used_flags = PACKED_F_BOTH;
    p->next_free = g_new0(uint16_t, config->size);
    for (unsigned i = 0; i + 1 < config->size; i++) {
        p->next_free[i] = i + 1;
    }
    return &p->ring;
}

static void packed_free(ShadowRing *ring)
{
    PackedRing *p = packed_ring(ring);

    g_free(p->next_free);
    g_free(p);
}

static void packed_give_id(PackedRing *p, uint16_t id)
{
    p->next_free[id] = p->free_id;
    p->free_id = id;
}

static void packed_write_buf(PackedDesc *desc, const ShadowRingBuf *buf,
                             uint16_t id)
{
    foreign_write64(&desc->addr, buf->addr);
    foreign_write32(&desc->len, buf->len);
    foreign_write16(&desc->id, id);
}

/* Virtio 1.2, 2.8.1: available in the lap of @wrap. */
static uint16_t packed_avail_flags(bool wrap)
{
    return wrap ? PACKED_F_AVAIL : PACKED_F_USED;
}

/* Neither available nor used in the lap of @wrap, as if of the lap before. */
static uint16_t packed_idle_flags(bool wrap)
{
    return wrap ? 0 : PACKED_F_BOTH;
}

/* The flags of a chain's first slot: kept back if it begins a batch. */
static void packed_show_chain(PackedRing *p, uint16_t flags, unsigned num)
{
    if (p->batch_descs) {
        foreign_write16(&p->desc[p->next_avail.idx].flags, flags);
    } else {
        p->batch_slot = p->next_avail.idx;
        p->batch_flags = flags;
    }
    p->batch_descs += num;
    p->next_avail = ring_cursor_forward(p->next_avail, num, p->ring.size);
}

/* Virtio 1.2, 2.8.5: a chain, its device-readable buffers first. */
static inline void packed_write_chain(PackedRing *p, const ShadowRingBuf *buf,
                                      unsigned num, unsigned num_out,
                                      uint16_t id, uint16_t extra_flags)
{
    PackedDesc *desc = &p->desc[p->next_avail.idx];
    const PackedDesc *end = p->desc + p->ring.size;
    const ShadowRingBuf *first_in = buf + num_out;
    const ShadowRingBuf *last = buf + num - 1;
    uint16_t flags = packed_avail_flags(p->next_avail.wrap) | extra_flags;
    uint16_t first_flags;

    if (buf == first_in) {
        flags |= VRING_DESC_F_WRITE;
    }
    if (buf != last) {
        flags |= VRING_DESC_F_NEXT;
    }
    first_flags = flags;
    packed_write_buf(desc, buf, id);
    while (buf != last) {
        if (unlikely(++desc == end)) {
            desc = p->desc;
            flags ^= PACKED_F_BOTH;
        }
        if (++buf == first_in) {
            flags |= VRING_DESC_F_WRITE;
        }
        if (buf == last) {
            flags &= ~VRING_DESC_F_NEXT;
        }
        packed_write_buf(desc, buf, id);
        foreign_write16(&desc->flags, flags);
    }
    packed_show_chain(p, first_flags, num);
}

/*
 * Virtio 1.2, 2.8.7: a table is in order, and has WRITE as its only flag.
 * Not inlined: it would cost the common case registers.
 */
static void __attribute__((noinline)) packed_write_table(PackedRing *p,
                                             const ShadowRingChain *chain,
                                             uint16_t id)
{
    unsigned num = chain->num_out + chain->num_in;
    PackedDesc *table = chain->table;
    ShadowRingBuf buf = {
        .addr = chain->table_addr,
        .len = num * SHADOW_RING_DESC_BYTES,
    };

    for (unsigned i = 0; i < num; i++) {
        packed_write_buf(&table[i], &chain->bufs[i], 0);
        foreign_write16(&table[i].flags,
                        i >= chain->num_out ? VRING_DESC_F_WRITE : 0);
    }
    packed_write_chain(p, &buf, 1, 1, id, VRING_DESC_F_INDIRECT);
}

static uint16_t packed_add(ShadowRing *ring, const ShadowRingChain *chain)
{
    PackedRing *p = packed_ring(ring);
    uint16_t id = p->free_id;

    p->free_id = p->next_free[id];
    if (chain->table) {
        packed_write_table(p, chain, id);
    } else {
        packed_write_chain(p, chain->bufs, chain->num_out + chain->num_in,
                           chain->num_out, id, 0);
    }
    return id;
}

/* The slot behind what the device has been shown. */
static RingCursor packed_sent_end(const PackedRing *p)
{
    return ring_cursor_back(p->next_avail, p->batch_descs, p->ring.size);
}

static void packed_publish(ShadowRing *ring)
{
    PackedRing *p = packed_ring(ring);

    /*
     * Our stores of the batch before our store of its first flags; the device
     * loads those, then the rest.  Otherwise it could follow an old
     * descriptor.
     */
    foreign_write16_release(&p->desc[p->batch_slot].flags, p->batch_flags);
    p->num_unasked += p->batch_descs;
    p->batch_descs = 0;
}

/*
 * Virtio 1.2, 2.8.10.  What makes no sense is a wish to be kicked: that costs
 * the device one kick, the other choice could cost the guest a request.
 */
static bool packed_wants_kick(const PackedRing *p, uint32_t raw_event,
                              uint64_t num)
{
    RingCursor event = ring_cursor_decode((uint16_t)raw_event);

    switch (raw_event >> 16) {
    case VRING_PACKED_EVENT_FLAG_DISABLE:
        return false;
    case VRING_PACKED_EVENT_FLAG_DESC:
        return !p->ring.event_idx || event.idx >= p->ring.size ||
               ring_cursor_passed(packed_sent_end(p), num, event,
                                  p->ring.size);
    default:
        return true;
    }
}

static bool packed_should_kick(ShadowRing *ring)
{
    PackedRing *p = packed_ring(ring);
    uint64_t num = p->num_unasked;

    if (!num) {
        return false;
    }
    p->num_unasked = 0;

    /*
     * Our store of the batch's flags before our load of the device's event
     * structure; the device stores that, then looks at the next slot once
     * more before it sleeps.  Without both, a kick can be lost.
     */
    smp_mb();
    return packed_wants_kick(p, foreign_read32(p->device_event), num);
}

/* Virtio 1.2, 2.8.1: both bits have the value of the lap. */
static bool packed_flags_used(uint16_t raw_flags, bool wrap)
{
    return (raw_flags & PACKED_F_BOTH) == (wrap ? PACKED_F_BOTH : 0);
}

/* The same for the slot at next_used, which is asked about most. */
static bool packed_is_used(const PackedRing *p, uint16_t raw_flags)
{
    return (raw_flags & PACKED_F_BOTH) == p->used_flags;
}

static bool packed_has_used(const ShadowRing *ring)
{
    const PackedRing *p = packed_ring_const(ring);

    return packed_is_used(p, foreign_read16(&p->desc[p->next_used.idx].flags));
}

/* No more than 65535: an index and a chain are below and at most the size. */
static void packed_step_used(PackedRing *p, uint16_t num)
{
    p->next_used.idx += num;
    if (unlikely(p->next_used.idx >= p->ring.size)) {
        p->next_used.idx -= p->ring.size;
        p->next_used.wrap = !p->next_used.wrap;
        p->used_flags ^= PACKED_F_BOTH;
    }
}

static ShadowRingResult packed_take(ShadowRing *ring, void **token,
                                    uint32_t *raw_len)
{
    PackedRing *p = packed_ring(ring);
    const PackedDesc *desc = &p->desc[p->next_used.idx];
    uint16_t raw_id;
    void *claimed;

    /*
     * The device stores id and len, then flags; our load of flags before our
     * loads of id and len.  Otherwise we could take what we wrote there.
     */
    if (!packed_is_used(p, foreign_read16_acquire(&desc->flags))) {
        return SHADOW_RING_EMPTY;
    }
    raw_id = foreign_read16(&desc->id);
    claimed = shadow_ring_claim(ring, raw_id);
    if (!claimed) {
        return SHADOW_RING_BROKEN;
    }
    packed_give_id(p, raw_id);
    packed_step_used(p, ring->entry[raw_id].num_descs);
    *raw_len = foreign_read32(&desc->len);
    *token = claimed;
    return SHADOW_RING_OK;
}

static void packed_send_event(PackedRing *p, uint32_t event)
{
    if (p->sent_event != event) {
        p->sent_event = event;
        foreign_write32(p->driver_event, event);
    }
}

static void packed_suppress_calls(ShadowRing *ring)
{
    packed_send_event(packed_ring(ring),
                      PACKED_EVENT(VRING_PACKED_EVENT_FLAG_DISABLE));
}

static bool packed_arm_calls(ShadowRing *ring)
{
    PackedRing *p = packed_ring(ring);
    uint32_t event = PACKED_EVENT(VRING_PACKED_EVENT_FLAG_ENABLE);

    if (ring->event_idx) {
        event = PACKED_EVENT(VRING_PACKED_EVENT_FLAG_DESC) |
                ring_cursor_encode(p->next_used);
    }
    packed_send_event(p, event);
    /*
     * Our store of the event structure before our load of the next used
     * slot's flags; the device stores those, then loads the event structure.
     * Without both, a call can be lost.
     */
    smp_mb();
    return packed_has_used(ring);
}

/*
 * Where the device writes its next used descriptor: behind those that are
 * used and not taken yet.  It does not look for itself, as on a split ring.
 * What they say is not checked here: if it is wrong the device learns of a
 * wrong place, and is found out when they are taken.
 */
static RingCursor packed_used_end(const PackedRing *p)
{
    RingCursor end = p->next_used;

    for (unsigned i = shadow_ring_published(&p->ring); i > 0; i--) {
        const PackedDesc *desc = &p->desc[end.idx];
        uint16_t raw_id;

        /* As in packed_take(). */
        if (!packed_flags_used(foreign_read16_acquire(&desc->flags),
                               end.wrap)) {
            break;
        }
        raw_id = foreign_read16(&desc->id);
        if (raw_id >= p->ring.size || !p->ring.entry[raw_id].token) {
            break;
        }
        end = ring_cursor_forward(end, p->ring.entry[raw_id].num_descs,
                                  p->ring.size);
    }
    return end;
}

/* Both cursors, the used one in the high half. */
static uint32_t packed_base(const ShadowRing *ring)
{
    const PackedRing *p = packed_ring_const(ring);

    return ring_cursor_encode(p->next_avail) |
           (uint32_t)ring_cursor_encode(packed_used_end(p)) << 16;
}

/*
 * Walk back over the newest requests until their slots begin where the device
 * stopped: nothing else can be true.  The used half of the answer is not
 * looked at: some devices leave it zero, and we know it.
 */
static bool packed_unfetched(const ShadowRing *ring, uint32_t raw_base,
                             uint16_t *num)
{
    const PackedRing *p = packed_ring_const(ring);
    RingCursor stopped = ring_cursor_decode((uint16_t)raw_base);
    RingCursor begin = packed_sent_end(p);
    uint64_t seq = ring->sent_seq;

    while (!ring_cursor_equal(begin, stopped)) {
        const ShadowRingEntry *entry =
            &ring->entry[ring->order[--seq & ring->order_mask]];

        /* A request that came back already was fetched. */
        if (!entry->token || entry->seq != seq) {
            return false;
        }
        begin = ring_cursor_back(begin, entry->num_descs, ring->size);
    }
    *num = ring->sent_seq - seq;
    return true;
}

static void packed_take_back(ShadowRing *ring, uint16_t id)
{
    PackedRing *p = packed_ring(ring);
    uint16_t num = ring->entry[id].num_descs;

    for (unsigned i = 0; i < num; i++) {
        p->next_avail = ring_cursor_back(p->next_avail, 1, ring->size);
        /* The device has stopped: there is no one to order this against. */
        foreign_write16(&p->desc[p->next_avail.idx].flags,
                        packed_idle_flags(p->next_avail.wrap));
    }
    p->num_unasked -= MIN(p->num_unasked, num);
    packed_give_id(p, id);
}

const ShadowRingOps shadow_ring_packed_ops = {
    .layout = packed_layout,
    .new = packed_new,
    .free = packed_free,
    .add = packed_add,
    .publish = packed_publish,
    .should_kick = packed_should_kick,
    .has_used = packed_has_used,
    .take = packed_take,
    .suppress_calls = packed_suppress_calls,
    .arm_calls = packed_arm_calls,
    .base = packed_base,
    .unfetched = packed_unfetched,
    .take_back = packed_take_back,
};
