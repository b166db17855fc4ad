/*
 * Shadow virtqueue of vhost-vdpa.
 *
 *   forward:  pop -> translate -> add               ... publish, kick
 *   return:   take -> fill                          ... flush, call
 *
 * The data is not QEMU's business: the device reads and writes guest memory
 * itself.  What QEMU gains by standing between two rings is to know which
 * buffers were written, which is what migration needs, and that either ring
 * can be of any kind.
 *
 * Each direction is one batch, shown with one store and followed by one
 * notification, and around it one loop: suppress notifications, drain,
 * re-enable, look again.  A dispatch moves at most so many requests as the
 * ring has descriptors and then comes back through its own notifier, since
 * all this runs in the main loop with the BQL held.
 *
 * What is popped and finds no room waits: nothing is popped behind it and
 * kicks stay suppressed, until the device has used something.
 *
 * A queue has ops if QEMU has to look at each request, as on the control queue
 * of a network device.  Its handler sends requests of its own, without an
 * element, and polls for the answer.  The main loop can find such an answer
 * before that; it is kept until somebody asks.
 *
 * A device that breaks its ring is reported once.  The queue moves nothing any
 * more and the machine goes on; a handler goes on too, to tell the guest that
 * its request has failed.
 *
 * Not here: chains and addresses (vhost-svq-request.c), features, start and
 * stop (vhost-svq-run.c), what a ring looks like (shadow-ring.h).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "vhost-svq-internal.h"

/* A device need not call: look so often without being called. */
#define SVQ_POLL_SLICE_US 1000

/* A handler has something to say to the guest even if the device is gone. */
static bool svq_forwards(const Svq *q)
{
    return q->guest_vq && (!q->fault || q->ops);
}

/* What the user called the device, or its path. */
static char *svq_device_name(const Svq *q)
{
    return qdev_get_human_name(
        qdev_get_parent_bus(DEVICE(q->svq.vdev))->parent);
}

/* Once; the device may go on ringing, nobody listens any more. */
static void svq_fault(Svq *q, const char *why)
{
    g_autofree char *name = NULL;

    if (q->fault) {
        return;
    }
    q->fault = true;
    name = svq_device_name(q);
    error_report("%s: virtqueue %d has stopped: %s", name,
                 virtio_get_queue_index(q->guest_vq), why);
    event_notifier_set_handler(&q->svq.hdev_call, NULL);
    if (!q->ops && svq_hears_guest(q)) {
        event_notifier_set_handler(&q->guest_kick, NULL);
    }
}

void svq_call_guest(Svq *q)
{
    event_notifier_set(&q->guest_call);
}

static void svq_publish(Svq *q)
{
    shadow_ring_publish(q->ring);
    if (shadow_ring_should_kick(q->ring)) {
        event_notifier_set(&q->svq.hdev_kick);
    }
}

static VirtQueueElement *svq_next_element(Svq *q)
{
    VirtQueueElement *elem = g_steal_pointer(&q->waiting);

    if (!elem) {
        elem = virtqueue_pop(q->guest_vq, sizeof(*elem));
        q->next_seq += !!elem;
    }
    return elem;
}

/* Returns: whether to go on with the next one. */
static bool svq_send(Svq *q, VirtQueueElement *elem)
{
    const SvqBuffers buffers = {
        .sg = { elem->out_sg, elem->in_sg },
        .num = { elem->out_num, elem->in_num },
        .addr = { elem->out_addr, elem->in_addr },
    };
    int ret = svq_request_add(q, &buffers, elem);

    if (ret == -ENOSPC || ret == -EIO) {
        q->waiting = elem;
    } else if (ret == -E2BIG) {
        virtio_error(q->svq.vdev, "a request of %u descriptors is longer than "
                     "the device's ring of %u, and the device takes no "
                     "indirect descriptors", elem->out_num + elem->in_num,
                     shadow_ring_size(q->ring));
    } else if (ret) {
        virtio_error(q->svq.vdev, "a buffer is not in memory that the device "
                     "can reach");
    }
    if (ret && !q->waiting) {
        virtqueue_detach_element(q->guest_vq, elem, 0);
        g_free(elem);
    }
    return !ret;
}

static void svq_hand_over(Svq *q, VirtQueueElement *elem)
{
    if (q->ops->avail_handler(&q->svq, elem, q->opaque) < 0) {
        g_free(elem);
    }
}

/*
 * What is left of a dispatch's budget after a pass that has moved @num.  One
 * that finds nothing costs something too: the other side, which said that
 * there was something, could say so for ever.
 */
static unsigned svq_budget_after(unsigned budget, unsigned num)
{
    return budget - MIN(budget, MAX(num, 1));
}

/* One batch from the guest to the device; returns how many it looked at. */
static unsigned svq_forward(Svq *q, unsigned max)
{
    VirtQueueElement *elem;
    unsigned num = 0;

    while (num < max && (elem = svq_next_element(q))) {
        num++;
        if (q->ops) {
            svq_hand_over(q, elem);
        } else if (!svq_send(q, elem)) {
            break;
        }
    }
    svq_publish(q);
    return num;
}

static void svq_run_forward(Svq *q)
{
    unsigned budget = shadow_ring_size(q->ring);
    bool more;

    assert(!q->forwarding);
    q->forwarding = true;
    do {
        virtio_queue_set_notification(q->guest_vq, 0);
        budget = svq_budget_after(budget, svq_forward(q, budget));
        if (q->waiting) {
            /* Woken by a used buffer, not by a kick. */
            more = false;
            break;
        }
        virtio_queue_set_notification(q->guest_vq, 1);
        more = !virtio_queue_empty(q->guest_vq);
    } while (more && budget);
    q->forwarding = false;
    if (more) {
        event_notifier_set(&q->guest_kick);
    }
}

