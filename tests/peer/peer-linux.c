/*
 * Linux's vringh as the device of a split ring.
 *
 * Compiled with the headers that Linux brings for its own tests of vringh, from
 * Debian's source package.  Rings and buffers are those of the kernel for it:
 * addresses are pointers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>
#include <linux/kernel.h>
#include <linux/vringh.h>
#include <linux/virtio_ring.h>
#include <uapi/linux/virtio_config.h>
#include "peer.h"

/*
 * Linux's headers for its user-space tests want these of their program: where
 * user memory lies, and memory that is not to be allocated or freed.  None.
 */
void *__user_addr_min, *__user_addr_max;
void *__kmalloc_fake, *__kfree_ignore_start, *__kfree_ignore_end;

typedef struct LinuxPeer {
    struct vringh vringh;
    struct kvec out_vec[PEER_BUFS];
    struct kvec in_vec[PEER_BUFS];
} LinuxPeer;

static void *linux_new(const PeerRing *ring)
{
    u64 features = 1ull << VIRTIO_F_VERSION_1;
    LinuxPeer *peer;

    if (ring->packed) {
        return NULL;
    }
    peer = calloc(1, sizeof(*peer));
    if (!peer) {
        return NULL;
    }
    if (ring->event_idx) {
        features |= 1ull << VIRTIO_RING_F_EVENT_IDX;
    }
    if (ring->indirect) {
        features |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
    }
    if (vringh_init_kern(&peer->vringh, features, ring->size, true,
                         ring->desc, ring->driver, ring->device)) {
        free(peer);
        return NULL;
    }
    return peer;
}

static void linux_free(void *opaque)
{
    free(opaque);
}

static void add_bufs(PeerRequest *request, const struct vringh_kiov *iov)
{
    for (unsigned i = 0; i < iov->used; i++) {
        unsigned num = request->num_out + request->num_in + i;

        request->buf[num].base = iov->iov[i].iov_base;
        request->buf[num].len = iov->iov[i].iov_len;
    }
}

static int linux_fetch(void *opaque, PeerRequest *request)
{
    LinuxPeer *peer = opaque;
    struct vringh_kiov out, in;
    u16 head = 0;
    int result;

    vringh_kiov_init(&out, peer->out_vec, PEER_BUFS);
    vringh_kiov_init(&in, peer->in_vec, PEER_BUFS);
    result = vringh_getdesc_kern(&peer->vringh, &out, &in, &head, GFP_KERNEL);
    if (result <= 0) {
        return result;
    }
    if (out.used + in.used > PEER_BUFS) {
        return -1;
    }
    request->id = head;
    request->num_out = 0;
    request->num_in = 0;
    add_bufs(request, &out);
    request->num_out = out.used;
    add_bufs(request, &in);
    request->num_in = in.used;
    return 1;
}

static void linux_use(void *opaque, const PeerRequest *request, uint32_t len)
{
    LinuxPeer *peer = opaque;

    if (vringh_complete_kern(&peer->vringh, request->id, len)) {
        abort();
    }
}

static void linux_publish(void *opaque)
{
    /* Each use is its own publication. */
}

static bool linux_should_call(void *opaque)
{
    return vringh_need_notify_kern(&((LinuxPeer *)opaque)->vringh) > 0;
}

static void linux_suppress_kicks(void *opaque)
{
    vringh_notify_disable_kern(&((LinuxPeer *)opaque)->vringh);
}

static bool linux_arm_kicks(void *opaque)
{
    return !vringh_notify_enable_kern(&((LinuxPeer *)opaque)->vringh);
}

const PeerOps peer_ops = {
    .new = linux_new,
    .free = linux_free,
    .fetch = linux_fetch,
    .use = linux_use,
    .publish = linux_publish,
    .should_call = linux_should_call,
    .suppress_kicks = linux_suppress_kicks,
    .arm_kicks = linux_arm_kicks,
};
