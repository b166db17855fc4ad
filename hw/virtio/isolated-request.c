/*
 * Isolated queue: one request's way through the bounce region.
 *
 * A request has one span.  Its buffers lie in it one by one, as the guest had
 * them: no two are merged and none is split, because backends look at their
 * boundaries.  The large ones come first, so that keeping the guest's
 * alignment wastes nothing between them; an indirect table, if there is one,
 * comes last.
 *
 * Requests are recycled.  Their arrays grow to the longest chain they ever
 * held and stay so: in steady state nothing is allocated.  A guest that has the
 * longest chains out that there can be, once, would leave 32 MiB behind; so a
 * queue keeps so many buffers as deep queues of large requests need, and gives
 * back what is more when the requests come back.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "isolated-queue-internal.h"

/* A request begins with so many buffers. */
#define BUFS_LEAST 4

/*
 * What a queue keeps: 2 MiB of arrays, 128 requests of 1 MiB in pages.  Its
 * ring bounds the requests themselves, and what small ones have.
 */
#define BUFS_KEPT (64 * KiB)
#define BUFS_SMALL 32

static void request_grow(IsolatedQueue *q, IsolatedRequest *req, unsigned num)
{
    unsigned capacity = MAX(BUFS_LEAST, pow2ceil(num));

    q->num_bufs += capacity - req->chain.capacity;
    req->chain.bufs = g_renew(VirtQueueBuf, req->chain.bufs, capacity);
    req->bufs = g_renew(ShadowRingBuf, req->bufs, capacity);
    req->chain.capacity = capacity;
    isolated_count(&q->stats.allocations, 1);
}

IsolatedRequest *isolated_request_get(IsolatedQueue *q)
{
    IsolatedRequest *req = QSIMPLEQ_FIRST(&q->spare);
    const VirtQueueChain *popped = &q->scratch;
    unsigned num = popped->num_out + popped->num_in;
    uint16_t capacity;
    VirtQueueBuf *bufs;

    if (req) {
        QSIMPLEQ_REMOVE_HEAD(&q->spare, done);
    } else {
        req = g_new0(IsolatedRequest, 1);
        isolated_count(&q->stats.allocations, 1);
    }
    if (req->chain.capacity < num) {
        request_grow(q, req, num);
    }
    capacity = req->chain.capacity;
    bufs = req->chain.bufs;
    req->chain = *popped;
    req->chain.capacity = capacity;
    req->chain.bufs = bufs;
    memcpy(bufs, popped->bufs, num * sizeof(*bufs));
    return req;
}

/* Nothing is out of it any more. */
static void request_shrink(IsolatedQueue *q, IsolatedRequest *req)
{
    if (q->num_bufs > BUFS_KEPT && req->chain.capacity > BUFS_SMALL) {
        q->num_bufs -= req->chain.capacity;
        req->chain.capacity = 0;
        g_clear_pointer(&req->chain.bufs, g_free);
        g_clear_pointer(&req->bufs, g_free);
    }
    if (req->max_pieces > BUFS_SMALL) {
        req->max_pieces = 0;
        g_clear_pointer(&req->pieces, g_free);
    }
    req->num_pieces = 0;
}

void isolated_request_recycle(IsolatedQueue *q, IsolatedRequest *req)
{
    assert(!req->span_bytes);
    request_shrink(q, req);
    req->sent = false;
    req->orphan = false;
    /* Used last, so used first: its arrays are in the cache. */
    QSIMPLEQ_INSERT_HEAD(&q->spare, req, done);
}

void isolated_request_recycle_completed(IsolatedQueue *q)
{
    IsolatedRequest *req;

    if (q->num_bufs > BUFS_KEPT) {
        QSIMPLEQ_FOREACH(req, &q->completed, done) {
            request_shrink(q, req);
        }
    }
    /* Used last, so used first. */
    QSIMPLEQ_PREPEND(&q->spare, &q->completed);
}

void isolated_request_free(IsolatedRequest *req)
{
    g_free(req->chain.bufs);
    g_free(req->bufs);
    g_free(req->pieces);
    g_free(req);
}

