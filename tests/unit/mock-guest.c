/*
 * Mock guest: driver and memory behind guest-chain.h, for tests of the
 * isolated queue.
 *
 * Its ring is a real one, of either format.  The driver is the shadow ring,
 * which knows nothing of queues; the device side, which guest-chain.h is, is a
 * mock device (mock-guest-chain.c).  Both have tests of their own.  Every step
 * asserts that it may happen in the state that the request is in.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "mock-data.h"
#include "mock-guest.h"

#define TABLES_BASE (2 * GiB)
#define TABLE_BYTES (VIRTQUEUE_MAX_SIZE * SHADOW_RING_DESC_BYTES)

static __thread char this_thread;

static uint8_t *map_memory(uint64_t bytes)
{
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert_true(mem != MAP_FAILED);
    return mem;
}

static void ring_begin(MockGuest *g)
{
    memset(g->config.mem, 0, g->ring_bytes);
    g->ring = shadow_ring_new(&g->config);
    mock_device_init(&g->device, &g->config);
    g->device.tables = g->tables;
    g->device.tables_addr = TABLES_BASE;
    g->device.tables_bytes = g->params.num_requests * TABLE_BYTES;
}

static void ring_end(MockGuest *g)
{
    mock_device_cleanup(&g->device);
    shadow_ring_free(g->ring);
}

MockGuest *mock_guest_new(const MockGuestParams *params)
{
    MockGuest *g = g_new0(MockGuest, 1);
    unsigned num = params->num_requests;

    g_assert_cmpuint(num, <=, MOCK_GUEST_MAX);
    g->params = *params;
    g->ring_bytes = shadow_ring_layout(params->format,
                                       params->ring_size).bytes;
    g->config = (ShadowRingConfig) {
        .format = params->format,
        .size = params->ring_size,
        .event_idx = params->event_idx,
        .indirect = params->indirect,
        .mem = qemu_memalign(64, g->ring_bytes),
    };
    g->requests = g_new0(MockGuestRequest, num);
    g->ram = map_memory(num * params->slot_bytes);
    g->tables = map_memory(num * TABLE_BYTES);
    ring_begin(g);
    g->idle = g_ptr_array_sized_new(num);
    for (unsigned i = 0; i < num; i++) {
        g->requests[i].id = i;
        g_ptr_array_add(g->idle, &g->requests[i]);
    }
    g_assert_cmpint(event_notifier_init(&g->kick, 0), ==, 0);
    return g;
}

void mock_guest_free(MockGuest *g)
{
    event_notifier_cleanup(&g->kick);
    ring_end(g);
    munmap(g->tables, g->params.num_requests * TABLE_BYTES);
    munmap(g->ram, g->params.num_requests * g->params.slot_bytes);
    qemu_vfree(g->config.mem);
    g_ptr_array_unref(g->idle);
    g_free(g->requests);
    g_free(g);
}

void mock_guest_own(MockGuest *g, bool bql)
{
    g->bql = bql;
    qatomic_set(&g->owner, &this_thread);
}

bool mock_guest_is_owner(const MockGuest *g)
{
    return qatomic_read(&g->owner) == &this_thread;
}

void mock_guest_disown(MockGuest *g)
{
    qatomic_set(&g->owner, NULL);
}

/* The driver's side. */

MockGuestRequest *mock_guest_get(MockGuest *g)
{
    MockGuestRequest *r;

    if (!g->idle->len) {
        return NULL;
    }
    r = g_ptr_array_steal_index_fast(g->idle, 0);
    g_assert_cmpint(r->state, ==, MOCK_GUEST_IDLE);
    r->num_out = 0;
    r->num_in = 0;
    r->bytes_out = 0;
    r->bytes_in = 0;
    r->bad_chain = false;
    r->bad_buf = -1;
    r->fetched = false;
    return r;
}

uint8_t *mock_guest_host(const MockGuest *g, const VirtQueueBuf *buf)
{
    return g->ram + (buf->addr - MOCK_GUEST_RAM_BASE);
}

void mock_guest_add(MockGuest *g, MockGuestRequest *r, bool in, uint32_t len,
                    uint32_t align, uint32_t shift)
{
    unsigned num = r->num_out + r->num_in;
    uint64_t start = r->id * g->params.slot_bytes;
    uint64_t pos = start;

    g_assert_true(len && (in || !r->num_in));
    g_assert_cmpuint(num, <, ARRAY_SIZE(r->bufs));
    if (num) {
        VirtQueueBuf *last = &r->bufs[num - 1];

        pos = last->addr - MOCK_GUEST_RAM_BASE + last->len + MOCK_GUEST_GUARD;
    }
    pos = ROUND_UP(pos + MOCK_GUEST_GUARD, align) + shift;
    g_assert_cmpuint(pos + len + MOCK_GUEST_GUARD, <=,
                     start + g->params.slot_bytes);
    r->bufs[num] = (VirtQueueBuf) { .addr = MOCK_GUEST_RAM_BASE + pos, .len = len };
    if (in) {
        r->num_in++;
        r->bytes_in += len;
    } else {
        r->num_out++;
        r->bytes_out += len;
    }
}

