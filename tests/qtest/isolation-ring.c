/*
 * The device side of a virtqueue: what both formats share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "isolation-ring.h"

static const MockRingOps *ring_ops(const MockRing *ring)
{
    return ring->packed ? &mock_ring_packed_ops : &mock_ring_split_ops;
}

void mock_ring_bytes(const MockRing *ring, uint64_t bytes[3])
{
    ring_ops(ring)->bytes(ring, bytes);
}

void mock_ring_set_base(MockRing *ring, uint32_t base)
{
    ring_ops(ring)->set_base(ring, base);
    ring->called = ring->next_used;
    ring->uncalled = 0;
}

uint32_t mock_ring_base(const MockRing *ring)
{
    return ring_ops(ring)->base(ring);
}

bool mock_ring_fetch(MockRing *ring, MockChain *chain)
{
    chain->num_out = chain->num_in = 0;
    if (!ring_ops(ring)->fetch(ring, chain)) {
        return false;
    }
    /* Virtio 1.2, 2.6: a chain has at least one buffer. */
    g_assert_cmpuint(chain->num_out + chain->num_in, >, 0);
    return true;
}

void mock_ring_use(MockRing *ring, const MockChain *chain, uint32_t len)
{
    ring_ops(ring)->use(ring, chain, len);
    ring->uncalled++;
}

bool mock_ring_should_call(MockRing *ring)
{
    bool wanted;

    if (!ring->uncalled) {
        return false;
    }
    /*
     * Our store of the used element before our load of what the driver asks
     * for; the driver stores that, then loads the used element.  Without
     * both, a call can be lost.
     */
    smp_mb();
    wanted = ring_ops(ring)->wants_call(ring);
    ring->called = ring->next_used;
    ring->uncalled = 0;
    return wanted;
}

void mock_ring_arm(MockRing *ring)
{
    ring_ops(ring)->arm(ring);
    /*
     * Our store of what we ask for before our next look for a request; the
     * driver stores the request, then loads what we ask for.
     */
    smp_mb();
}

void mock_ring_suppress(MockRing *ring)
{
    ring_ops(ring)->suppress(ring);
}

void mock_chain_add(MockRing *ring, MockChain *chain, uint64_t addr,
                    uint32_t len, bool write)
{
    struct iovec buf = {
        .iov_base = ring->translate(ring->opaque, addr, len),
        .iov_len = len,
    };

    g_assert_cmpuint(len, >, 0);
    g_assert_nonnull(buf.iov_base);
    if (write) {
        g_assert_cmpuint(chain->num_in, <, MOCK_CHAIN_MAX);
        chain->in[chain->num_in++] = buf;
    } else {
        /* Virtio 1.2, 2.7.4.2 and 2.8.17: buffers to read come first. */
        g_assert_cmpuint(chain->num_in, ==, 0);
        g_assert_cmpuint(chain->num_out, <, MOCK_CHAIN_MAX);
        chain->out[chain->num_out++] = buf;
    }
}

void *mock_ring_table(MockRing *ring, uint64_t addr, uint32_t len)
{
    void *table = ring->translate(ring->opaque, addr, len);

    g_assert_true(ring->indirect);
    g_assert_cmpuint(len, >, 0);
    g_assert_cmpuint(len % 16, ==, 0);
    g_assert_nonnull(table);
    return table;
}
