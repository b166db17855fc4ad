/*
 * The driver's side of a split virtqueue (virtio 1.2, 2.7).
 *
 * Descriptors are taken from a free list whose links are ours alone, in an
 * array beside the ring: whatever the device writes, they stay right.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "virtio.h"

#define NO_INTERRUPT 1u          /* avail->flags */
#define NO_KICK 1u               /* used->flags */
#define NO_TOKEN UINT32_MAX

typedef struct Avail {
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[];             /* and behind it: used_event */
} Avail;

typedef struct UsedRing {
    uint16_t flags;
    uint16_t idx;
    struct {
        uint32_t id;
        uint32_t length;
    } ring[];                    /* and behind it: avail_event */
} UsedRing;

typedef struct SplitQueue {
    Virtqueue vq;
    Descriptor *desc;
    Avail *avail;
    volatile UsedRing *used;
    uint16_t *used_event;
    volatile uint16_t *avail_event;
    uint16_t mask;

    /* Ours alone. */
    uint16_t next_free;          /* head of the free list */
    uint16_t next_avail;
    uint16_t sent_avail;         /* what avail->idx says */
    uint16_t seen_used;
    uint16_t *link;              /* a descriptor: the next of chain or list */
    uint32_t *token;             /* a head: of its request */
    uint16_t *last;              /* a head: the end of its chain */
    uint16_t *count;             /* a head: descriptors */
} SplitQueue;

static SplitQueue *split(Virtqueue *vq)
{
    return (SplitQueue *)vq;
}

static uint16_t flags_of(const Chain *chain, unsigned i, unsigned num)
{
    return (i < chain->num_readable ? 0 : DESC_WRITE) |
           (i + 1 < num ? DESC_NEXT : 0);
}

static uint16_t add_table(SplitQueue *q, const Chain *chain, unsigned num,
                          uint32_t token)
{
    Descriptor *table = q->vq.tables + (uint64_t)token * q->vq.max_pieces;
    uint16_t head = q->next_free;

    for (unsigned i = 0; i < num; i++) {
        table[i].address = chain->pieces[i].address;
        table[i].length = chain->pieces[i].length;
        table[i].split.flags = flags_of(chain, i, num);
        table[i].split.next = i + 1;
    }
    q->desc[head].address = (uintptr_t)table;
    q->desc[head].length = num * sizeof(*table);
    q->desc[head].split.flags = DESC_INDIRECT;
    return head;
}

/* Returns the last descriptor. */
static uint16_t add_direct(SplitQueue *q, const Chain *chain, unsigned num)
{
    uint16_t at = q->next_free, last = at;

    for (unsigned i = 0; i < num; i++) {
        Descriptor *desc = &q->desc[at];

        desc->address = chain->pieces[i].address;
        desc->length = chain->pieces[i].length;
        desc->split.flags = flags_of(chain, i, num);
        desc->split.next = q->link[at];
        last = at;
        at = q->link[at];
    }
    return last;
}

static void split_add(Virtqueue *vq, const Chain *chain, uint32_t token)
{
    SplitQueue *q = split(vq);
    unsigned num = chain->num_readable + chain->num_writable;
    unsigned taken = virtqueue_needs(vq, num);
    uint16_t head = q->next_free, last;

    if (taken < num) {
        last = add_table(q, chain, num, token);
    } else {
        last = add_direct(q, chain, num);
    }
    q->next_free = q->link[last];
    q->token[head] = token;
    q->last[head] = last;
    q->count[head] = taken;
    vq->room -= taken;
    q->avail->ring[q->next_avail++ & q->mask] = head;
}

/* virtio 1.2, 2.7.10: did the index pass @event? */
static bool passed(uint16_t event, uint16_t now, uint16_t before)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static bool split_publish(Virtqueue *vq)
{
    SplitQueue *q = split(vq);
    uint16_t before = q->sent_avail;

    __atomic_store_n(&q->avail->idx, q->next_avail, __ATOMIC_RELEASE);
    q->sent_avail = q->next_avail;
    /* The index before the device's wish; it does it the other way round. */
    full_barrier();
    if (vq->event_idx) {
        return passed(*q->avail_event, q->next_avail, before);
    }
    return !(q->used->flags & NO_KICK);
}

static bool split_take(Virtqueue *vq, Used *used)
{
    SplitQueue *q = split(vq);
    uint32_t id;

    if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->seen_used) {
        return false;
    }
    id = q->used->ring[q->seen_used & q->mask].id;
    used->length = q->used->ring[q->seen_used & q->mask].length;
    if (id >= vq->size || q->token[id] == NO_TOKEN) {
        virtqueue_broken(vq, "used descriptor that is not out", id);
    }
    q->seen_used++;
    used->token = q->token[id];
    q->token[id] = NO_TOKEN;
    q->link[q->last[id]] = q->next_free;
    q->next_free = id;
    vq->room += q->count[id];
    return true;
}

static void split_suppress(Virtqueue *vq)
{
    SplitQueue *q = split(vq);

    if (vq->event_idx) {
        /* Just passed: it takes 65535 more requests to pass it again. */
        *q->used_event = q->seen_used - 1;
    } else {
        q->avail->flags = NO_INTERRUPT;
    }
}

static bool split_arm(Virtqueue *vq)
{
    SplitQueue *q = split(vq);

    if (vq->event_idx) {
        *q->used_event = q->seen_used;
    } else {
        q->avail->flags = 0;
    }
    /* Our wish before the index; the device does it the other way round. */
    full_barrier();
    return q->used->idx == q->seen_used;
}

static const VirtqueueOps split_ops = {
    .add = split_add,
    .publish = split_publish,
    .take = split_take,
    .suppress = split_suppress,
    .arm = split_arm,
};

Virtqueue *virtqueue_new_split(uint16_t size, uint32_t num_tokens)
{
    SplitQueue *q = allocate(sizeof(*q), 64);

    if (size & (size - 1)) {
        die("a split ring of %u descriptors: no power of two", size);
    }
    q->desc = allocate(size * sizeof(Descriptor), PAGE);
    q->avail = allocate(6 + size * 2, 64);
    q->used = allocate(6 + size * 8, 64);
    q->used_event = &q->avail->ring[size];
    q->avail_event = (volatile uint16_t *)&q->used->ring[size];
    q->mask = size - 1;
    q->link = allocate(size * sizeof(*q->link), 64);
    q->token = allocate(size * sizeof(*q->token), 64);
    q->last = allocate(size * sizeof(*q->last), 64);
    q->count = allocate(size * sizeof(*q->count), 64);
    for (unsigned i = 0; i < size; i++) {
        q->link[i] = i + 1;
        q->token[i] = NO_TOKEN;
    }
    q->vq.ops = &split_ops;
    q->vq.size = q->vq.room = size;
    q->vq.num_tokens = num_tokens;
    q->vq.ring = (uintptr_t)q->desc;
    q->vq.driver_area = (uintptr_t)q->avail;
    q->vq.device_area = (uintptr_t)q->used;
    return &q->vq;
}
