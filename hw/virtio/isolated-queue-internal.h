/*
 * Isolated queue: what its files share.
 *
 * A file calls only those above it here:
 *
 *   isolated-queue-state.c     state, latch, what is asked about a queue
 *   isolated-request-copy.c    the bytes of one request, either way
 *   isolated-request.c         one request through the region
 *   isolated-queue.c           the two lines: forward and return
 *   isolated-queue-dispatch.c  who runs them, and when
 *   isolated-queue-stop.c      what happens while nobody owns the queue
 *   isolated-queue-stream.c    what is out, as it travels with the VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_ISOLATED_QUEUE_INTERNAL_H
#define HW_VIRTIO_ISOLATED_QUEUE_INTERNAL_H

#include "qemu/queue.h"
#include "guest-chain.h"
#include "isolated-queue.h"

/**
 * IsolatedPiece - part of a buffer that is one piece in guest memory
 * @guest: where it is there
 * @buf: index of the buffer
 * @offset: of the piece in the buffer
 * @before: device-writable bytes of the request before it
 */
typedef struct IsolatedPiece {
    VirtQueueBuf guest;
    unsigned buf;
    uint32_t offset;
    uint64_t before;
} IsolatedPiece;

/**
 * IsolatedRequest - one request between the guest's pop and its completion
 * @next: in IsolatedQueue's @in_flight or @orphans
 * @done: in its @completed or @spare
 * @seq: number of its pop, which tells it from another in the same place
 * @chain: the guest's buffers; the array is ours and of @chain.capacity
 * @bufs: the same buffers in the span, as the backend knows them
 * @span: offset of its span in the region
 * @span_bytes: size of the span; 0: it has none
 * @descs: descriptors of the shadow ring that it takes, once it was sent
 * @raw_len: what the backend says it wrote, once that was taken from the ring
 * @len: bytes written to it, once the backend has completed it
 * @copied: bytes of the span that were copied or cleared for the backend
 * @left: bytes that are still to be copied to the guest: the first so many
 * @wiped: bytes of the span that were cleared after it was used
 * @pieces: where its device-writable bytes go, in order, if the queue is behind
 *     an IOMMU; of @max_pieces, @num_pieces are set
 * @table: it goes through an indirect table, at @table_offset of the span
 * @fresh: nothing was in the span before
 * @sent: the shadow ring holds it, or has just given it back
 * @orphan: the guest was reset under it: nothing of it may reach the guest
 */
typedef struct IsolatedRequest {
    QTAILQ_ENTRY(IsolatedRequest) next;
    QSIMPLEQ_ENTRY(IsolatedRequest) done;
    uint64_t seq;
    VirtQueueChain chain;
    ShadowRingBuf *bufs;
    uint64_t span;
    uint64_t span_bytes;
    uint16_t descs;
    uint32_t raw_len;
    uint32_t len;
    uint64_t copied, left, wiped;
    uint64_t table_offset;
    IsolatedPiece *pieces;
    unsigned num_pieces, max_pieces;
    bool table;
    bool fresh;
    bool sent;
    bool orphan;
} IsolatedRequest;

typedef QTAILQ_HEAD(, IsolatedRequest) IsolatedRequestList;
typedef QSIMPLEQ_HEAD(, IsolatedRequest) IsolatedDoneList;

/**
 * IsolatedSendResult - what became of a request on its way to the backend
 * @ISOLATED_SEND_OK: the shadow ring holds it, unpublished
 * @ISOLATED_SEND_LATER: no room in ring or region now; nothing was touched
 * @ISOLATED_SEND_ASKS: an IOMMU is being asked; nothing was touched
 * @ISOLATED_SEND_PART: a part of it was copied; the rest is for another turn
 * @ISOLATED_SEND_FAULT: it can never go; the queue is BROKEN
 */
typedef enum IsolatedSendResult {
    ISOLATED_SEND_OK,
    ISOLATED_SEND_LATER,
    ISOLATED_SEND_ASKS,
    ISOLATED_SEND_PART,
    ISOLATED_SEND_FAULT,
} IsolatedSendResult;

