/*
 * Mock guest: driver and memory behind guest-chain.h, for tests of the
 * isolated queue.
 *
 * The ring is two arrays of pointers with free-running indices: what a split
 * or packed ring looks like is of no interest here, order and ownership are.
 * Every step asserts that it may happen in the state that the request is in.
 *
 * Memory around the buffers, and in those that the guest wants to have
 * written, holds a mark.  It must never get to the backend, and must still be
 * there after the completion where nothing was written.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "mock-guest.h"

#define RAM_BASE (4 * GiB)

/* No two halves alike, so that a shifted copy is found too. */
static const char mark[8] = "\xde\xc0GuArD!";

static __thread char this_thread;

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t data_word(uint64_t serial, bool in, uint64_t n)
{
    return mix((serial << 33) ^ ((uint64_t)in << 32) ^ n);
}

void mock_data_fill(uint64_t serial, bool in, uint64_t pos, void *mem,
                    size_t len)
{
    uint8_t *to = mem;

    while (len) {
        uint64_t word = data_word(serial, in, pos / 8);
        size_t part = MIN(len, 8 - pos % 8);

        memcpy(to, (uint8_t *)&word + pos % 8, part);
        to += part;
        pos += part;
        len -= part;
    }
}

void mock_data_check(uint64_t serial, bool in, uint64_t pos, const void *mem,
                     size_t len)
{
    const uint8_t *from = mem;

    while (len) {
        uint64_t word = data_word(serial, in, pos / 8);
        size_t part = MIN(len, 8 - pos % 8);

        g_assert_cmpint(memcmp(from, (uint8_t *)&word + pos % 8, part), ==, 0);
        from += part;
        pos += part;
        len -= part;
    }
}

static void mark_fill(uint8_t *mem, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        mem[i] = mark[i % sizeof(mark)];
    }
}

static void mark_check(const uint8_t *mem, size_t pos, size_t len)
{
    for (size_t i = pos; i < len; i++) {
        g_assert_cmphex(mem[i], ==, (uint8_t)mark[i % sizeof(mark)]);
    }
}

void mock_guest_check_secret(const void *mem, size_t len)
{
    g_assert_null(memmem(mem, len, mark, sizeof(mark)));
}

MockGuest *mock_guest_new(unsigned num, uint64_t slot_bytes, bool event_idx)
{
    MockGuest *g = g_new0(MockGuest, 1);

    g_assert_cmpuint(num, <=, MOCK_GUEST_RING);
    g->event_idx = event_idx;
    g->kick_any = true;
    g->num_requests = num;
    g->requests = g_new0(MockGuestRequest, num);
    g->slot_bytes = slot_bytes;
    g->ram = mmap(NULL, num * slot_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(g->ram != MAP_FAILED);
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
    munmap(g->ram, g->num_requests * g->slot_bytes);
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
    uint64_t start = r->id * g->slot_bytes;
    uint64_t pos = start;

    g_assert_true(len && (in || !r->num_in));
    g_assert_cmpuint(num, <, ARRAY_SIZE(r->bufs));
    if (num) {
        VirtQueueBuf *last = &r->bufs[num - 1];

        pos = last->addr - RAM_BASE + last->len + MOCK_GUEST_GUARD;
    }
    pos = ROUND_UP(pos + MOCK_GUEST_GUARD, align) + shift;
    g_assert_cmpuint(pos + len + MOCK_GUEST_GUARD, <=, start + g->slot_bytes);
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

        mark_fill(mem - MOCK_GUEST_GUARD, MOCK_GUEST_GUARD);
        mark_fill(mem + len, MOCK_GUEST_GUARD);
        if (i < r->num_out) {
            mock_data_fill(r->serial, false, pos, mem, len);
            pos += len;
        } else {
            mark_fill(mem, len);
        }
    }
}

/* Is a kick asked for by an owner that last looked at @old? */
static bool kick_wanted(const MockGuest *g, unsigned old)
{
    return g->event_idx ? qatomic_read(&g->kick_event) == old
                        : qatomic_read(&g->kick_any);
}

void mock_guest_offer(MockGuest *g, MockGuestRequest *r)
{
    unsigned old = g->sent_avail;

    g_assert_cmpint(r->state, ==, MOCK_GUEST_IDLE);
    r->serial = g->next_serial++;
    r->state = MOCK_GUEST_OFFERED;
    fill_memory(g, r);
    g->avail[old % MOCK_GUEST_RING] = r;
    qatomic_store_release(&g->sent_avail, old + 1);
    /*
     * Our store of sent_avail before our load of the event; the owner stores
     * that, then loads sent_avail.
     */
    smp_mb();
    if (kick_wanted(g, old)) {
        g->num_kicks++;
        event_notifier_set(&g->kick);
    }
}

MockGuestRequest *mock_guest_take(MockGuest *g, uint32_t *len)
{
    unsigned slot = g->next_take % MOCK_GUEST_RING;
    MockGuestRequest *r;

    if (g->next_take == qatomic_load_acquire(&g->sent_used)) {
        return NULL;
    }
    r = g->used[slot].request;
    *len = g->used[slot].len;
    g->next_take++;
    g_assert_cmpint(r->state, ==, MOCK_GUEST_PUSHED);
    r->state = MOCK_GUEST_IDLE;
    g_ptr_array_add(g->idle, r);
    return r;
}

