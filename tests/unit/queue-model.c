/*
 * Queue harness: the steps of guest and backend, and the model.
 *
 * The model is one list, @out: what the guest has offered and not got back.
 * The backend must fetch it in order, on every connection anew, and find in
 * each request what the guest put there.  A second list holds what the backend
 * has used: the guest must see that, in that order, and nothing else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "mock-data.h"
#include "queue-harness.h"

/* The guest. */

void queue_offer_request(QueueHarness *h, MockGuestRequest *r)
{
    g_ptr_array_add(h->out, r);
    mock_guest_offer(h->guest, r);
}

MockGuestRequest *queue_offer(QueueHarness *h, uint32_t out, uint32_t in)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    g_assert_nonnull(r);
    if (out) {
        mock_guest_add(h->guest, r, false, out, 16, 0);
    }
    if (in) {
        mock_guest_add(h->guest, r, true, in, 16, 0);
    }
    queue_offer_request(h, r);
    return r;
}

void queue_offer_many(QueueHarness *h, unsigned num, uint32_t out,
                      uint32_t in)
{
    while (num--) {
        queue_offer(h, out, in);
    }
}

static uint32_t random_len(uint32_t max)
{
    switch (g_test_rand_int_range(0, 4)) {
    case 0:
        return g_test_rand_int_range(1, 17);
    case 1:
        return g_test_rand_int_range(1, MIN(max, 1500) + 1);
    case 2:
        return ROUND_UP(g_test_rand_int_range(1, max + 1), 512);
    default:
        return g_test_rand_int_range(1, max + 1);
    }
}

MockGuestRequest *queue_offer_random(QueueHarness *h, uint32_t max)
{
    static const uint32_t aligns[] = { 1, 16, 512, 4096 };
    MockGuestRequest *r = mock_guest_get(h->guest);
    unsigned out = g_test_rand_int_range(0, 4);
    unsigned num = out + g_test_rand_int_range(!out, 4);

    if (!r) {
        return NULL;
    }
    for (unsigned i = 0; i < num; i++) {
        uint32_t align = aligns[g_test_rand_int_range(0, 4)];

        mock_guest_add(h->guest, r, i >= out, random_len(max), align,
                       align == 1 ? g_test_rand_int_range(0, 16) : 0);
    }
    queue_offer_request(h, r);
    return r;
}

static void model_collect(QueueHarness *h, const MockGuestRequest *r,
                          uint32_t len)
{
    const QueueCompletion *c = &h->used[h->used_first];
    uint64_t copied = h->params.all_writable ? r->bytes_in : len;

    g_assert_cmpuint(h->used_num, >, 0);
    g_assert_true(c->guest == r);
    g_assert_cmpuint(c->serial, ==, r->serial);
    g_assert_cmpuint(len, ==, MIN(c->raw_len, r->bytes_in));
    mock_guest_check(h->guest, r, c->written, copied);
    h->used_first = (h->used_first + 1) % MOCK_GUEST_MAX;
    h->used_num--;
    h->num_returned++;
}

unsigned queue_collect(QueueHarness *h)
{
    MockGuestRequest *r;
    unsigned num = 0;
    uint32_t len;

    while ((r = mock_guest_take(h->guest, &len))) {
        guint i;

        model_collect(h, r, len);
        g_assert_true(g_ptr_array_find(h->out, r, &i));
        g_assert_true(r->fetched);
        g_ptr_array_remove_index(h->out, i);
        h->num_fetched--;
        num++;
    }
    return num;
}

/* The backend. */

uint8_t *backend_host(const QueueHarness *h, uint64_t addr)
{
    const MockDevice *d = &h->device;

    g_assert_cmphex(addr, >=, d->tables_addr);
    g_assert_cmphex(addr, <, d->tables_addr + d->tables_bytes);
    return h->link->region->host + (addr - h->link->region->guest_base);
}

static void check_buf(const QueueHarness *h, const ShadowRingBuf *buf,
                      const VirtQueueBuf *of)
{
    uint64_t align = buf->len < BOUNCE_KEEP_ALIGN_MIN ? 16 :
                     of->addr % 4096 == 0 ? 4096 :
                     of->addr % 512 == 0 ? 512 : 16;

    g_assert_cmpuint(buf->len, ==, of->len);
    g_assert_cmphex(buf->addr % align, ==, 0);
    backend_host(h, buf->addr + buf->len - 1);
}

static void check_contents(QueueHarness *h, const BackendRequest *r)
{
    uint64_t pos = 0;

    g_assert_cmpuint(r->ring.num_out, ==, r->guest->num_out);
    g_assert_cmpuint(r->ring.num_in, ==, r->guest->num_in);
    for (unsigned i = 0; i < r->ring.num_out + r->ring.num_in; i++) {
        const ShadowRingBuf *buf = &r->ring.bufs[i];
        const uint8_t *mem = backend_host(h, buf->addr);

        check_buf(h, buf, &r->guest->bufs[i]);
        if (i < r->ring.num_out) {
            mock_data_check(r->serial, false, pos, mem, buf->len);
            pos += buf->len;
        } else if (!h->params.no_scrub) {
            g_assert_true(buffer_is_zero(mem, buf->len));
        }
    }
}