/* Large buffers first. */
static void request_place(IsolatedRequest *req, BounceLayout *layout)
{
    const VirtQueueBuf *bufs = req->chain.bufs;
    ShadowRingBuf *placed = req->bufs;
    unsigned num = isolated_request_num_bufs(req);
    unsigned small = 0;

    for (unsigned i = 0; i < num; i++) {
        placed[i].len = bufs[i].len;
        if (bufs[i].len < BOUNCE_KEEP_ALIGN_MIN) {
            small++;
        } else {
            placed[i].addr = bounce_layout_place(layout, bufs[i].addr,
                                                 bufs[i].len);
        }
    }
    for (unsigned i = 0; small; i++) {
        if (bufs[i].len < BOUNCE_KEEP_ALIGN_MIN) {
            placed[i].addr = bounce_layout_place(layout, bufs[i].addr,
                                                 bufs[i].len);
            small--;
        }
    }
}

/*
 * A ring that is less used than this takes direct chains: one part of so many.
 * Few requests are out then, and their cost counts; where many are, each has to
 * leave room for the others.
 */
#define DIRECT_PART 4

/*
 * Whether the request is to go through an indirect table.  A direct chain costs
 * the backend no extra access, so a table is used before slots are wanting; but
 * receive buffers stay out, and long ones would take the slots of all others.
 */
static bool request_wants_table(const IsolatedQueue *q,
                                const IsolatedRequest *req,
                                const BounceLayout *layout)
{
    const ShadowRing *ring = q->link->ring;
    unsigned size = shadow_ring_size(ring);
    unsigned num = isolated_request_num_bufs(req);
    unsigned used = size - shadow_ring_room(ring) + num;
    uint64_t bytes = ROUND_UP(layout->bytes, SHADOW_RING_DESC_BYTES) +
                     num * SHADOW_RING_DESC_BYTES;

    if (num < 2 || !shadow_ring_indirect(ring)) {
        return false;
    }
    if (num > size) {
        return true;
    }
    /* What can go without one does so if there is no place for it. */
    return bytes <= bounce_pool_size(q->link->pool) &&
           (used > size / DIRECT_PART || !req->chain.num_out);
}

/* Say why, if there is a reason why the request can never be sent. */
static bool request_is_hopeless(IsolatedQueue *q, const IsolatedRequest *req,
                                const BounceLayout *layout)
{
    unsigned size = shadow_ring_size(q->link->ring);
    unsigned num = isolated_request_num_bufs(req);
    uint64_t share = bounce_pool_size(q->link->pool);

    if (num > size && !shadow_ring_indirect(q->link->ring)) {
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                             "a request of %u descriptors is longer than the "
                             "backend's ring of %u, and the backend takes no "
                             "indirect descriptors", num, size);
        return true;
    }
    if (layout->bytes > share) {
        isolated_queue_break(q, ISOLATED_QUEUE_FAULT_REQUEST_SIZE,
                             "a request needs %" PRIu64 " bytes of bounce "
                             "space, this queue has %" PRIu64 "; raise "
                             "memory-isolation-size", layout->bytes, share);
        return true;
    }
    return false;
}

/* What its span is to hold, and where; false if it can never be sent. */
static bool request_plan(IsolatedQueue *q, IsolatedRequest *req,
                         BounceLayout *layout)
{
    unsigned num = isolated_request_num_bufs(req);

    bounce_layout_init(layout);
    request_place(req, layout);
    if (request_is_hopeless(q, req, layout)) {
        return false;
    }
    req->table = request_wants_table(q, req, layout);
    if (!req->table) {
        return true;
    }
    req->table_offset = bounce_layout_place(layout, SHADOW_RING_DESC_BYTES,
                                            num * SHADOW_RING_DESC_BYTES);
    return !request_is_hopeless(q, req, layout);
}

static bool request_reserve(IsolatedQueue *q, IsolatedRequest *req,
                            const BounceLayout *layout)
{
    uint64_t base = q->link->region->guest_base;

    req->descs = req->table ? 1 : isolated_request_num_bufs(req);
    if (shadow_ring_room(q->link->ring) < req->descs ||
        !bounce_pool_take(q->link->pool, layout->bytes, layout->align,
                          &req->span, &req->fresh)) {
        return false;
    }
    req->span_bytes = layout->bytes;
    req->copied = 0;
    req->wiped = 0;
    for (unsigned i = 0; i < isolated_request_num_bufs(req); i++) {
        req->bufs[i].addr += base + req->span;
    }
    return true;
}

