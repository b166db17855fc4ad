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

/* Whatever there is by now, the guest will not kick for. */
static void svq_look_at_guest(Svq *q)
{
    if (q->guest_vq && svq_hears_guest(q)) {
        event_notifier_set(&q->guest_kick);
    }
}

static void svq_attach_kick(Svq *q, int fd)
{
    event_notifier_init_fd(&q->guest_kick, fd);
    event_notifier_set_handler(&q->guest_kick, svq_on_guest_kick);
    svq_look_at_guest(q);
}

/* The fd is not ours: the owner may close it next. */
static void svq_detach_kick(Svq *q)
{
    if (svq_hears_guest(q)) {
        event_notifier_set_handler(&q->guest_kick, NULL);
        event_notifier_init_fd(&q->guest_kick, VHOST_FILE_UNBIND);
    }
}

void vhost_svq_set_svq_kick_fd(VhostShadowVirtqueue *svq, int fd)
{
    svq_detach_kick(svq_of(svq));
    if (fd != VHOST_FILE_UNBIND) {
        svq_attach_kick(svq_of(svq), fd);
    }
}

/* Writing to a notifier that is all zero does nothing. */
void vhost_svq_set_svq_call_fd(VhostShadowVirtqueue *svq, int fd)
{
    Svq *q = svq_of(svq);

    q->guest_call = (EventNotifier) { };
    if (fd != VHOST_FILE_UNBIND) {
        event_notifier_init_fd(&q->guest_call, fd);
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
                     VirtQueue *guest_vq, VhostIOVATree *tree)
{
    unsigned index = virtio_get_queue_index(guest_vq);
    Svq *q = svq_of(svq);

    assert(!q->guest_vq);
    svq_ring_new(q, vhost_svq_ring_size(svq, virtio_queue_get_num(vdev,
                                                                  index)));
    assert(shadow_ring_base(q->ring) == vhost_svq_ring_base(svq));
    q->tree = tree;
    q->next_seq = 0;
    q->guest_vq = guest_vq;
    svq->vdev = vdev;
    event_notifier_set_handler(&svq->hdev_call, svq_on_device_call);
    svq_look_at_guest(q);
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
    virtqueue_detach_element(q->guest_vq, elem, 0);
    virtqueue_unpop_chain(q->guest_vq, &chain);
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
            virtqueue_fill(q->guest_vq, req->elem, 0, filled++);
        }
        svq_request_drop(q, &q->in_flight, req);
    }
    if (filled) {
        virtqueue_flush(q->guest_vq, filled);
        svq_call_guest(q);
    }
}

static void svq_end_run(Svq *q)
{
    SvqRequest *req;

    event_notifier_set_handler(&q->svq.hdev_call, NULL);
    svq_return(q);
    /* Whoever comes next may believe that the guest kicks. */
    virtio_queue_set_notification(q->guest_vq, 1);
    svq_give_back(q);
    while ((req = QTAILQ_FIRST(&q->answered))) {
        svq_request_drop(q, &q->answered, req);
    }
    svq_ring_free(q);
    q->fault = false;
    q->guest_vq = NULL;
}

void vhost_svq_stop(VhostShadowVirtqueue *svq)
{
    Svq *q = svq_of(svq);

    svq_detach_kick(q);
    if (q->guest_vq) {
        svq_end_run(q);
    }
}

void vhost_svq_set_poll_limit(VhostShadowVirtqueue *svq, unsigned ms)
{
    svq_of(svq)->poll_limit_ms = ms;
}

VhostShadowVirtqueue *vhost_svq_new(const VhostShadowVirtqueueOps *ops,
                                    void *opaque)
{
    Svq *q = g_new0(Svq, 1);

    QTAILQ_INIT(&q->in_flight);
    QTAILQ_INIT(&q->answered);
    QTAILQ_INIT(&q->spare);
    event_notifier_init_fd(&q->guest_kick, VHOST_FILE_UNBIND);
    q->poll_limit_ms = SVQ_POLL_LIMIT_MS;
    q->ops = ops;
    q->opaque = opaque;
    return &q->svq;
}

void vhost_svq_free(gpointer svq)
{
    Svq *q = svq_of(svq);
    SvqRequest *req;

    vhost_svq_stop(svq);
    svq_area_free(q);
    while ((req = QTAILQ_FIRST(&q->spare))) {
        QTAILQ_REMOVE(&q->spare, req, next);
        g_free(req);
    }
    g_free(q);
}