/* No two requests that are out share a byte. */
static void check_apart(const QueueHarness *h, BackendRequest *r)
{
    r->start = UINT64_MAX;
    r->end = 0;
    for (unsigned i = 0; i < r->ring.num_out + r->ring.num_in; i++) {
        const ShadowRingBuf *buf = &r->ring.bufs[i];

        r->start = MIN(r->start, buf->addr);
        r->end = MAX(r->end, buf->addr + buf->len);
    }
    for (unsigned i = 0; i < h->held->len; i++) {
        const BackendRequest *other = g_ptr_array_index(h->held, i);

        g_assert_true(r->end <= other->start || other->end <= r->start);
    }
}

BackendRequest *backend_fetch(QueueHarness *h)
{
    BackendRequest *r = h->spare->len ?
        g_ptr_array_steal_index_fast(h->spare, h->spare->len - 1) :
        g_new0(BackendRequest, 1);

    if (!mock_device_fetch(&h->device, &r->ring)) {
        g_ptr_array_add(h->spare, r);
        return NULL;
    }
    h->armed = false;
    r->guest = NULL;
    if (h->num_ahead) {
        h->num_ahead--;
    } else {
        g_assert_cmpuint(h->num_fetched, <, h->out->len);
        r->guest = g_ptr_array_index(h->out, h->num_fetched++);
        g_assert_false(r->guest->fetched);
        r->guest->fetched = true;
        r->serial = r->guest->serial;
        check_contents(h, r);
    }
    check_apart(h, r);
    g_ptr_array_add(h->held, r);
    return r;
}

unsigned backend_fetch_all(QueueHarness *h)
{
    unsigned num = 0;

    do {
        while (backend_fetch(h)) {
            num++;
        }
        event_notifier_test_and_clear(&h->link->kick);
        mock_device_arm_kicks(&h->device);
    } while (mock_device_has_avail(&h->device));
    h->armed = true;
    return num;
}

void backend_use(QueueHarness *h, unsigned i, uint64_t written, uint32_t len)
{
    BackendRequest *r = g_ptr_array_steal_index(h->held, i);
    uint64_t pos = 0;

    for (i = r->ring.num_out; pos < written; i++) {
        const ShadowRingBuf *buf = &r->ring.bufs[i];
        uint32_t part = MIN(written - pos, buf->len);

        mock_data_fill(r->serial, true, pos, backend_host(h, buf->addr), part);
        pos += part;
    }
    mock_device_use(&h->device, r->ring.id, len);
    if (r->guest) {
        unsigned slot = (h->used_first + h->used_num) % MOCK_GUEST_MAX;

        g_assert_cmpuint(h->used_num, <, MOCK_GUEST_MAX);
        h->used[slot] = (QueueCompletion) {
            .guest = r->guest,
            .serial = r->serial,
            .written = written,
            .raw_len = len,
        };
        h->used_num++;
    }
    g_ptr_array_add(h->spare, r);
}

uint32_t backend_base_before(const QueueHarness *h, unsigned num)
{
    int places = 0;

    while (num--) {
        const BackendRequest *r = g_ptr_array_index(h->held,
                                                    h->held->len - 1 - num);

        places += h->params.format == SHADOW_RING_PACKED ? r->ring.num_descs
                                                         : 1;
    }
    return mock_device_base_at(&h->device, -places);
}

void backend_complete(QueueHarness *h, unsigned i)
{
    const BackendRequest *r = g_ptr_array_index(h->held, i);
    uint64_t bytes = r->guest ? r->guest->bytes_in : 0;

    backend_use(h, i, bytes, bytes);
}

void backend_publish(QueueHarness *h)
{
    mock_device_publish(&h->device);
    if (mock_device_should_call(&h->device)) {
        event_notifier_set(&h->link->call);
    }
}

void backend_complete_all(QueueHarness *h)
{
    while (h->held->len) {
        backend_complete(h, 0);
    }
    backend_publish(h);
}

/* All together. */

unsigned queue_do_anything(QueueHarness *h)
{
    unsigned offered = 0;

    for (int n = g_test_rand_int_range(0, 40); n > 0; n--) {
        offered += !!queue_offer_random(h, 2000);
    }
    if (g_test_rand_bit()) {
        queue_settle(h);
    }
    while (g_test_rand_int_range(0, 8) && backend_fetch(h)) {
        continue;
    }
    while (g_test_rand_int_range(0, 8) && h->held->len) {
        backend_complete(h, g_test_rand_int_range(0, h->held->len));
    }
    return offered;
}

void queue_finish(QueueHarness *h)
{
    unsigned rounds = 0;

    /* Orphans that were used may be all that is left. */
    backend_publish(h);
    queue_settle(h);
    while (h->out->len || h->held->len || h->num_ahead) {
        /* Each round must get on. */
        g_assert_cmpuint(backend_fetch_all(h) + h->held->len + h->used_num,
                         >, 0);
        backend_complete_all(h);
        queue_settle(h);
        queue_collect(h);
        g_assert_cmpuint(h->used_num, ==, 0);
        g_assert_cmpuint(rounds++, <, 10000);
    }
    g_assert_cmpuint(shadow_ring_in_flight(h->link->ring), ==, 0);
    g_assert_cmpuint(bounce_pool_held(h->link->pool), ==, 0);
}

void queue_assert_broken(QueueHarness *h, IsolatedQueueFault fault,
                         const char *why)
{
    const char *said = NULL;

    queue_settle(h);
    g_assert_cmpint(isolated_queue_state(h->q), ==, ISOLATED_QUEUE_BROKEN);
    g_assert_cmpint(isolated_queue_fault(h->q, &said), ==, fault);
    g_assert_nonnull(strstr(said, why));
    g_assert_cmpuint(h->num_faulted, ==, 1);
}
