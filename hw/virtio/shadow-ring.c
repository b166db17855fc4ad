/*
 * Shadow ring: the part that both formats share.
 *
 * A ring's memory belongs to a device that QEMU does not trust, so nothing in
 * it is an authority.  The authority is here, in process memory:
 *
 * - Every request has an id, its name in the ring, and a sequence number, its
 *   place in the order of publication.  entry[id] holds the token and the
 *   number, order[] leads from a number back to the id.  An id that the device
 *   writes becomes a token in one place, shadow_ring_claim(); it accepts only
 *   ids of requests that were published and did not come back yet.
 * - Sequence numbers have 64 bits.  The indices that the device sees are cut
 *   from them, so "how many since" has one answer however long the device
 *   sits on a request.
 * - A ring that the device broke is latched: the first fault stays, the ring
 *   gives nothing any more, and its memory is left alone but for the wish not
 *   to be called.  Whoever made it decides what to do.
 *
 * Invariants, at entry and exit of every function:
 *
 *   num_free + descriptors of requests that are out == size
 *   num_in_flight == ids with a token
 *   sent_seq <= next_seq;  next_seq - sent_seq <= num_in_flight
 *
 * Not here: what a descriptor looks like and which words say that one is
 * available or used (shadow-ring-split.c, shadow-ring-packed.c); what a token
 * is; when to kick.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "shadow-ring-internal.h"

/* Virtio 1.2, 2.7: the largest queue size. */
#define SHADOW_RING_SIZE_MAX 32768

static const ShadowRingOps *shadow_ring_ops(ShadowRingFormat format)
{
    switch (format) {
    case SHADOW_RING_SPLIT:
        return &shadow_ring_split_ops;
    case SHADOW_RING_PACKED:
        return &shadow_ring_packed_ops;
    default:
        g_assert_not_reached();
    }
}

static uint32_t chain_num_bufs(const ShadowRingChain *chain)
{
    return (uint32_t)chain->num_out + chain->num_in;
}

ShadowRingLayout shadow_ring_layout(ShadowRingFormat format, uint16_t size)
{
    assert(size > 0 && size <= SHADOW_RING_SIZE_MAX);
    return shadow_ring_ops(format)->layout(size);
}

ShadowRing *shadow_ring_new(const ShadowRingConfig *config)
{
    const ShadowRingOps *ops = shadow_ring_ops(config->format);
    uint32_t order_size;
    ShadowRing *ring;

    assert(config->size > 0 && config->size <= SHADOW_RING_SIZE_MAX);
    assert(QEMU_PTR_IS_ALIGNED(config->mem, SHADOW_RING_DESC_BYTES));

    order_size = pow2ceil(config->size);
    ring = ops->new(config);
    ring->ops = ops;
    ring->size = config->size;
    ring->order_mask = order_size - 1;
    ring->event_idx = config->event_idx;
    ring->indirect = config->indirect;
    ring->num_free = config->size;
    ring->entry = g_new0(ShadowRingEntry, config->size);
    ring->order = g_new0(uint16_t, order_size);
    return ring;
}

void shadow_ring_free(ShadowRing *ring)
{
    if (ring) {
        g_free(ring->entry);
        g_free(ring->order);
        ring->ops->free(ring);
    }
}

uint16_t shadow_ring_size(const ShadowRing *ring)
{
    return ring->size;
}

bool shadow_ring_indirect(const ShadowRing *ring)
{
    return ring->indirect;
}

uint16_t shadow_ring_room(const ShadowRing *ring)
{
    return ring->num_free;
}

uint16_t shadow_ring_in_flight(const ShadowRing *ring)
{
    return ring->num_in_flight;
}

const char *shadow_ring_fault(const ShadowRing *ring)
{
    return ring->fault;
}

void shadow_ring_add(ShadowRing *ring, const ShadowRingChain *chain,
                     void *token)
{
    uint32_t num_descs = chain_num_bufs(chain);
    uint16_t id;

    assert(!ring->fault);
    assert(token);
    assert(num_descs > 0 && num_descs <= SHADOW_RING_SIZE_MAX);
    if (chain->table) {
        /* Virtio 1.2, 2.7.5.3.1: no table unless negotiated. */
        assert(ring->indirect);
        assert(QEMU_PTR_IS_ALIGNED(chain->table, SHADOW_RING_DESC_BYTES));
        num_descs = 1;
    }
    assert(num_descs <= ring->num_free);

    id = ring->ops->add(ring, chain);
    ring->entry[id] = (ShadowRingEntry) {
        .token = token,
        .seq = ring->next_seq,
        .num_descs = num_descs,
    };
    ring->order[ring->next_seq & ring->order_mask] = id;
    ring->next_seq++;
    ring->num_in_flight++;
    ring->num_free -= num_descs;
}

void shadow_ring_publish(ShadowRing *ring)
{
    if (ring->fault || ring->sent_seq == ring->next_seq) {
        return;
    }
    ring->sent_seq = ring->next_seq;
    ring->ops->publish(ring);
}

bool shadow_ring_should_kick(ShadowRing *ring)
{
    return !ring->fault && ring->ops->should_kick(ring);
}

bool shadow_ring_has_used(const ShadowRing *ring)
{
    return !ring->fault && ring->ops->has_used(ring);
}

ShadowRingResult shadow_ring_take(ShadowRing *ring, void **token,
                                  uint32_t *raw_len)
{
    if (ring->fault) {
        return SHADOW_RING_BROKEN;
    }
    return ring->ops->take(ring, token, raw_len);
}

void shadow_ring_suppress_calls(ShadowRing *ring)
{
    ring->ops->suppress_calls(ring);
}

bool shadow_ring_arm_calls(ShadowRing *ring)
{
    return !ring->fault && ring->ops->arm_calls(ring);
}

uint32_t shadow_ring_base(const ShadowRing *ring)
{
    assert(ring->sent_seq == ring->next_seq);
    return ring->ops->base(ring);
}

bool shadow_ring_unfetched(ShadowRing *ring, uint32_t raw_base, uint16_t *num)
{
    if (ring->fault) {
        return false;
    }
    if (!ring->ops->unfetched(ring, raw_base, num)) {
        shadow_ring_break(ring, "device stopped at an index that no request "
                                "in flight has");
        return false;
    }
    return true;
}

void *shadow_ring_take_back(ShadowRing *ring)
{
    uint64_t seq = ring->next_seq - 1;
    uint16_t id = ring->order[seq & ring->order_mask];

    assert(ring->sent_seq == ring->next_seq);
    if (ring->fault) {
        return NULL;
    }
    if (!ring->entry[id].token) {
        shadow_ring_break(ring, "device used a request that it says it did "
                                "not fetch");
        return NULL;
    }
    /* An id that was given again belongs to a newer request than @seq. */
    assert(ring->entry[id].seq == seq);
    ring->next_seq = seq;
    ring->sent_seq = seq;
    ring->ops->take_back(ring, id);
    return shadow_ring_forget(ring, id);
}
