/*
 * Mock guest: driver and memory behind guest-chain.h, for tests of the
 * isolated queue.
 *
 * Its ring is a real one, of either format.  The driver is the shadow ring,
 * which knows nothing of queues; the device side, which guest-chain.h is, is a
 * mock device.  Both have tests of their own.  Every step asserts that it may
 * happen in the state that the request is in.
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

#define RAM_BASE (4 * GiB)
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

static uint8_t *buf_host(const MockGuest *g, const VirtQueueBuf *buf)
{
    return g->ram + (buf->addr - RAM_BASE);
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

        pos = last->addr - RAM_BASE + last->len + MOCK_GUEST_GUARD;
    }
    pos = ROUND_UP(pos + MOCK_GUEST_GUARD, align) + shift;
    g_assert_cmpuint(pos + len + MOCK_GUEST_GUARD, <=,
                     start + g->params.slot_bytes);
    r->bufs[num] = (VirtQueueBuf) { .addr = RAM_BASE + pos, .len = len };
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
        uint8_t *mem = buf_host(g, &r->bufs[i]);
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
        const uint8_t *mem = buf_host(g, &r->bufs[i]);
        uint32_t len = r->bufs[i].len;

        mock_mark_check(mem - MOCK_GUEST_GUARD, 0, MOCK_GUEST_GUARD);
        mock_mark_check(mem + len, 0, MOCK_GUEST_GUARD);
        if (i >= r->num_out) {
            check_in(r, pos, mem, len, written, copied);
            pos += len;
        }
    }
}

/* The owner's side: guest-chain.h. */

static MockGuest *guest_of(const GuestQueue *queue)
{
    MockGuest *g = (MockGuest *)queue->vq;

    g_assert_true(qatomic_read(&g->owner) == &this_thread);
    g_assert_cmpint(bql_locked(), ==, g->bql);
    return g;
}

static void assert_rcu(void)
{
    g_assert_cmpuint(get_ptr_rcu_reader()->depth, >, 0);
}

static void count(unsigned *counter)
{
    qatomic_set(counter, *counter + 1);
}

/* Buffers are not shared. */
static MockGuestRequest *request_at(MockGuest *g, uint64_t addr)
{
    uint64_t i = (addr - RAM_BASE) / g->params.slot_bytes;

    g_assert_cmpuint(i, <, g->params.num_requests);
    return &g->requests[i];
}

/* What is in the ring is what the driver put there. */
static void fill_chain(const MockRequest *fetched, const MockGuestRequest *r,
                       VirtQueueChain *chain)
{
    chain->head = fetched->id;
    chain->ndescs = fetched->num_descs;
    chain->num_out = fetched->num_out;
    chain->num_in = fetched->num_in;
    chain->bytes_out = r->bytes_out;
    chain->bytes_in = r->bytes_in;
    g_assert_cmpuint(fetched->num_out, ==, r->num_out);
    g_assert_cmpuint(fetched->num_in, ==, r->num_in);
    g_assert_cmpuint(chain->capacity, >=, VIRTQUEUE_MAX_SIZE);
    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        g_assert_cmphex(fetched->bufs[i].addr, ==, r->bufs[i].addr);
        g_assert_cmpuint(fetched->bufs[i].len, ==, r->bufs[i].len);
        chain->bufs[i] = r->bufs[i];
    }
}

VirtQueueChainResult guest_chain_pop(GuestQueue *queue, VirtQueueChain *chain,
                                     const char **fault)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r;

    count(&g->num_looks);
    if (g->unusable || !mock_device_fetch(&g->device, &g->fetched)) {
        return VIRTQUEUE_CHAIN_EMPTY;
    }
    r = request_at(g, g->fetched.bufs[0].addr);
    if (r->bad_chain) {
        mock_device_unfetch(&g->device, g->fetched.id);
        *fault = "the chain is a loop";
        return VIRTQUEUE_CHAIN_BAD;
    }
    g_assert_cmpint(r->state, ==, MOCK_GUEST_OFFERED);
    r->state = MOCK_GUEST_POPPED;
    r->pop = g->next_pop++;
    count(&g->num_pops);
    fill_chain(&g->fetched, r, chain);
    return VIRTQUEUE_CHAIN_OK;
}

static MockGuestRequest *request_of(MockGuest *g, const VirtQueueChain *chain)
{
    MockGuestRequest *r = request_at(g, chain->bufs[0].addr);

    g_assert_cmpuint(chain->ndescs, ==, g->device.held[chain->head]);
    g_assert_cmpint(r->state, ==, MOCK_GUEST_POPPED);
    return r;
}

