/*
 * Shadow virtqueue of vhost-vdpa: start, stop, and what stays between them.
 *
 * A run begins with an empty ring and ends with one that nobody needs any
 * more.  In between lie the requests that are at the device when it is
 * stopped: what it has used is returned, the rest goes back to the guest's
 * ring, from where the next run, the device itself or another QEMU takes it;
 * see svq_give_back().
 *
 * The owner binds the notifiers of the guest in any order with start and stop,
 * and swaps them while the queue runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "virtio-chain.h"
#include "vhost-svq-internal.h"

/*
 * Devices answer a control command in microseconds to some milliseconds.
 * While QEMU waits the machine stands still, at most so long.
 */
#define SVQ_POLL_LIMIT_MS 5000

void vhost_svq_set_svq_kick_fd(VhostShadowVirtqueue *svq, int svq_kick_fd)
{
    Svq *q = svq_of(svq);

    if (svq_guest_kick_bound(q)) {
        event_notifier_set_handler(&q->guest_kick, NULL);
    }
    event_notifier_init_fd(&q->guest_kick, svq_kick_fd);
    if (svq_guest_kick_bound(q)) {
        /* What the guest made available before, it will not kick for. */
        event_notifier_set(&q->guest_kick);
        event_notifier_set_handler(&q->guest_kick, svq_on_guest_kick);
    }
}

/* Writing to a notifier that is all zero does nothing. */
void vhost_svq_set_svq_call_fd(VhostShadowVirtqueue *svq, int call_fd)
{
    Svq *q = svq_of(svq);

    q->guest_call = (EventNotifier) { };
    if (call_fd != VHOST_FILE_UNBIND) {
        event_notifier_init_fd(&q->guest_call, call_fd);
    }
}

void vhost_svq_get_vring_addr(const VhostShadowVirtqueue *svq,
                              struct vhost_vring_addr *addr)
{
    const Svq *q = svq_of_const(svq);
    uint64_t area = (uintptr_t)q->area;

    addr->desc_user_addr = area + q->layout.desc;
    addr->avail_user_addr = area + q->layout.driver;
    addr->used_user_addr = area + q->layout.device;
}

size_t vhost_svq_area_size(const VhostShadowVirtqueue *svq)
{
    return svq_of_const(svq)->area_bytes;
}

void vhost_svq_start(VhostShadowVirtqueue *svq, VirtIODevice *vdev,
                     VirtQueue *vq, VhostIOVATree *iova_tree)
{
    Svq *q = svq_of(svq);
    uint16_t guest_size = virtio_queue_get_num(vdev,
                                               virtio_get_queue_index(vq));

    assert(!q->vq);
    svq->vdev = vdev;
    q->vq = vq;
    q->iova_tree = iova_tree;
    q->next_seq = 0;
    svq_area_new(q, vhost_svq_ring_size(svq, guest_size));
    assert(shadow_ring_base(q->ring) == vhost_svq_ring_base(svq));
    event_notifier_set_handler(&svq->hdev_call, svq_on_device_call);
    if (svq_guest_kick_bound(q)) {
        event_notifier_set(&q->guest_kick);
    }
}

static void svq_unpop(Svq *q, VirtQueueElement *elem)
{
    const VirtQueueChain chain = { .ndescs = elem->ndescs };

    /*
     * virtqueue_unpop() winds a packed ring back by one descriptor, however
     * many the element had.  So unmap the buffers here, and leave the ring to
     * one that counts.
     */
    elem->ndescs = 0;
    virtqueue_detach_element(q->vq, elem, 0);
    virtqueue_unpop_chain(q->vq, &chain);
    q->next_seq--;
}

/*
 * Give back what the device did not use.
 *
 * To wind a ring back by a number makes the newest so many requests available
 * again, whichever they were.  If the device used a newer one than one that it
 * did not, that would offer the used one a second time and lose the other.  So
 * it stops at the newest request that is not here any more.
 */
static void svq_give_back(Svq *q)
{
    SvqRequest *req, *prev;
    unsigned filled = 0;

    if (q->waiting) {
        svq_unpop(q, q->waiting);
        g_clear_pointer(&q->waiting, g_free);
    }
    QTAILQ_FOREACH_REVERSE_SAFE(req, &q->in_flight, next, prev) {
        if (req->elem && req->seq + 1 == q->next_seq) {
            svq_unpop(q, req->elem);
            svq_request_drop(q, &q->in_flight, req);
        }
    }
    RCU_READ_LOCK_GUARD();
    while ((req = QTAILQ_FIRST(&q->in_flight))) {
        if (req->elem) {
            virtqueue_fill(q->vq, req->elem, 0, filled++);
        }
        svq_request_drop(q, &q->in_flight, req);
    }
    if (filled) {
        virtqueue_flush(q->vq, filled);
        svq_call_guest(q);
    }
}

void vhost_svq_stop(VhostShadowVirtqueue *svq)
{
    Svq *q = svq_of(svq);
    SvqRequest *req;

    vhost_svq_set_svq_kick_fd(svq, VHOST_FILE_UNBIND);
    if (!q->vq) {
        return;
    }
    event_notifier_set_handler(&svq->hdev_call, NULL);
    svq_return(q);
    svq_give_back(q);
    while ((req = QTAILQ_FIRST(&q->answered))) {
        svq_request_drop(q, &q->answered, req);
    }
    g_clear_pointer(&q->ring, shadow_ring_free);
    q->fault = false;
    q->vq = NULL;
}

void vhost_svq_set_poll_limit(VhostShadowVirtqueue *svq, unsigned ms)
{
    svq_of(svq)->poll_limit_ms = ms;
}

VhostShadowVirtqueue *vhost_svq_new(const VhostShadowVirtqueueOps *ops,
                                    void *ops_opaque)
{
    Svq *q = g_new0(Svq, 1);

    q->ops = ops;
    q->ops_opaque = ops_opaque;
    q->poll_limit_ms = SVQ_POLL_LIMIT_MS;
    q->bufs = g_new(ShadowRingBuf, VIRTQUEUE_MAX_SIZE);
    QTAILQ_INIT(&q->in_flight);
    QTAILQ_INIT(&q->answered);
    QTAILQ_INIT(&q->spare);
    event_notifier_init_fd(&q->guest_kick, VHOST_FILE_UNBIND);
    return &q->svq;
}

void vhost_svq_free(gpointer pvq)
{
    Svq *q = svq_of(pvq);
    SvqRequest *req;

    vhost_svq_stop(pvq);
    svq_area_free(q);
    while ((req = QTAILQ_FIRST(&q->spare))) {
        QTAILQ_REMOVE(&q->spare, req, next);
        g_free(req);
    }
    g_free(q->bufs);
    g_free(q);
}
