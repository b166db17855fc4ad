/*
 * Fuzzing the data path: the backend.
 *
 * Honest moves are those of the mock device, which checks each request that
 * it fetches.  It cannot do so any more once the backend has written into what
 * is QEMU's; from then on there are hostile moves only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "fuzz.h"

#define SHARE_OFFSET (64 * 1024)

void fuzz_backend_start(FuzzBackend *b, const FuzzConfig *config)
{
    IsolatedLink *link = &b->link;

    *b = (FuzzBackend) { .config = config->backend, .scrub = config->scrub };
    link->region = bounce_region_new(SHARE_OFFSET + config->share,
                                     &error_abort);
    b->config.mem = link->region->host;
    link->ring = shadow_ring_new(&b->config);
    link->pool = bounce_pool_new(SHARE_OFFSET, config->share, b->config.size);
    g_assert_cmpint(event_notifier_init(&link->kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&link->call, 0), ==, 0);
    mock_device_init(&b->device, &b->config);
    b->device.tables = link->region->host + SHARE_OFFSET;
    b->device.tables_addr = link->region->guest_base + SHARE_OFFSET;
    b->device.tables_bytes = config->share;
}

void fuzz_backend_stop(FuzzBackend *b)
{
    for (unsigned i = 0; i < b->num_held; i++) {
        g_free(b->held[i].bufs);
    }
    mock_device_cleanup(&b->device);
    event_notifier_cleanup(&b->link.kick);
    event_notifier_cleanup(&b->link.call);
    shadow_ring_free(b->link.ring);
    bounce_pool_free(b->link.pool);
    bounce_region_free(b->link.region);
}

uint8_t *fuzz_backend_share(const FuzzBackend *b)
{
    return b->link.region->host + SHARE_OFFSET;
}

static uint8_t *host(const FuzzBackend *b, const ShadowRingBuf *buf)
{
    uint64_t at = buf->addr - b->link.region->guest_base - SHARE_OFFSET;

    g_assert_cmpuint(at, <, b->device.tables_bytes);
    g_assert_cmpuint(buf->len, <=, b->device.tables_bytes - at);
    return fuzz_backend_share(b) + at;
}

/* The guest's request behind what was fetched; NULL for an orphan. */
static const IsolatedRequest *find(const IsolatedQueue *q,
                                   const MockRequest *fetched)
{
    const IsolatedRequest *req;

    QTAILQ_FOREACH(req, &q->in_flight, next) {
        if (req->sent && req->bufs[0].addr == fetched->bufs[0].addr) {
            g_assert_cmpuint(fetched->num_out, ==, req->chain.num_out);
            g_assert_cmpuint(fetched->num_in, ==, req->chain.num_in);
            return req;
        }
    }
    return NULL;
}

/* Nothing of an earlier request is in what the backend is to write. */
static void check_in(const FuzzBackend *b, const MockRequest *fetched)
{
    for (unsigned i = fetched->num_out; i < fetched->num_out + fetched->num_in;
         i++) {
        const uint8_t *mem = host(b, &fetched->bufs[i]);

        for (uint32_t j = 0; j < fetched->bufs[i].len; j++) {
            g_assert_cmphex(mem[j], ==, 0);
        }
    }
}

/* Is it what the guest has there? */
static void check_out(const FuzzBackend *b, const IsolatedRequest *req,
                      const MockRequest *fetched)
{
    for (unsigned i = 0; i < fetched->num_out; i++) {
        const uint8_t *mem = host(b, &fetched->bufs[i]);
        const VirtQueueBuf *buf = &req->chain.bufs[i];

        g_assert_cmpuint(fetched->bufs[i].len, ==, buf->len);
        for (uint32_t j = 0; j < buf->len; j++) {
            g_assert_cmphex(mem[j], ==, *fuzz_ram_host(buf->addr + j));
        }
    }
}