void svq_on_guest_kick(EventNotifier *n)
{
    Svq *q = container_of(n, Svq, guest_kick);

    event_notifier_test_and_clear(n);
    if (svq_forwards(q)) {
        svq_run_forward(q);
    }
}

unsigned svq_return(Svq *q)
{
    unsigned max = shadow_ring_size(q->ring), taken = 0, filled = 0;
    ShadowRingResult result = SHADOW_RING_EMPTY;
    uint32_t raw_len;
    void *token;

    RCU_READ_LOCK_GUARD();
    while (taken < max &&
           (result = shadow_ring_take(q->ring, &token, &raw_len)) ==
           SHADOW_RING_OK) {
        SvqRequest *req = token;

        taken++;
        svq_request_used(q, req, raw_len);
        if (req->elem) {
            virtqueue_fill(q->guest_vq, req->elem, req->len, filled++);
            svq_request_drop(q, &q->in_flight, req);
        } else {
            QTAILQ_REMOVE(&q->in_flight, req, next);
            QTAILQ_INSERT_TAIL(&q->answered, req, next);
        }
    }
    /* On a packed ring, a flush of nothing would publish a stale entry. */
    if (filled) {
        virtqueue_flush(q->guest_vq, filled);
        svq_call_guest(q);
    }
    if (result == SHADOW_RING_BROKEN) {
        svq_fault(q, shadow_ring_fault(q->ring));
    }
    return taken;
}

static void svq_run_return(Svq *q)
{
    unsigned budget = shadow_ring_size(q->ring);
    bool more;

    do {
        shadow_ring_suppress_calls(q->ring);
        budget = svq_budget_after(budget, svq_return(q));
        if (q->waiting && svq_forwards(q) && svq_hears_guest(q)) {
            svq_run_forward(q);
        }
        more = !q->fault && shadow_ring_arm_calls(q->ring);
    } while (more && budget);
    if (more) {
        event_notifier_set(&q->svq.hdev_call);
    }
}

void svq_on_device_call(EventNotifier *n)
{
    Svq *q = container_of(n, Svq, svq.hdev_call);

    event_notifier_test_and_clear(n);
    svq_run_return(q);
}

uint16_t vhost_svq_available_slots(const VhostShadowVirtqueue *svq)
{
    const Svq *q = svq_of_const(svq);

    return q->ring ? shadow_ring_room(q->ring) : 0;
}

int vhost_svq_add(VhostShadowVirtqueue *svq, const struct iovec *out_sg,
                  size_t out_num, const hwaddr *out_addr,
                  const struct iovec *in_sg, size_t in_num,
                  const hwaddr *in_addr, VirtQueueElement *elem)
{
    const SvqBuffers buffers = {
        .sg = { out_sg, in_sg },
        .num = { out_num, in_num },
        .addr = { out_addr, in_addr },
    };
    Svq *q = svq_of(svq);
    int ret = svq_request_add(q, &buffers, elem);

    if (!ret) {
        svq_publish(q);
    }
    return ret;
}

void vhost_svq_push_elem(VhostShadowVirtqueue *svq,
                         const VirtQueueElement *elem, uint32_t len)
{
    Svq *q = svq_of(svq);

    virtqueue_push(q->guest_vq, elem,
                   MIN(len, iov_size(elem->in_sg, elem->in_num)));
    svq_call_guest(q);
}

/* Until the device calls, or for a slice of the time that is left. */
static void svq_wait(Svq *q, int64_t left_us)
{
    GPollFD fd = {
        .fd = event_notifier_get_fd(&q->svq.hdev_call),
        .events = G_IO_IN,
    };

    if (!shadow_ring_arm_calls(q->ring)) {
        qemu_poll_ns(&fd, 1, MIN(left_us, SVQ_POLL_SLICE_US) * 1000);
        event_notifier_test_and_clear(&q->svq.hdev_call);
    }
}

static int64_t svq_poll_deadline(const Svq *q)
{
    return g_get_monotonic_time() + (int64_t)q->poll_limit_ms * 1000;
}

/*
 * The limit begins anew with everything that the device uses.  That comes to
 * an end: no more than is out can be used, and nothing is added meanwhile.
 *
 * Returns: an answer that was waited for, or NULL if the queue broke.
 */
static SvqRequest *svq_poll_one(Svq *q)
{
    int64_t deadline = svq_poll_deadline(q);

    while (QTAILQ_EMPTY(&q->answered) && !q->fault) {
        int64_t left_us = deadline - g_get_monotonic_time();

        if (svq_return(q)) {
            deadline = svq_poll_deadline(q);
            continue;
        }
        if (left_us <= 0) {
            svq_fault(q, "device did not answer in time");
        } else if (!q->fault) {
            svq_wait(q, left_us);
        }
    }
    return QTAILQ_FIRST(&q->answered);
}

/*
 * The BQL stays with us: to give it away would let the device be reset, and
 * the queue be freed, under the caller's feet.  So the device must go on
 * answering, and the wait sleeps, since the device may need the processor.
 */
size_t vhost_svq_poll(VhostShadowVirtqueue *svq, size_t num)
{
    Svq *q = svq_of(svq);
    size_t len = 0;

    while (q->ring && num--) {
        SvqRequest *req = svq_poll_one(q);

        if (!req) {
            return len;
        }
        len += req->len;
        svq_request_drop(q, &q->answered, req);
    }
    /* We may have consumed the call for what came behind it. */
    if (q->ring && shadow_ring_arm_calls(q->ring)) {
        event_notifier_set(&q->svq.hdev_call);
    }
    return len;
}