void mock_guest_reset(MockGuest *g)
{
    g_assert_null(g->owner);
    g_ptr_array_set_size(g->idle, 0);
    for (unsigned i = 0; i < g->num_requests; i++) {
        g->requests[i].state = MOCK_GUEST_IDLE;
        g_ptr_array_add(g->idle, &g->requests[i]);
    }
    g->next_take = 0;
    g->next_pop = 0;
    g->next_push = 0;
    g->sent_avail = 0;
    g->sent_used = 0;
    g->kick_event = 0;
    g->kick_any = true;
}

unsigned mock_guest_num_offered(const MockGuest *g)
{
    return g->sent_avail - g->next_pop;
}

static void check_in(const MockGuestRequest *r, uint64_t pos,
                     const uint8_t *mem, uint32_t len, uint64_t written,
                     uint64_t copied)
{
    uint32_t end = pos < copied ? MIN(copied - pos, len) : 0;
    uint32_t part = pos < written ? MIN(written - pos, end) : 0;

    mock_data_check(r->serial, true, pos, mem, part);
    g_assert_true(part == end || buffer_is_zero(mem + part, end - part));
    mark_check(mem, end, len);
}

void mock_guest_check(const MockGuest *g, const MockGuestRequest *r,
                      uint64_t written, uint64_t copied)
{
    uint64_t pos = 0;

    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        const uint8_t *mem = buf_host(g, &r->bufs[i]);
        uint32_t len = r->bufs[i].len;

        mark_check(mem - MOCK_GUEST_GUARD, 0, MOCK_GUEST_GUARD);
        mark_check(mem + len, 0, MOCK_GUEST_GUARD);
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

static bool is_empty(const MockGuest *g)
{
    return qatomic_load_acquire(&g->sent_avail) == g->next_pop;
}

VirtQueueChainResult guest_chain_pop(GuestQueue *queue, VirtQueueChain *chain,
                                     const char **fault)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r;

    count(&g->num_looks);
    if (is_empty(g)) {
        return VIRTQUEUE_CHAIN_EMPTY;
    }
    r = g->avail[g->next_pop % MOCK_GUEST_RING];
    if (r->bad_chain) {
        *fault = "the chain is a loop";
        return VIRTQUEUE_CHAIN_BAD;
    }
    g_assert_cmpint(r->state, ==, MOCK_GUEST_OFFERED);
    r->state = MOCK_GUEST_POPPED;
    g->next_pop++;
    count(&g->num_pops);
    chain->head = r->id;
    chain->ndescs = 1 + r->id % 3;
    chain->num_out = r->num_out;
    chain->num_in = r->num_in;
    chain->bytes_out = r->bytes_out;
    chain->bytes_in = r->bytes_in;
    g_assert_cmpuint(chain->capacity, >=, VIRTQUEUE_MAX_SIZE);
    memcpy(chain->bufs, r->bufs,
           (r->num_out + r->num_in) * sizeof(*chain->bufs));
    return VIRTQUEUE_CHAIN_OK;
}

static MockGuestRequest *request_of(MockGuest *g, const VirtQueueChain *chain)
{
    MockGuestRequest *r = &g->requests[chain->head];

    g_assert_cmpuint(chain->head, <, g->num_requests);
    g_assert_cmpuint(chain->ndescs, ==, 1 + r->id % 3);
    g_assert_cmpint(r->state, ==, MOCK_GUEST_POPPED);
    return r;
}

void guest_chain_unpop(GuestQueue *queue, const VirtQueueChain *chain)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r = request_of(g, chain);

    g->next_pop--;
    /* Only the newest. */
    g_assert_true(g->avail[g->next_pop % MOCK_GUEST_RING] == r);
    r->state = MOCK_GUEST_OFFERED;
}

/* Buffers are not shared: which request is it, and which buffer of it? */
static bool buf_is_bad(MockGuest *g, const VirtQueueBuf *buf, bool in)
{
    MockGuestRequest *r =
        &g->requests[(buf->addr - RAM_BASE) / g->slot_bytes];
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
    MockGuestRequest *r = request_of(g, chain);
    unsigned slot = g->next_push % MOCK_GUEST_RING;

    assert_rcu();
    g_assert_false(g->unusable);
    g_assert_cmpuint(g->next_push - g->sent_used, ==, idx);
    g_assert_cmpuint(len, <=, chain->bytes_in);
    r->state = MOCK_GUEST_PUSHED;
    g->used[slot].request = r;
    g->used[slot].len = len;
    g->next_push++;
}

void guest_chain_flush(GuestQueue *queue, unsigned num)
{
    MockGuest *g = guest_of(queue);

    assert_rcu();
    /* How the guest is notified depends on it. */
    g_assert_cmpint(queue->bql, ==, g->bql);
    g_assert_cmpuint(num, >, 0);
    g_assert_cmpuint(g->next_push - g->sent_used, ==, num);
    qatomic_store_release(&g->sent_used, g->next_push);
    count(&g->num_calls);
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
    return !is_empty(guest_of(queue));
}

/* With event_idx there is no such thing, as in QEMU. */
void guest_chain_suppress_kicks(GuestQueue *queue)
{
    qatomic_set(&guest_of(queue)->kick_any, false);
}

bool guest_chain_arm_kicks(GuestQueue *queue)
{
    MockGuest *g = guest_of(queue);

    count(&g->num_looks);
    qatomic_set(&g->kick_any, true);
    qatomic_set(&g->kick_event, g->next_pop);
    /* See mock_guest_offer(). */
    smp_mb();
    return !is_empty(g);
}
