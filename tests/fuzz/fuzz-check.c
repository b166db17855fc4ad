/*
 * Fuzzing the data path: what must be true around each move of the queue.
 *
 * - Guest RAM changes in the used part of the guest's ring and in device-
 *   writable buffers of requests that were out before, and nowhere else.  What
 *   a completed request has in its buffers is a prefix of what its span held,
 *   and what was there before.
 * - The backend's memory holds no byte of the guest but of device-readable
 *   buffers.
 * - Requests, ring and spans agree about what is out.
 * - A queue breaks once, on the account of a side that broke the rules.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "fuzz.h"

#define SHARE_MAX (64 * 1024)

static FuzzWorld *world;

/* What there was before the move. */
static struct {
    IsolatedQueueState state;
    unsigned num_out;
    struct {
        uint64_t seq;
        uint16_t num_bufs;
        uint16_t num_out;
        VirtQueueBuf bufs[VIRTQUEUE_MAX_SIZE];
        uint64_t at[VIRTQUEUE_MAX_SIZE];        /* in the share */
    } out[64];
    uint8_t share[SHARE_MAX];
} before;

static bool is_quiet(const FuzzWorld *w)
{
    return !w->guest.hostile && !w->guest.restless && !w->backend.hostile;
}

static void remember(const FuzzWorld *w, const IsolatedRequest *req)
{
    unsigned n = before.num_out;
    unsigned num = req->chain.num_out + req->chain.num_in;
    uint64_t base = w->backend.link.region->guest_base +
                    (fuzz_backend_share(&w->backend) -
                     w->backend.link.region->host);

    g_assert_cmpuint(n, <, ARRAY_SIZE(before.out));
    g_assert_cmpuint(num, <=, VIRTQUEUE_MAX_SIZE);
    before.out[n].seq = req->seq;
    before.out[n].num_bufs = num;
    before.out[n].num_out = req->chain.num_out;
    for (unsigned i = 0; i < num; i++) {
        before.out[n].bufs[i] = req->chain.bufs[i];
        before.out[n].at[i] = req->bufs[i].addr - base;
    }
    before.num_out++;
}

void fuzz_check_before(FuzzWorld *w)
{
    const IsolatedRequest *req;

    world = w;
    before.state = isolated_queue_state(w->q);
    before.num_out = 0;
    QTAILQ_FOREACH(req, &w->q->in_flight, next) {
        if (req->sent) {
            remember(w, req);
        }
    }
    memcpy(before.share, fuzz_backend_share(&w->backend), w->config.share);
}

/* What breaks the queue stays, perhaps half copied, but not at the backend. */
static bool is_out(const IsolatedQueue *q, uint64_t seq)
{
    bool broken = isolated_queue_state(q) == ISOLATED_QUEUE_BROKEN;
    const IsolatedRequest *req;

    QTAILQ_FOREACH(req, &q->in_flight, next) {
        if (req->seq == seq) {
            return req->sent || !broken;
        }
    }
    return false;
}

/* Of request @n, which came back: a prefix of its span, then what there was. */
static void check_copied(unsigned n)
{
    bool copied = true;

    for (unsigned i = before.out[n].num_out; i < before.out[n].num_bufs; i++) {
        const VirtQueueBuf *buf = &before.out[n].bufs[i];
        const uint8_t *span = &before.share[before.out[n].at[i]];

        for (uint32_t j = 0; j < buf->len; j++) {
            uint8_t now = *fuzz_ram_host(buf->addr + j);

            copied = copied && now == span[j];
            g_assert_true(copied ||
                          now == *fuzz_ram_expected(buf->addr + j));
        }
    }
}

static void check_ram(FuzzWorld *w)
{
    for (unsigned n = 0; n < before.num_out; n++) {
        if (is_out(w->q, before.out[n].seq)) {
            continue;
        }
        if (is_quiet(w)) {
            check_copied(n);
        }
        for (unsigned i = before.out[n].num_out; i < before.out[n].num_bufs;
             i++) {
            fuzz_ram_accept(before.out[n].bufs[i].addr,
                            before.out[n].bufs[i].len);
        }
    }
    fuzz_guest_accept_ring(&w->guest);
    fuzz_ram_check();
}

