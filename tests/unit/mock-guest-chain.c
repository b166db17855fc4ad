/*
 * Mock guest: what stands for guest-chain.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "mock-guest.h"

static MockGuest *guest_of(const GuestQueue *queue)
{
    MockGuest *g = (MockGuest *)queue->vq;

    g_assert_true(mock_guest_is_owner(g));
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
    uint64_t i = (addr - MOCK_GUEST_RAM_BASE) / g->params.slot_bytes;

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

/* Memory is elsewhere than its addresses say, and in pieces of a page. */
#define MOCK_GUEST_MOVED (1ULL << 50)
#define MOCK_GUEST_PAGE 4096

static bool iommu_has_to_be_asked(MockGuest *g)
{
    if (!g->translated || g_random_int_range(0, 8)) {
        return false;
    }
    qatomic_set(&g->asked, true);
    return true;
}

VirtQueueChainResult guest_chain_pop(GuestQueue *queue, VirtQueueChain *chain,
                                     const char **fault)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r;

    count(&g->num_looks);
    queue->asks = mock_device_has_avail(&g->device) && iommu_has_to_be_asked(g);
    if (g->unusable || queue->asks ||
        !mock_device_fetch(&g->device, &g->fetched)) {
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

/* Which request is it, and which buffer of it is @buf, or has it as a part? */
static bool buf_is_bad(MockGuest *g, const VirtQueueBuf *buf, bool in)
{
    MockGuestRequest *r = request_at(g, buf->addr);
    unsigned i = in ? r->num_out : 0;
    unsigned end = in ? r->num_out + r->num_in : r->num_out;

    assert_rcu();
    g_assert_cmpint(r->state, ==, MOCK_GUEST_POPPED);
    while (i < end && buf->addr - r->bufs[i].addr >= r->bufs[i].len) {
        i++;
    }
    g_assert_cmpuint(i, <, end);
    g_assert_cmpuint(buf->len, <=,
                     r->bufs[i].len - (buf->addr - r->bufs[i].addr));
    return r->bad_buf == i;
}

bool guest_chain_read(GuestQueue *queue, const VirtQueueBuf *buf, void *dest)
{
    MockGuest *g = guest_of(queue);

    if (buf_is_bad(g, buf, false)) {
        return false;
    }
    memcpy(dest, mock_guest_host(g, buf), buf->len);
    return true;
}

bool guest_chain_write(GuestQueue *queue, const VirtQueueBuf *buf,
                       const void *src)
{
    MockGuest *g = guest_of(queue);

    g_assert_false(g->translated);
    if (buf_is_bad(g, buf, true)) {
        return false;
    }
    memcpy(mock_guest_host(g, buf), src, buf->len);
    return true;
}

GuestReach guest_chain_reach(GuestQueue *queue, hwaddr addr, uint32_t len,
                             bool is_write, VirtQueueBuf *piece)
{
    MockGuest *g = guest_of(queue);
    MockGuestRequest *r = request_at(g, addr);
    unsigned i = is_write ? r->num_out : 0;

    g_assert_true(g->translated);
    assert_rcu();
    piece->addr = addr + MOCK_GUEST_MOVED;
    piece->len = MIN(len, MOCK_GUEST_PAGE - addr % MOCK_GUEST_PAGE);
    while (addr - r->bufs[i].addr >= r->bufs[i].len) {
        i++;
        g_assert_cmpuint(i, <, is_write ? r->num_out + r->num_in : r->num_out);
    }
    if (r->bad_buf == i) {
        return GUEST_REACH_NEVER;
    }
    return iommu_has_to_be_asked(g) ? GUEST_REACH_LATER : GUEST_REACH_NOW;
}

GuestReach guest_chain_reach_rings(const GuestQueue *queue)
{
    return GUEST_REACH_NOW;
}

bool guest_chain_write_piece(GuestQueue *queue, const VirtQueueBuf *piece,
                             const void *src)
{
    MockGuest *g = guest_of(queue);
    VirtQueueBuf buf = { piece->addr - MOCK_GUEST_MOVED, piece->len };

    assert_rcu();
    g_assert_true(g->translated);
    g_assert_cmpint(request_at(g, buf.addr)->state, ==, MOCK_GUEST_POPPED);
    memcpy(mock_guest_host(g, &buf), src, buf.len);
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
