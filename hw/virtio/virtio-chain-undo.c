/*
 * Descriptor chains that were popped: as if they had not been, and as if they
 * had been here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "virtio-chain.h"
#include "virtio-queue-internal.h"

void virtqueue_unpop_chain(VirtQueue *vq, const VirtQueueChain *chain)
{
    if (vq->inuse < chain->ndescs) {
        /* The guest has reset the queue meanwhile: nothing is to be undone. */
        return;
    }
    vq->inuse -= chain->ndescs;

    if (!virtio_vdev_has_feature(vq->vdev, VIRTIO_F_RING_PACKED)) {
        /* The shadow stays: it is ahead now, so the next pop believes it. */
        vq->last_avail_idx -= chain->ndescs;
        return;
    }
    if (vq->last_avail_idx < chain->ndescs) {
        vq->last_avail_idx += vq->vring.num;
        vq->last_avail_wrap_counter = !vq->last_avail_wrap_counter;
    }
    vq->last_avail_idx -= chain->ndescs;
    vq->shadow_avail_idx = vq->last_avail_idx;
    vq->shadow_avail_wrap_counter = vq->last_avail_wrap_counter;
}

bool virtqueue_restore_popped(VirtQueue *vq, unsigned slots)
{
    if (virtio_vdev_has_feature(vq->vdev, VIRTIO_F_RING_PACKED)) {
        return slots == vq->inuse && vq->used_idx < vq->vring.num;
    }
    if (slots > vq->vring.num) {
        return false;
    }
    vq->used_idx = vq->last_avail_idx - slots;
    vq->inuse = slots;
    return true;
}