/**
 * IsolatedBudget - what one dispatch may still move, in either direction
 * @requests: a pass that moves none costs one too
 * @bufs: buffers, which a chain can have a thousand of
 * @bytes: to be copied or cleared; a request that has more goes in parts
 */
typedef struct IsolatedBudget {
    unsigned requests;
    unsigned bufs;
    uint64_t bytes;
} IsolatedBudget;

struct IsolatedQueue {
    /* Fixed. */
    IsolatedQueueConfig config;

    /* The thread that holds the BQL, while nobody owns the queue. */
    IsolatedLink *link;
    AioContext *ctx;            /* not NULL: attached                        */
    bool woken;                 /* the backend was kicked since it has the ring */
    bool bql;                   /* @ctx's thread holds it in handlers        */
    bool again;                 /* @guest_kick is ours: look both ways; atomic */
    EventNotifier guest_kick;   /* borrowed fd: VirtQueue's host notifier    */
    EventNotifier backend_call; /* borrowed fd: IsolatedLink's call          */

    /* The owner. */
    GuestQueue guest;
    VirtQueueChain scratch;     /* what a pop fills                          */
    IsolatedRequestList in_flight;  /* in guest order                        */
    IsolatedRequest *next_unsent;   /* in @in_flight: all before it are sent */
    IsolatedRequest *returning; /* taken from the ring, not all copied yet   */
    IsolatedRequestList orphans;
    IsolatedDoneList completed; /* the guest was not told yet               */
    IsolatedDoneList spare;
    unsigned num_bufs;          /* that the arrays of all requests have     */
    uint64_t next_seq;
    IsolatedBudget budget;      /* of each dispatch                          */
    bool guest_polled;          /* AioContext looks at the guest's ring      */
    bool backend_polled;        /* ... and at the shadow ring                */
    QEMUTimer *trim;            /* in @ctx; NULL: not to be trimmed          */
    uint64_t trim_seen;         /* requests returned when it was set         */
    int64_t trim_ms;            /* from one trim to the next, at least       */

    /* Written by the owner, read by any thread with qatomic_read(). */
    IsolatedQueueState state;
    IsolatedQueueFault fault;   /* stored after @why                         */
    char *why;
    IsolatedQueueStats stats;
};

/* What one dispatch may move, unless a test has it otherwise. */
extern const IsolatedBudget isolated_dispatch_budget;

/* Single writer: no locked instruction is needed to count. */
static inline void isolated_count(Stat64 *counter, int64_t n)
{
    stat64_set(counter, stat64_get(counter) + n);
}

static inline bool isolated_queue_broken(const IsolatedQueue *q)
{
    return q->state == ISOLATED_QUEUE_BROKEN;
}

/** isolated_queue_waits() - is there nothing to forward, whatever the guest has? */
static inline bool isolated_queue_waits(const IsolatedQueue *q)
{
    return q->next_unsent || q->guest.asks;
}

/**
 * isolated_queue_starves() - is what a request waits for held by orphans only?
 * @q: the owner's, or nobody owns it
 *
 * @in_flight is in guest order, and all before @next_unsent are sent.
 */
static inline bool isolated_queue_starves(const IsolatedQueue *q)
{
    return q->next_unsent && q->next_unsent == QTAILQ_FIRST(&q->in_flight) &&
           !QTAILQ_EMPTY(&q->orphans);
}

/**
 * isolated_queue_break() - latch the queue BROKEN
 * @q: the first fault counts, later ones are silent
 * @fault: what kind
 * @fmt: a sentence without a full stop
 *
 * Owner only.
 */
void G_GNUC_PRINTF(3, 4) isolated_queue_break(IsolatedQueue *q,
                                              IsolatedQueueFault fault,
                                              const char *fmt, ...);

/** isolated_queue_set_state() - trace and store.  Owner or BQL holder. */
void isolated_queue_set_state(IsolatedQueue *q, IsolatedQueueState state);

/** isolated_queue_unwatch() - no handler of @q runs any more.  Owner only. */
void isolated_queue_unwatch(IsolatedQueue *q);

/**
 * isolated_queue_trim() - clear what no request holds
 * @q: connected, with @config.trim; the owner's, or nobody owns it
 */
void isolated_queue_trim(IsolatedQueue *q);

