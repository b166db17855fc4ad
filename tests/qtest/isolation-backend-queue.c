/*
 * A vhost-user backend in a thread of the test: its queues.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/cutils.h"
#include "qemu/iov.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-backend.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* Both wrap counters (virtio 1.2, 2.8.1). */
#define FIRST_PACKED_BASE 0x80008000

uint8_t *mock_chain_read(const MockChain *chain, size_t *len)
{
    uint8_t *data;

    *len = iov_size(chain->out, chain->num_out);
    data = g_malloc(*len + 1);
    iov_to_buf(chain->out, chain->num_out, 0, data, *len);
    return data;
}

void mock_chain_write(const MockChain *chain, size_t offset, const void *data,
                      size_t len)
{
    size_t done = iov_from_buf(chain->in, chain->num_in, offset, data, len);

    g_assert_cmpuint(done, ==, len);
}

/*
 * A ring starts when SET_VRING_KICK comes, and SET_VRING_CALL comes later: what
 * was served in between is told then.
 */
static void queue_call_missed(MockQueue *q)
{
    uint64_t one = 1;

    if (q->missed && q->call >= 0) {
        g_assert_cmpint(write(q->call, &one, sizeof(one)), ==, sizeof(one));
        q->missed = false;
    }
}

static void queue_call(MockQueue *q)
{
    q->missed |= mock_ring_should_call(&q->ring);
    queue_call_missed(q);
}

void mock_queue_set_call(MockQueue *q, int take_fd)
{
    if (q->call >= 0) {
        close(q->call);
    }
    q->call = take_fd;
    queue_call_missed(q);
}

static void queue_use(MockQueue *q, const MockChain *chain, uint32_t len)
{
    mock_ring_use(&q->ring, chain, len);
    q->served++;
    if (q->ring.uncalled >= q->ring.size) {
        queue_call(q);
    }
}

/* Isolation lends room, not what is in it. */
static bool queue_fetch(MockBackend *b, unsigned n, MockChain *chain)
{
    if (!mock_ring_fetch(&b->queues[n].ring, chain)) {
        return false;
    }
    for (unsigned i = 0; b->expect_zeros && i < chain->num_in; i++) {
        g_assert_true(buffer_is_zero(chain->in[i].iov_base,
                                     chain->in[i].iov_len));
    }
    return true;
}

static void queue_serve(MockBackend *b, unsigned n)
{
    MockQueue *q = &b->queues[n];
    g_autofree MockChain *chain = g_new(MockChain, 1);

    mock_ring_suppress(&q->ring);
    for (bool armed = false; ;) {
        uint32_t len = 0;

        if (!queue_fetch(b, n, chain)) {
            if (armed) {
                break;
            }
            mock_ring_arm(&q->ring);
            armed = true;
            continue;
        }
        /* What it asked for is behind it now. */
        armed = false;
        if (b->model->serve(b, n, chain, &len)) {
            queue_use(q, chain, len);
        } else {
            g_queue_push_tail(&q->kept, g_steal_pointer(&chain));
            chain = g_new(MockChain, 1);
        }
    }
    queue_call(q);
}

void mock_queue_run(MockBackend *b, unsigned n)
{
    MockQueue *q = &b->queues[n];

    if (!q->running || !q->enabled) {
        return;
    }
    if (!(b->model->receive & 1U << n)) {
        queue_serve(b, n);
    }
    g_cond_broadcast(&b->changed);
}

static void *ring_translate(void *opaque, uint64_t addr, uint64_t len)
{
    MockBackend *b = opaque;

    for (int i = b->mappings->len - 1; i >= 0; i--) {
        MockMapping *m = &g_array_index(b->mappings, MockMapping, i);
        uint64_t offset = addr - m->region.guest_addr;

        if (addr >= m->region.guest_addr && offset < m->region.size &&
            len <= m->region.size - offset) {
            return m->map + m->region.file_offset + offset;
        }
    }
    return NULL;
}

/* Ring addresses are the peer's own, not the guest's. */
static void *part_of_ring(MockBackend *b, uint64_t addr, uint64_t len)
{
    for (int i = b->mappings->len - 1; i >= 0; i--) {
        MockMapping *m = &g_array_index(b->mappings, MockMapping, i);
        uint64_t offset = addr - m->region.user_addr;

        if (addr >= m->region.user_addr && offset < m->region.size &&
            len <= m->region.size - offset) {
            return m->map + m->region.file_offset + offset;
        }
    }
    g_test_message("ring at 0x%" PRIx64 " is in no region", addr);
    g_assert_not_reached();
}

void mock_queue_start(MockBackend *b, unsigned n)
{
    MockQueue *q = &b->queues[n];
    uint64_t bytes[3];

    g_assert_true(q->addressed);
    g_assert_cmpuint(q->ring.size, >, 0);
    q->ring.packed = b->features & BIT_ULL(VIRTIO_F_RING_PACKED);
    q->ring.event_idx = b->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    q->ring.indirect = b->features & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC);
    q->ring.translate = ring_translate;
    q->ring.opaque = b;
    mock_ring_bytes(&q->ring, bytes);
    q->ring.desc = part_of_ring(b, q->addr.desc_user_addr, bytes[0]);
    q->ring.driver = part_of_ring(b, q->addr.avail_user_addr, bytes[1]);
    q->ring.device = part_of_ring(b, q->addr.used_user_addr, bytes[2]);
    if (!q->running) {
        /* A ring that begins anew has nothing of what was there before. */
        if (q->base == (q->ring.packed ? FIRST_PACKED_BASE : 0)) {
            g_queue_clear_full(&q->kept, g_free);
        }
        mock_ring_set_base(&q->ring, q->base);
        q->running = true;
    }
    mock_queue_run(b, n);
}

void mock_queue_stop(MockBackend *b, unsigned n)
{
    MockQueue *q = &b->queues[n];

    if (q->running) {
        q->base = mock_ring_base(&q->ring);
        q->running = false;
    }
    if (q->kick >= 0) {
        close(q->kick);
    }
    if (q->call >= 0) {
        close(q->call);
    }
    q->kick = q->call = -1;
    g_cond_broadcast(&b->changed);
}

/* Returns: a request to write to, or NULL; to be freed. */
static MockChain *queue_take(MockBackend *b, unsigned n)
{
    MockQueue *q = &b->queues[n];
    g_autofree MockChain *chain = NULL;

    if (!q->running || !q->enabled) {
        return NULL;
    }
    if (!g_queue_is_empty(&q->kept)) {
        return g_queue_pop_head(&q->kept);
    }
    if (!(b->model->receive & 1U << n)) {
        return NULL;
    }
    chain = g_new(MockChain, 1);
    if (queue_fetch(b, n, chain)) {
        return g_steal_pointer(&chain);
    }
    mock_ring_arm(&q->ring);
    return queue_fetch(b, n, chain) ? g_steal_pointer(&chain) : NULL;
}

void mock_backend_deliver(MockBackend *b, unsigned queue, const void *data,
                          size_t len)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    g_autofree MockChain *chain = NULL;

    g_mutex_lock(&b->lock);
    while (!(chain = queue_take(b, queue))) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    mock_chain_write(chain, 0, data, len);
    queue_use(&b->queues[queue], chain, len);
    queue_call(&b->queues[queue]);
    g_mutex_unlock(&b->lock);
}
