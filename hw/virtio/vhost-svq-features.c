/*
 * Shadow virtqueue of vhost-vdpa: which features who gets.
 *
 * The guest's ring ends in QEMU and so does the device's: what a ring is like
 * is negotiated twice.  Towards the device the queue takes the best that there
 * is.  Towards the guest QEMU's virtqueues can do everything.
 *
 * That holds where the guest sees a device only through shadow virtqueues.
 * While the data queues are passed through and only the control queue is
 * shadowed, the guest's bits are the device's, and so are the queue's.
 *
 * Pure functions.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "qapi/error.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vhost-svq-internal.h"

#define SVQ_RING_FEATURES (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
                           BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
                           BIT_ULL(VIRTIO_F_RING_PACKED))

/*
 * Descriptors hold I/O virtual addresses, which need something that translates
 * them, and all that we write is little-endian.
 */
#define SVQ_NEEDED_FEATURES (BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) | \
                             BIT_ULL(VIRTIO_F_VERSION_1))

/* What is reserved for transport and ring (virtio 1.2, 6). */
#define SVQ_TRANSPORT_FEATURES \
    MAKE_64BIT_MASK(VIRTIO_TRANSPORT_F_START, \
                    VIRTIO_TRANSPORT_F_END + 1 - VIRTIO_TRANSPORT_F_START)

/*
 * SET_VRING_BASE of a packed ring: the descriptor ring's offset and, above it,
 * the wrap counter; those of the driver in the low half, those of the device
 * in the high half.
 */
#define SVQ_BASE_DRIVER_WRAP_COUNTER BIT(VRING_PACKED_EVENT_F_WRAP_CTR)
#define SVQ_BASE_DEVICE_WRAP_COUNTER BIT(VRING_PACKED_EVENT_F_WRAP_CTR + 16)

/*
 * Others of the transport's bits would change what a ring looks like or what
 * a device may do with it.  A guest could acknowledge them.
 */
bool vhost_svq_valid_features(uint64_t features, Error **errp)
{
    uint64_t missing = SVQ_NEEDED_FEATURES & ~features;
    uint64_t unknown = features & SVQ_TRANSPORT_FEATURES &
                       ~(SVQ_NEEDED_FEATURES | SVQ_RING_FEATURES);

    if (missing || unknown) {
        error_setg(errp, "shadow virtqueues do not work with this device: it "
                   "lacks features 0x%" PRIx64 " and has features 0x%" PRIx64,
                   missing, unknown);
        return false;
    }
    return true;
}

uint64_t vhost_svq_guest_features(uint64_t offered)
{
    return offered | SVQ_RING_FEATURES;
}

uint64_t vhost_svq_device_features(uint64_t acked, uint64_t offered)
{
    uint64_t ring = offered & SVQ_RING_FEATURES;

    /* Virtio 1.2, 6: bits above 31 are for those who know VERSION_1. */
    if (!(acked & BIT_ULL(VIRTIO_F_VERSION_1))) {
        ring &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    return (acked & ~SVQ_RING_FEATURES) | ring;
}

ShadowRingFormat vhost_svq_ring_format(uint64_t features)
{
    return features & BIT_ULL(VIRTIO_F_RING_PACKED) ? SHADOW_RING_PACKED
                                                    : SHADOW_RING_SPLIT;
}

/* A packed ring could have any size, but vhost takes powers of two only. */
uint16_t vhost_svq_ring_size(const VhostShadowVirtqueue *svq,
                             uint16_t guest_size)
{
    return pow2floor(MIN(guest_size, svq_of_const(svq)->max_size));
}

/* Virtio 1.2, 2.8.1: both wrap counters begin with 1. */
uint32_t vhost_svq_ring_base(const VhostShadowVirtqueue *svq)
{
    uint64_t features = svq_of_const(svq)->features;

    return vhost_svq_ring_format(features) == SHADOW_RING_SPLIT ?
           0 : SVQ_BASE_DRIVER_WRAP_COUNTER | SVQ_BASE_DEVICE_WRAP_COUNTER;
}

void vhost_svq_set_device(VhostShadowVirtqueue *svq, uint64_t features,
                          uint16_t max_size)
{
    Svq *q = svq_of(svq);

    assert(!q->guest_vq);
    q->features = features;
    /* A ring has at least one descriptor, whatever the device says. */
    q->max_size = MAX(max_size, 1);
}
