/*
 * What the proofs put in the place of QEMU's virtio.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_HW_VIRTIO_VIRTIO_H
#define PROOFS_HW_VIRTIO_VIRTIO_H

typedef uint64_t hwaddr;

typedef struct VirtIODevice {
    void *dma_as;
    void *ring_as;
} VirtIODevice;

static inline void *virtio_ring_as(const VirtIODevice *vdev)
{
    return vdev->ring_as ? vdev->ring_as : vdev->dma_as;
}

typedef struct VirtQueue VirtQueue;

/* QEMU's is 1024: too many steps for a proof, which needs any limit only. */
#define VIRTQUEUE_MAX_SIZE CHAIN_LIMIT

#endif /* PROOFS_HW_VIRTIO_VIRTIO_H */