static void fill_memory(const MockGuest *g, const MockGuestRequest *r)
{
    uint64_t pos = 0;

    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        uint8_t *mem = mock_guest_host(g, &r->bufs[i]);
        uint32_t len = r->bufs[i].len;

        mock_mark_fill(mem - MOCK_GUEST_GUARD, MOCK_GUEST_GUARD);
        mock_mark_fill(mem + len, MOCK_GUEST_GUARD);
        if (i < r->num_out) {
            mock_data_fill(r->serial, false, pos, mem, len);
            pos += len;
        } else {
            mock_mark_fill(mem, len);
        }
    }
}

static void add_to_ring(MockGuest *g, MockGuestRequest *r)
{
    ShadowRingChain chain = {
        .bufs = g->bufs,
        .num_out = r->num_out,
        .num_in = r->num_in,
    };

    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        g->bufs[i].addr = r->bufs[i].addr;
        g->bufs[i].len = r->bufs[i].len;
    }
    if (g->params.indirect && r->serial % 2) {
        chain.table = g->tables + r->id * TABLE_BYTES;
        chain.table_addr = TABLES_BASE + r->id * TABLE_BYTES;
    }
    shadow_ring_add(g->ring, &chain, r);
}

void mock_guest_offer(MockGuest *g, MockGuestRequest *r)
{
    g_assert_cmpint(r->state, ==, MOCK_GUEST_IDLE);
    r->serial = g->next_serial++;
    r->state = MOCK_GUEST_OFFERED;
    fill_memory(g, r);
    add_to_ring(g, r);
    qatomic_set(&g->num_offers, g->num_offers + 1);
    shadow_ring_publish(g->ring);
    if (shadow_ring_should_kick(g->ring)) {
        g->num_kicks++;
        event_notifier_set(&g->kick);
    }
}

MockGuestRequest *mock_guest_take(MockGuest *g, uint32_t *len)
{
    MockGuestRequest *r;
    void *token;

    if (shadow_ring_take(g->ring, &token, len) != SHADOW_RING_OK) {
        g_assert_null(shadow_ring_fault(g->ring));
        return NULL;
    }
    r = token;
    g_assert_cmpint(r->state, ==, MOCK_GUEST_PUSHED);
    r->state = MOCK_GUEST_IDLE;
    g_ptr_array_add(g->idle, r);
    return r;
}

void mock_guest_reset(MockGuest *g)
{
    g_assert_null(g->owner);
    g_ptr_array_set_size(g->idle, 0);
    for (unsigned i = 0; i < g->params.num_requests; i++) {
        g->requests[i].state = MOCK_GUEST_IDLE;
        g_ptr_array_add(g->idle, &g->requests[i]);
    }
    ring_end(g);
    ring_begin(g);
    g->num_offers = 0;
    g->next_pop = 0;
    g->next_push = 0;
    g->sent_used = 0;
}

unsigned mock_guest_num_offered(const MockGuest *g)
{
    return qatomic_read(&g->num_offers) - g->next_pop;
}

static void check_in(const MockGuestRequest *r, uint64_t pos,
                     const uint8_t *mem, uint32_t len, uint64_t written,
                     uint64_t copied)
{
    uint32_t end = pos < copied ? MIN(copied - pos, len) : 0;
    uint32_t part = pos < written ? MIN(written - pos, end) : 0;

    mock_data_check(r->serial, true, pos, mem, part);
    g_assert_true(part == end || buffer_is_zero(mem + part, end - part));
    mock_mark_check(mem, end, len);
}

void mock_guest_check(const MockGuest *g, const MockGuestRequest *r,
                      uint64_t written, uint64_t copied)
{
    uint64_t pos = 0;

    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        const uint8_t *mem = mock_guest_host(g, &r->bufs[i]);
        uint32_t len = r->bufs[i].len;

        mock_mark_check(mem - MOCK_GUEST_GUARD, 0, MOCK_GUEST_GUARD);
        mock_mark_check(mem + len, 0, MOCK_GUEST_GUARD);
        if (i >= r->num_out) {
            check_in(r, pos, mem, len, written, copied);
            pos += len;
        }
    }
}
