/*
 * Isolated queue: the bytes of one request, to the backend and back.
 *
 * A request that is longer than a turn's budget is copied in parts, one a turn:
 * to the backend from its first byte, and back from the last that the backend
 * wrote.  The other side is shown all of it or nothing.
 *
 * Not here: where the bytes are in the region (isolated-request.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "isolated-queue-internal.h"

static void *request_host(const IsolatedQueue *q, const IsolatedRequest *req,
                          unsigned i)
{
    const BounceRegion *region = q->link->region;

    return region->host + (req->bufs[i].addr - region->guest_base);
}

/*
 * Device-readable bytes are copied; device-writable ones are cleared, so that
 * a backend which says that it wrote more than it did cannot hand the guest
 * what an earlier request left there (compare CVE-2022-0854).  Where all are
 * copied back whatever it says, an honest one would.
 */
static bool request_clears(const IsolatedQueue *q, const IsolatedRequest *req)
{
    return (q->config.scrub || q->config.all_writable) && !req->fresh;
}

static bool request_fill(IsolatedQueue *q, IsolatedRequest *req, bool clear)
{
    unsigned end = clear ? isolated_request_num_bufs(req) : req->chain.num_out;

    for (unsigned i = 0; i < end; i++) {
        void *host = request_host(q, req, i);

        if (i >= req->chain.num_out) {
            memset(host, 0, req->bufs[i].len);
        } else if (!guest_chain_read(&q->guest, &req->chain.bufs[i], host)) {
            return false;
        }
    }
    return true;
}

/* The part behind what was copied or cleared already. */
static bool request_fill_part(IsolatedQueue *q, IsolatedRequest *req,
                              bool clear, uint64_t part)
{
    unsigned end = clear ? isolated_request_num_bufs(req) : req->chain.num_out;
    uint64_t offset = req->copied;

    for (unsigned i = 0; i < end && part; i++) {
        uint8_t *host = request_host(q, req, i) + offset;
        VirtQueueBuf buf = req->chain.bufs[i];

        if (offset >= buf.len) {
            offset -= buf.len;
            continue;
        }
        buf.addr += offset;
        buf.len = MIN(buf.len - offset, part);
        if (i >= req->chain.num_out) {
            memset(host, 0, buf.len);
        } else if (!guest_chain_read(&q->guest, &buf, host)) {
            return false;
        }
        req->copied += buf.len;
        part -= buf.len;
        offset = 0;
    }
    return true;
}

IsolatedSendResult isolated_request_copy_to_backend(IsolatedQueue *q,
                                                    IsolatedRequest *req,
                                                    IsolatedBudget *budget)
{
    bool clear = request_clears(q, req);
    uint64_t left = req->chain.bytes_out + (clear ? req->chain.bytes_in : 0) -
                    req->copied;
    uint64_t part = MIN(left, budget->bytes);
    bool whole = part == left && !req->copied;

    budget->bytes -= part;
    if (whole ? !request_fill(q, req, clear) :
                !request_fill_part(q, req, clear, part)) {
        return ISOLATED_SEND_FAULT;
    }
    if (part < left) {
        return ISOLATED_SEND_PART;
    }
    isolated_count(&q->stats.bytes_out, req->chain.bytes_out);
    return ISOLATED_SEND_OK;
}

/*
 * Last buffer first.  Linux's crypto driver offers the ends of its lists again
 * and again; a backend writes into the first of them, and what is behind would
 * bring zeros to the same memory.
 */
static bool request_copy_to_pieces(IsolatedQueue *q, IsolatedRequest *req,
                                   uint64_t stop)
{
    for (unsigned i = req->num_pieces; i-- > 0 && req->left > stop;) {
        const IsolatedPiece *piece = &req->pieces[i];
        const uint8_t *host = request_host(q, req, piece->buf);
        VirtQueueBuf part = piece->guest;
        uint64_t offset;

        if (piece->before >= req->left) {
            continue;
        }
        offset = MAX(piece->before, stop) - piece->before;
        part.addr += offset;
        part.len = MIN(req->left - piece->before, part.len) - offset;
        if (!guest_chain_write_piece(&q->guest, &part,
                                     host + piece->offset + offset)) {
            return false;
        }
        req->left = piece->before + offset;
    }
    return true;
}

static bool request_copy_to_bufs(IsolatedQueue *q, IsolatedRequest *req,
                                 uint64_t stop)
{
    unsigned i = isolated_request_num_bufs(req);
    uint64_t before = req->chain.bytes_in;

    while (req->left > stop) {
        VirtQueueBuf part = req->chain.bufs[--i];
        uint64_t offset;

        before -= part.len;
        if (before >= req->left) {
            continue;
        }
        offset = MAX(before, stop) - before;
        part.addr += offset;
        part.len = req->left - before - offset;
        if (!guest_chain_write(&q->guest, &part,
                               request_host(q, req, i) + offset)) {
            return false;
        }
        req->left -= part.len;
    }
    return true;
}

bool isolated_request_copy_to_guest(IsolatedQueue *q, IsolatedRequest *req,
                                    uint64_t most)
{
    uint64_t left = req->left;
    uint64_t stop = left - MIN(left, most);
    bool ok;

    assert(left <= req->chain.bytes_in);
    ok = req->num_pieces ? request_copy_to_pieces(q, req, stop)
                         : request_copy_to_bufs(q, req, stop);
    isolated_count(&q->stats.bytes_in, left - req->left);
    return ok;
}

bool isolated_request_wipe(IsolatedQueue *q, IsolatedRequest *req,
                           IsolatedBudget *budget)
{
    uint64_t left = req->span_bytes - req->wiped;
    uint64_t part = MIN(left, budget->bytes);

    if (!q->config.wipe) {
        return true;
    }
    memset(q->link->region->host + req->span + req->wiped, 0, part);
    req->wiped += part;
    budget->bytes -= part;
    return part == left;
}