static void request_add_piece(IsolatedRequest *req, const IsolatedPiece *piece)
{
    IsolatedPiece *last = req->num_pieces ? &req->pieces[req->num_pieces - 1]
                                          : NULL;

    if (last && last->buf == piece->buf &&
        last->guest.addr + last->guest.len == piece->guest.addr) {
        last->guest.len += piece->guest.len;
        return;
    }
    if (req->num_pieces == req->max_pieces) {
        req->max_pieces = MAX(BUFS_LEAST, req->max_pieces * 2);
        req->pieces = g_renew(IsolatedPiece, req->pieces, req->max_pieces);
    }
    req->pieces[req->num_pieces++] = *piece;
}

/*
 * Behind an IOMMU: find every byte of it, so that any of it can be copied now,
 * and what the backend writes can be copied later whatever is unmapped by then.
 * What is found holds for this turn; the next one that copies a part finds it
 * anew.
 * It goes on after what is not known, so that all of that is asked for at once.
 */
static GuestReach request_reach(IsolatedQueue *q, IsolatedRequest *req)
{
    GuestReach worst = GUEST_REACH_NOW;
    uint64_t before = 0;

    req->num_pieces = 0;
    if (!q->guest.iotlb) {
        return GUEST_REACH_NOW;
    }
    for (unsigned i = 0; i < isolated_request_num_bufs(req); i++) {
        const VirtQueueBuf *buf = &req->chain.bufs[i];
        bool is_write = i >= req->chain.num_out;
        IsolatedPiece piece = { .buf = i };

        for (; piece.offset < buf->len; piece.offset += piece.guest.len) {
            GuestReach reach = guest_chain_reach(&q->guest,
                                                 buf->addr + piece.offset,
                                                 buf->len - piece.offset,
                                                 is_write, &piece.guest);

            worst = MAX(worst, reach);
            piece.before = before;
            if (is_write) {
                before += piece.guest.len;
                request_add_piece(req, &piece);
            }
        }
    }
    return worst;
}

static void request_add(IsolatedQueue *q, IsolatedRequest *req)
{
    const BounceRegion *region = q->link->region;
    ShadowRingChain chain = {
        .bufs = req->bufs,
        .num_out = req->chain.num_out,
        .num_in = req->chain.num_in,
    };

    if (req->table) {
        chain.table = region->host + req->span + req->table_offset;
        chain.table_addr = region->guest_base + req->span + req->table_offset;
    }
    shadow_ring_add(q->link->ring, &chain, req);
    req->sent = true;
}

/* It is not sent, and never will be. */
static IsolatedSendResult request_fault(IsolatedQueue *q, IsolatedRequest *req,
                                        const char *why)
{
    if (req->span_bytes) {
        isolated_request_release(q, req);
    }
    isolated_queue_break(q, ISOLATED_QUEUE_FAULT_GUEST_MEMORY, "%s", why);
    return ISOLATED_SEND_FAULT;
}

IsolatedSendResult isolated_request_send(IsolatedQueue *q,
                                         IsolatedRequest *req,
                                         IsolatedBudget *budget)
{
    bool begun = req->span_bytes;
    IsolatedSendResult result;
    BounceLayout layout;
    GuestReach reach;

    assert(!req->sent);
    if (!begun && !request_plan(q, req, &layout)) {
        return ISOLATED_SEND_FAULT;
    }
    reach = request_reach(q, req);
    if (reach == GUEST_REACH_LATER) {
        return ISOLATED_SEND_ASKS;
    }
    if (reach == GUEST_REACH_NEVER) {
        return request_fault(q, req, "a buffer is not in RAM, or the IOMMU "
                             "does not allow the access");
    }
    if (!begun && !request_reserve(q, req, &layout)) {
        return ISOLATED_SEND_LATER;
    }
    result = isolated_request_copy_to_backend(q, req, budget);
    if (result == ISOLATED_SEND_FAULT) {
        return request_fault(q, req,
                             "a device-readable buffer is not in RAM");
    }
    if (result == ISOLATED_SEND_OK) {
        request_add(q, req);
    }
    return result;
}

void isolated_request_release(IsolatedQueue *q, IsolatedRequest *req)
{
    IsolatedBudget unlimited = { .bytes = UINT64_MAX };

    isolated_request_wipe(q, req, &unlimited);
    bounce_pool_give(q->link->pool, req->span, req->span_bytes);
    req->span_bytes = 0;
    req->sent = false;
}