static void check_secrets(const FuzzWorld *w)
{
    const IsolatedRequest *req;

    QTAILQ_FOREACH(req, &w->q->in_flight, next) {
        for (unsigned i = 0; i < req->chain.num_out; i++) {
            fuzz_ram_expose(req->chain.bufs[i].addr, req->chain.bufs[i].len);
        }
    }
    fuzz_ram_check_secrets(fuzz_backend_share(&w->backend), w->config.share);
}

static void count(const IsolatedRequestList *list, unsigned *sent,
                  uint64_t *held)
{
    const IsolatedRequest *req;

    QTAILQ_FOREACH(req, list, next) {
        *sent += req->sent;
        *held += ROUND_UP(req->span_bytes, 512);
        g_assert_cmpint(req->sent, ==, req->span_bytes > 0);
    }
}

static void check_accounts(const FuzzWorld *w)
{
    const IsolatedLink *link = &w->backend.link;
    unsigned sent = 0;
    uint64_t held = 0;

    count(&w->q->in_flight, &sent, &held);
    count(&w->q->orphans, &sent, &held);
    g_assert_cmpuint(isolated_queue_in_flight(w->q), <=,
                     w->guest.config.size);
    bounce_pool_check(link->pool);
    /* Breaking, a queue can lose what it has just taken. */
    if (isolated_queue_state(w->q) != ISOLATED_QUEUE_BROKEN &&
        !shadow_ring_fault(link->ring)) {
        g_assert_cmpuint(shadow_ring_in_flight(link->ring), ==, sent);
        g_assert_cmpuint(bounce_pool_held(link->pool), ==, held);
    }
}

static void check_fault(FuzzWorld *w)
{
    bool broken = isolated_queue_state(w->q) == ISOLATED_QUEUE_BROKEN;
    const char *why = "";

    g_assert_cmpuint(w->num_faulted, <=, broken);
    g_assert_true(broken || before.state != ISOLATED_QUEUE_BROKEN);
    switch (isolated_queue_fault(w->q, &why)) {
    case ISOLATED_QUEUE_FAULT_NONE:
        g_assert_false(broken);
        break;
    case ISOLATED_QUEUE_FAULT_REQUEST_SIZE:
        g_assert_true(g_str_has_prefix(why, "a request "));
        break;
    case ISOLATED_QUEUE_FAULT_GUEST_RING:
    case ISOLATED_QUEUE_FAULT_GUEST_MEMORY:
        g_assert_true(w->guest.hostile);
        break;
    case ISOLATED_QUEUE_FAULT_BACKEND:
        g_assert_true(w->blamed || w->backend.hostile);
        break;
    case ISOLATED_QUEUE_FAULT__MAX:
        g_assert_not_reached();
    }
}

void fuzz_check_after(FuzzWorld *w)
{
    check_fault(w);
    check_ram(w);
    check_secrets(w);
    check_accounts(w);
}

void fuzz_check_before_handler(void)
{
    fuzz_check_before(world);
}

void fuzz_check_after_handler(void)
{
    fuzz_check_after(world);
}

static void move(FuzzWorld *w)
{
    FuzzInput nothing = {};

    fuzz_guest_publish(&w->guest);
    while (fuzz_backend_fetch(&w->backend, w->q, &w->guest)) {
        continue;
    }
    while (w->backend.num_held) {
        fuzz_backend_use(&w->backend, 0, &nothing);
    }
    fuzz_backend_publish(&w->backend);
    fuzz_backend_arm(&w->backend, true);
    if (fuzz_virtqueue_called()) {
        fuzz_guest_collect(&w->guest);
    }
}

void fuzz_check_end(FuzzWorld *w)
{
    unsigned left = 100;
    bool any = true;

    if (w->guest.hostile || w->backend.hostile || w->lost ||
        isolated_queue_state(w->q) != ISOLATED_QUEUE_RUNNING) {
        return;
    }
    fuzz_guest_collect(&w->guest);
    while (any && left--) {
        fuzz_check_before(w);
        any = fuzz_loop_run();
        fuzz_check_after(w);
        if (isolated_queue_state(w->q) != ISOLATED_QUEUE_RUNNING) {
            return;
        }
        move(w);
        any = any || w->guest.num_out ||
              shadow_ring_in_flight(w->backend.link.ring);
    }
    /* Whoever slept was woken up. */
    g_assert_cmpuint(w->guest.num_out, ==, 0);
    g_assert_cmpuint(isolated_queue_in_flight(w->q), ==, 0);
    g_assert_cmpuint(shadow_ring_in_flight(w->backend.link.ring), ==, 0);
}