void guest_chain_unpop(GuestQueue *queue, const VirtQueueChain *chain)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r = request_of(g, chain);

    g->next_pop--;
    r->state = MOCK_GUEST_OFFERED;
    /* Only the newest: it is the one that can be popped next. */
    mock_device_unfetch(&g->device, chain->head);
    g_assert_true(mock_device_fetch(&g->device, &g->fetched));
    g_assert_cmpuint(g->fetched.id, ==, chain->head);
    mock_device_unfetch(&g->device, chain->head);
}

bool guest_chain_is_newest(GuestQueue *queue, const VirtQueueChain *chain)
{
    MockGuest *g = guest_of(queue);

    return !g->unusable && request_of(g, chain)->pop == g->next_pop - 1;
}

/* Which request is it, and which buffer of it? */
static bool buf_is_bad(MockGuest *g, const VirtQueueBuf *buf, bool in)
{
    MockGuestRequest *r = request_at(g, buf->addr);
    unsigned i = in ? r->num_out : 0;
    unsigned end = in ? r->num_out + r->num_in : r->num_out;

    assert_rcu();
    g_assert_cmpint(r->state, ==, MOCK_GUEST_POPPED);
    while (i < end && r->bufs[i].addr != buf->addr) {
        i++;
    }
    g_assert_cmpuint(i, <, end);
    g_assert_cmpuint(r->bufs[i].len, ==, buf->len);
    return r->bad_buf == i;
}

bool guest_chain_read(GuestQueue *queue, const VirtQueueBuf *buf, void *dest)
{
    MockGuest *g = guest_of(queue);

    if (buf_is_bad(g, buf, false)) {
        return false;
    }
    memcpy(dest, buf_host(g, buf), buf->len);
    return true;
}

bool guest_chain_write(GuestQueue *queue, const VirtQueueBuf *buf,
                       const void *src, uint32_t len)
{
    MockGuest *g = guest_of(queue);

    g_assert_cmpuint(len, <=, buf->len);
    if (buf_is_bad(g, buf, true)) {
        return false;
    }
    memcpy(buf_host(g, buf), src, len);
    return true;
}

void guest_chain_push(GuestQueue *queue, const VirtQueueChain *chain,
                      uint32_t len, unsigned idx)
{
    MockGuest *g = guest_of(queue);

    assert_rcu();
    g_assert_cmpuint(g->next_push - g->sent_used, ==, idx);
    g_assert_cmpuint(len, <=, chain->bytes_in);
    g->pushed[idx].request = request_of(g, chain);
    g->pushed[idx].head = chain->head;
    g->pushed[idx].len = len;
    g->next_push++;
    if (g->unusable_after && !--g->unusable_after) {
        g->unusable = true;
    }
}

bool guest_chain_flush(GuestQueue *queue, unsigned num, bool *called)
{
    MockGuest *g = guest_of(queue);

    assert_rcu();
    g_assert_cmpuint(num, >, 0);
    g_assert_cmpuint(g->next_push - g->sent_used, ==, num);
    if (g->unusable) {
        g->next_push = g->sent_used;
        return false;
    }
    for (unsigned i = 0; i < num; i++) {
        MockGuestRequest *r = g->pushed[i].request;

        /* None of them twice. */
        g_assert_cmpint(r->state, ==, MOCK_GUEST_POPPED);
        r->state = MOCK_GUEST_PUSHED;
        mock_device_use(&g->device, g->pushed[i].head, g->pushed[i].len);
    }
    g->sent_used = g->next_push;
    mock_device_publish(&g->device);
    count(&g->num_calls);
    *called = true;
    return true;
}

bool guest_chain_usable(GuestQueue *queue)
{
    return !guest_of(queue)->unusable;
}

int guest_chain_kick_fd(const GuestQueue *queue)
{
    return event_notifier_get_fd(&guest_of(queue)->kick);
}

bool guest_chain_pending(GuestQueue *queue)
{
    return mock_device_has_avail(&guest_of(queue)->device);
}

/* On a split ring with event_idx there is no such thing, as in QEMU. */
void guest_chain_suppress_kicks(GuestQueue *queue)
{
    MockGuest *g = guest_of(queue);

    if (g->params.format == SHADOW_RING_PACKED || !g->params.event_idx) {
        mock_device_suppress_kicks(&g->device);
    }
}

bool guest_chain_arm_kicks(GuestQueue *queue)
{
    MockGuest *g = guest_of(queue);

    count(&g->num_looks);
    mock_device_arm_kicks(&g->device);
    return (g->flickers && g->flickers--) ||
           mock_device_has_avail(&g->device);
}