bool fuzz_backend_fetch(FuzzBackend *b, const IsolatedQueue *q,
                        const FuzzGuest *g)
{
    static MockRequest r;
    const IsolatedRequest *req;

    if (b->confused || b->stopped || b->num_held == ARRAY_SIZE(b->held) ||
        !mock_device_fetch(&b->device, &r)) {
        return false;
    }
    req = find(q, &r);
    for (unsigned i = 0; i < r.num_out + r.num_in; i++) {
        host(b, &r.bufs[i]);
    }
    if (req && !g->hostile && !g->restless && !b->hostile) {
        check_out(b, req, &r);
    }
    if (b->scrub && !b->hostile) {
        check_in(b, &r);
    }
    b->held[b->num_held++] = (FuzzHeld) {
        .id = r.id,
        .num_out = r.num_out,
        .num_in = r.num_in,
        .bufs = g_memdup2(r.bufs, (r.num_out + r.num_in) * sizeof(r.bufs[0])),
    };
    return true;
}

void fuzz_backend_use(FuzzBackend *b, unsigned i, FuzzInput *in)
{
    uint8_t value = fuzz_u8(in) & 0x7f;
    uint8_t code = fuzz_u8(in);
    uint32_t len = 0;
    FuzzHeld r;

    if (b->confused || b->stopped || !b->num_held) {
        return;
    }
    i %= b->num_held;
    r = b->held[i];
    memmove(&b->held[i], &b->held[i + 1],
            (b->num_held - i - 1) * sizeof(r));
    b->num_held--;
    for (i = r.num_out; i < r.num_out + r.num_in; i++) {
        memset(host(b, &r.bufs[i]), value, r.bufs[i].len);
        len += r.bufs[i].len;
    }
    if (code & 0x80) {
        len = (code & 0x40) ? UINT32_MAX - code : code & 0x3f;
    }
    mock_device_use(&b->device, r.id, len);
    g_free(r.bufs);
}

static void call(FuzzBackend *b)
{
    event_notifier_set(&b->link.call);
}

void fuzz_backend_publish(FuzzBackend *b)
{
    if (b->confused || b->stopped) {
        return;
    }
    mock_device_publish(&b->device);
    if (mock_device_should_call(&b->device)) {
        call(b);
    }
}

void fuzz_backend_arm(FuzzBackend *b, bool on)
{
    if (b->confused || b->stopped) {
        return;
    }
    if (on) {
        mock_device_arm_kicks(&b->device);
    } else {
        mock_device_suppress_kicks(&b->device);
    }
}

/* Anywhere in the ring. */
void fuzz_backend_write_raw(FuzzBackend *b, FuzzInput *in)
{
    ShadowRingLayout layout = shadow_ring_layout(b->config.format,
                                                 b->config.size);
    uint16_t where = fuzz_u16(in);
    unsigned len = 1 + fuzz_u8(in) % 16;
    uint8_t *mem = b->config.mem;
    uint64_t at = where % layout.bytes;

    /* Mostly where it is read. */
    if (where & 0x8000 && b->config.format == SHADOW_RING_SPLIT) {
        at = layout.device + where % (layout.bytes - layout.device);
    }
    b->hostile = true;
    b->confused = true;
    for (unsigned i = 0; i < len && at + i < layout.bytes; i++) {
        mem[at + i] = fuzz_u8(in);
    }
    call(b);
}

/* Anywhere in the share.  A canary has eight bits. */
void fuzz_backend_write_bufs(FuzzBackend *b, FuzzInput *in)
{
    uint64_t at = fuzz_u16(in) % (b->device.tables_bytes - 8);

    b->hostile = true;
    b->confused = true;
    for (unsigned i = 0; i < 8; i++) {
        fuzz_backend_share(b)[at + i] = fuzz_u8(in) & 0x7f;
    }
}

/* Say that something is used. */
void fuzz_backend_lie(FuzzBackend *b, FuzzInput *in)
{
    uint8_t how = fuzz_u8(in);
    uint32_t id = (how & 0x80) ? fuzz_u32(in) : fuzz_u8(in);

    b->hostile = true;
    b->confused = true;
    if (how & 1) {
        mock_device_run_ahead(&b->device, how >> 1 & 0x3f);
    } else {
        mock_device_use_raw(&b->device, id, fuzz_u16(in));
    }
    call(b);
}
