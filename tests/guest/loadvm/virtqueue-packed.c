/*
 * The driver's side of a packed virtqueue (virtio 1.2, 2.8).
 *
 * A batch becomes visible at once: the flags of its first descriptor are
 * written last, and the device reads descriptors in order.  Ids are those of
 * the requests (tokens), since there is at most one of each in the ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "virtio.h"

#define AVAIL 0x80u
#define USED 0x8000u
#define WRAP 0x8000u             /* in Suppression.place */

enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_AT = 2 };

typedef struct Suppression {
    uint16_t place;
    uint16_t flags;
} Suppression;

/* A place in the ring, and how often the ring was gone round, modulo 2. */
typedef struct Cursor {
    uint16_t idx;
    bool wrap;
} Cursor;

typedef struct PackedQueue {
    Virtqueue vq;
    volatile Descriptor *desc;
    Suppression *driver;
    volatile Suppression *device;

    /* Ours alone. */
    Cursor next_avail;
    Cursor sent_avail;           /* where the batch begins */
    uint16_t batch_flags;        /* of its first descriptor */
    Cursor next_used;
    uint16_t *count;             /* a token: descriptors, 0 if not out */
} PackedQueue;

static PackedQueue *packed(Virtqueue *vq)
{
    return (PackedQueue *)vq;
}

static void advance(Cursor *cursor, unsigned by, uint16_t size)
{
    cursor->idx += by;
    if (cursor->idx >= size) {
        cursor->idx -= size;
        cursor->wrap = !cursor->wrap;
    }
}

/* From one place to another, on a ring that is gone round twice. */
static unsigned distance(Cursor from, Cursor to, uint16_t size)
{
    int steps = to.idx - from.idx + (to.wrap == from.wrap ? 0 : size);

    return steps < 0 ? steps + 2 * size : steps;
}

/* One descriptor; the first of a batch stays invisible. */
static void put(PackedQueue *q, uint64_t address, uint32_t length, uint16_t id,
                uint16_t flags)
{
    Cursor at = q->next_avail;
    volatile Descriptor *desc = &q->desc[at.idx];

    flags |= at.wrap ? AVAIL : USED;
    desc->address = address;
    desc->length = length;
    desc->packed.id = id;
    if (at.idx == q->sent_avail.idx && at.wrap == q->sent_avail.wrap) {
        q->batch_flags = flags;
    } else {
        desc->packed.flags = flags;
    }
    advance(&q->next_avail, 1, q->vq.size);
}

static uint16_t writable(const Chain *chain, unsigned i)
{
    return i < chain->num_readable ? 0 : DESC_WRITE;
}

static void add_table(PackedQueue *q, const Chain *chain, unsigned num,
                      uint32_t token)
{
    Descriptor *table = q->vq.tables + (uint64_t)token * q->vq.max_pieces;

    for (unsigned i = 0; i < num; i++) {
        table[i].address = chain->pieces[i].address;
        table[i].length = chain->pieces[i].length;
        table[i].packed.flags = writable(chain, i);
    }
    put(q, (uintptr_t)table, num * sizeof(*table), token, DESC_INDIRECT);
}

static void packed_add(Virtqueue *vq, const Chain *chain, uint32_t token)
{
    PackedQueue *q = packed(vq);
    unsigned num = chain->num_readable + chain->num_writable;
    unsigned taken = virtqueue_needs(vq, num);

    if (taken < num) {
        add_table(q, chain, num, token);
    } else {
        for (unsigned i = 0; i < num; i++) {
            put(q, chain->pieces[i].address, chain->pieces[i].length, token,
                writable(chain, i) | (i + 1 < num ? DESC_NEXT : 0));
        }
    }
    q->count[token] = taken;
    vq->room -= taken;
}

static bool packed_publish(Virtqueue *vq)
{
    PackedQueue *q = packed(vq);
    Cursor from = q->sent_avail;
    uint16_t place, flags;
    Cursor event;

    __atomic_store_n(&q->desc[from.idx].packed.flags, q->batch_flags,
                     __ATOMIC_RELEASE);
    q->sent_avail = q->next_avail;
    /* The flags before the device's wish; it does it the other way round. */
    full_barrier();
    flags = q->device->flags;
    if (flags != EVENT_AT) {
        return flags != EVENT_DISABLE;
    }
    place = q->device->place;
    event = (Cursor) { place & ~WRAP, place & WRAP };
    return distance(from, event, vq->size) <
           distance(from, q->next_avail, vq->size);
}

static bool is_used(const PackedQueue *q)
{
    uint16_t flags = __atomic_load_n(&q->desc[q->next_used.idx].packed.flags,
                                     __ATOMIC_ACQUIRE);
    bool avail = flags & AVAIL, used = flags & USED;

    return avail == used && used == q->next_used.wrap;
}

static bool packed_take(Virtqueue *vq, Used *used)
{
    PackedQueue *q = packed(vq);
    uint16_t id;

    /* Nothing is out: what looks used there is from the round before. */
    if (vq->room == vq->size || !is_used(q)) {
        return false;
    }
    id = q->desc[q->next_used.idx].packed.id;
    if (id >= vq->num_tokens || !q->count[id]) {
        virtqueue_broken(vq, "used id that is not out", id);
    }
    used->token = id;
    used->length = q->desc[q->next_used.idx].length;
    advance(&q->next_used, q->count[id], vq->size);
    vq->room += q->count[id];
    q->count[id] = 0;
    return true;
}

static void packed_suppress(Virtqueue *vq)
{
    packed(vq)->driver->flags = EVENT_DISABLE;
}

static bool packed_arm(Virtqueue *vq)
{
    PackedQueue *q = packed(vq);

    if (vq->event_idx) {
        q->driver->place = q->next_used.idx | (q->next_used.wrap ? WRAP : 0);
        __atomic_store_n(&q->driver->flags, EVENT_AT, __ATOMIC_RELEASE);
    } else {
        q->driver->flags = EVENT_ENABLE;
    }
    /* Our wish before the flags; the device does it the other way round. */
    full_barrier();
    return vq->room == vq->size || !is_used(q);
}

static const VirtqueueOps packed_ops = {
    .add = packed_add,
    .publish = packed_publish,
    .take = packed_take,
    .suppress = packed_suppress,
    .arm = packed_arm,
};

Virtqueue *virtqueue_new_packed(uint16_t size, uint32_t num_tokens)
{
    PackedQueue *q = allocate(sizeof(*q), 64);

    q->desc = allocate(size * sizeof(Descriptor), PAGE);
    q->driver = allocate(sizeof(*q->driver), 64);
    q->device = allocate(sizeof(*q->device), 64);
    q->count = allocate(num_tokens * sizeof(*q->count), 64);
    q->next_avail.wrap = q->sent_avail.wrap = q->next_used.wrap = true;
    q->vq.ops = &packed_ops;
    q->vq.size = q->vq.room = size;
    q->vq.num_tokens = num_tokens;
    q->vq.ring = (uintptr_t)q->desc;
    q->vq.driver_area = (uintptr_t)q->driver;
    q->vq.device_area = (uintptr_t)q->device;
    return &q->vq;
}
