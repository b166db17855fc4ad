/*
 * Isolated queue: what is out, as it travels with the VM.
 *
 * A queue that is saved leaves nothing with its backend: the connection was
 * ended, so all that is out waits for the next one.  The ring of a split queue
 * would tell what such a request was, that of a packed queue would not (used
 * descriptors may have been written over it), so each travels whole, except
 * what is in its buffers: that is in guest memory.
 *
 * Big endian:
 *
 *   u32 requests, in guest order
 *   for each:  u16 head, u16 ring slots, u32 length, u8 completed,
 *              u16 device-readable buffers, u16 device-writable buffers
 *              for each buffer:  u64 address, u32 length
 *
 * A request that is completed is one that the guest could not be told of yet
 * (it had taken bus mastering away): its buffers hold what the backend wrote,
 * and the length is what the guest is to hear.
 *
 * What is loaded is as little trusted as a guest: it may lie about the guest's
 * own requests, and nothing else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "isolated-queue-internal.h"

#define BUF_BYTES 12

static void put(GByteArray *out, uint64_t value, unsigned bytes)
{
    uint64_t be = cpu_to_be64(value);

    g_byte_array_append(out, (uint8_t *)&be + sizeof(be) - bytes, bytes);
}

static void put_request(GByteArray *out, const IsolatedRequest *req,
                        bool completed)
{
    const VirtQueueChain *chain = &req->chain;

    put(out, chain->head, 2);
    put(out, chain->ndescs, 2);
    put(out, completed ? req->len : 0, 4);
    put(out, completed, 1);
    put(out, chain->num_out, 2);
    put(out, chain->num_in, 2);
    for (unsigned i = 0; i < chain->num_out + chain->num_in; i++) {
        put(out, chain->bufs[i].addr, 8);
        put(out, chain->bufs[i].len, 4);
    }
}

void isolated_queue_save(const IsolatedQueue *q, GByteArray *out)
{
    IsolatedRequest *req;

    assert(!q->ctx && !q->link);
    put(out, isolated_queue_in_flight(q), 4);
    QSIMPLEQ_FOREACH(req, &q->completed, done) {
        put_request(out, req, true);
    }
    QTAILQ_FOREACH(req, &q->in_flight, next) {
        put_request(out, req, false);
    }
}

/**
 * Cursor - what is still to be read
 * @data: next byte
 * @left: bytes; negative: more was asked for than there is
 */
typedef struct Cursor {
    const uint8_t *data;
    ssize_t left;
} Cursor;

static uint64_t get(Cursor *from, unsigned bytes)
{
    uint64_t value = 0;

    from->left -= bytes;
    if (from->left < 0) {
        return 0;
    }
    while (bytes--) {
        value = value << 8 | *from->data++;
    }
    return value;
}

/* False if they cannot be those of a request. */
static bool get_bufs(Cursor *from, VirtQueueChain *chain)
{
    unsigned num = chain->num_out + chain->num_in;

    if (num > chain->capacity || from->left < (ssize_t)num * BUF_BYTES) {
        return false;
    }
    chain->bytes_out = chain->bytes_in = 0;
    for (unsigned i = 0; i < num; i++) {
        VirtQueueBuf *buf = &chain->bufs[i];

        buf->addr = get(from, 8);
        buf->len = get(from, 4);
        if (!buf->len) {
            return false;
        }
        *(i < chain->num_out ? &chain->bytes_out : &chain->bytes_in) +=
            buf->len;
    }
    return true;
}

static bool get_chain(Cursor *from, VirtQueueChain *chain, uint32_t *len,
                      uint8_t *completed)
{
    chain->head = get(from, 2);
    chain->ndescs = get(from, 2);
    *len = get(from, 4);
    *completed = get(from, 1);
    chain->num_out = get(from, 2);
    chain->num_in = get(from, 2);
    return from->left >= 0 && chain->ndescs && *completed <= 1 &&
           chain->num_out + chain->num_in && get_bufs(from, chain) &&
           *len <= (*completed ? chain->bytes_in : 0);
}

static bool get_request(IsolatedQueue *q, Cursor *from)
{
    IsolatedRequest *req;
    uint8_t completed;
    uint32_t len;

    if (!get_chain(from, &q->scratch, &len, &completed)) {
        return false;
    }
    req = isolated_request_get(q);
    req->seq = q->next_seq++;
    req->len = len;
    isolated_count(&q->stats.in_flight, 1);
    if (completed) {
        QSIMPLEQ_INSERT_TAIL(&q->completed, req, done);
    } else {
        QTAILQ_INSERT_TAIL(&q->in_flight, req, next);
    }
    return true;
}

bool isolated_queue_load(IsolatedQueue *q, const uint8_t *data, size_t size,
                         Error **errp)
{
    Cursor from = { .data = data, .left = size };
    unsigned num = get(&from, 4);
    unsigned slots = 0;
    unsigned i = 0;

    assert(!q->ctx && !isolated_queue_in_flight(q));
    while (i < num && get_request(q, &from)) {
        slots += q->scratch.ndescs;
        i++;
    }
    if (i < num || from.left) {
        error_setg(errp, "request %u of %u in the stream is not one", i, num);
    } else if (!guest_chain_restore(&q->guest, slots)) {
        error_setg(errp, "the guest's ring has not so many requests");
    } else {
        q->next_unsent = QTAILQ_FIRST(&q->in_flight);
        isolated_queue_set_state(q, num ? ISOLATED_QUEUE_KEPT
                                        : ISOLATED_QUEUE_IDLE);
        return true;
    }
    isolated_queue_reset(q);
    return false;
}