/** isolated_queue_kick() - wake the backend, whatever its event index says */
void isolated_queue_kick(IsolatedQueue *q);

/**
 * isolated_queue_forward() - one batch from the guest to the backend
 * @q: connected
 * @budget: what it moves is taken off
 *
 * Called within rcu_read_lock(), by the owner.  Ends when the guest's ring is
 * empty, or @budget, or a request has to wait, or the queue is broken.
 */
void isolated_queue_forward(IsolatedQueue *q, IsolatedBudget *budget);

/**
 * isolated_queue_return() - one batch from the shadow ring to the guest
 * @q: connected
 * @budget: what it moves is taken off
 *
 * Called within rcu_read_lock(), by the owner.  Ends when the ring is empty,
 * or @budget, or the queue broken.  What an earlier batch could not show the
 * guest comes first.
 */
void isolated_queue_return(IsolatedQueue *q, IsolatedBudget *budget);

/** isolated_budget_left() - may anything be moved? */
static inline bool isolated_budget_left(const IsolatedBudget *budget)
{
    return budget->requests && budget->bufs && budget->bytes;
}

/**
 * isolated_request_get() - a request with what was popped into @q->scratch
 * @q: the queue; recycles a spare request, allocates only if there is none
 *
 * Returns: the request, owned by the caller, in no list.
 */
IsolatedRequest *isolated_request_get(IsolatedQueue *q);

/**
 * isolated_request_recycle() - done with a request
 * @q: the queue
 * @req: in no list, without a span
 */
void isolated_request_recycle(IsolatedQueue *q, IsolatedRequest *req);

/**
 * isolated_request_recycle_completed() - done with all of @q->completed
 * @q: the queue
 */
void isolated_request_recycle_completed(IsolatedQueue *q);

/** isolated_request_free() - @req is in no list */
void isolated_request_free(IsolatedRequest *req);

/**
 * isolated_request_send() - reserve, copy to the backend, add to the ring
 * @q: connected
 * @req: not sent; a span that it has is from an earlier call
 * @budget: bytes that are copied or cleared are taken off; no more than these
 *
 * Called within rcu_read_lock(), by the owner.
 */
IsolatedSendResult isolated_request_send(IsolatedQueue *q,
                                         IsolatedRequest *req,
                                         IsolatedBudget *budget);

/** isolated_request_num_bufs() - of both directions */
static inline unsigned isolated_request_num_bufs(const IsolatedRequest *req)
{
    return req->chain.num_out + req->chain.num_in;
}

/**
 * isolated_request_copy_to_backend() - fill a span, or a part of it
 * @q: connected
 * @req: with a span; @req->copied tells what is in it already
 * @budget: bytes that are copied or cleared are taken off; no more than these
 *
 * Called within rcu_read_lock(), by the owner.
 *
 * Returns: OK, PART, or FAULT if the guest has no such RAM.
 */
IsolatedSendResult isolated_request_copy_to_backend(IsolatedQueue *q,
                                                    IsolatedRequest *req,
                                                    IsolatedBudget *budget);

/**
 * isolated_request_copy_to_guest() - copy back what the backend wrote
 * @q: connected
 * @req: taken from the ring; the last bytes of @req->left are copied, and
 *     taken off it
 * @most: bytes
 *
 * Called within rcu_read_lock(), by the owner.
 *
 * Returns: false if the guest has no such RAM.
 */
bool isolated_request_copy_to_guest(IsolatedQueue *q, IsolatedRequest *req,
                                    uint64_t most);

/**
 * isolated_request_wipe() - clear a part of a span that is not needed any more
 * @q: connected
 * @req: not in the ring any more
 * @budget: bytes that are cleared are taken off; no more than these
 *
 * Returns: true if all of it is cleared, or nobody wants that.
 */
bool isolated_request_wipe(IsolatedQueue *q, IsolatedRequest *req,
                           IsolatedBudget *budget);

/**
 * isolated_request_release() - give the span back
 * @q: connected
 * @req: not in the ring any more
 *
 * Clears what isolated_request_wipe() has left.
 */
void isolated_request_release(IsolatedQueue *q, IsolatedRequest *req);

#endif /* HW_VIRTIO_ISOLATED_QUEUE_INTERNAL_H */
