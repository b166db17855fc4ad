/*
 * vhost-user memory isolation: starting and stopping the rings of a backend.
 *
 * Start:  for each queue NUM, BASE, ADDR, KICK, CALL with the shadow ring's
 *         values; dev_start(true) comes last and hands the queues to their
 *         owners.
 * Stop:   dev_start(false) comes first: owners gone, requests drained while
 *         the backend still runs.  GET_VRING_BASE settles what is left.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/virtio/vhost-backend.h"
#include "standard-headers/linux/vhost_types.h"
#include "isolated-kick.h"
#include "vhost-user-isolation-internal.h"
#include "trace.h"

static VhostUserIsolation *isolation_of(struct vhost_dev *dev)
{
    return vhost_user_get_state(dev)->isolation;
}

/* The queues of one vhost_dev are a part of the device's. */
static bool dev_has_queue(const struct vhost_dev *dev, unsigned n)
{
    return n >= dev->vq_index && n < dev->vq_index + dev->nvqs;
}

int isolation_op_set_vring_num(struct vhost_dev *dev,
                            struct vhost_vring_state *ring)
{
    VhostUserIsolation *iso = isolation_of(dev);
    Error *err = NULL;

    if (iso->state != ISOLATION_CONNECTION_SHARED ||
        iso->rings[ring->index] != ISOLATION_RING_IDLE) {
        return -ENOTCONN;
    }
    if (!isolation_connection_link(iso, ring->index, &err)) {
        vhost_user_transport_report(iso->transport, "%s",
                                    error_get_pretty(err));
        error_free(err);
        isolation_connection_lose(iso);
        return -ENOMEM;
    }
    return isolation_connection_tell_size(
        iso, ring->index,
        virtio_has_feature(dev->protocol_features,
                           VHOST_USER_PROTOCOL_F_REPLY_ACK));
}

int isolation_op_set_vring_base(struct vhost_dev *dev,
                             struct vhost_vring_state *ring)
{
    IsolatedLink *link = isolation_of(dev)->links[ring->index];
    struct vhost_vring_state state = {
        .index = ring->index,
        .num = shadow_ring_base(link->ring),
    };

    return user_ops.vhost_set_vring_base(dev, &state);
}

int isolation_op_set_vring_addr(struct vhost_dev *dev,
                             struct vhost_vring_addr *addr)
{
    BounceRegion *region = isolation_of(dev)->region;
    ShadowRingLayout layout = isolation_connection_layout(isolation_of(dev),
                                                          addr->index);
    struct vhost_vring_addr ours = {
        .index = addr->index,
        .desc_user_addr = region->user_base + layout.desc,
        .avail_user_addr = region->user_base + layout.driver,
        .used_user_addr = region->user_base + layout.device,
    };

    return user_ops.vhost_set_vring_addr(dev, &ours);
}

/* GET_VRING_BASE closed the backend's copies: both are sent at every start. */
int isolation_op_set_vring_kick(struct vhost_dev *dev,
                             struct vhost_vring_file *file)
{
    VhostUserIsolation *iso = isolation_of(dev);
    IsolatedLink *link = iso->links[file->index];
    struct vhost_vring_file ours = { .index = file->index };
    int ret;

    ours.fd = event_notifier_get_fd(&link->kick);
    ret = user_ops.vhost_set_vring_kick(dev, &ours);
    if (ret < 0) {
        return ret;
    }
    ours.fd = event_notifier_get_wfd(&link->call);
    ret = user_ops.vhost_set_vring_call(dev, &ours);
    if (ret >= 0) {
        isolation_connection_set_ring(iso, file->index, ISOLATION_RING_IDLE,
                                      ISOLATION_RING_TOLD);
    }
    return ret;
}

/*
 * The guest's notifier is not the backend's business: it calls us, and we
 * decide whether the guest hears of it.  Comes at any time, before start too.
 */
int isolation_op_set_vring_call(struct vhost_dev *dev,
                             struct vhost_vring_file *file)
{
    return 0;
}

/* The other side of the socket may have thrown away kicks until now. */
int isolation_op_set_vring_enable(struct vhost_dev *dev, int enable)
{
    VhostUserIsolation *iso = isolation_of(dev);
    int ret = user_ops.vhost_set_vring_enable(dev, enable);

    if (ret < 0 || !enable) {
        return ret;
    }
    for (unsigned n = 0; n < iso->num_queues; n++) {
        if (dev_has_queue(dev, n) &&
            iso->rings[n] == ISOLATION_RING_STARTED) {
            isolated_kick(&iso->links[n]->kick);
        }
    }
    return ret;
}

static int dev_begin(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = isolation_of(dev);
    int ret = user_ops.vhost_dev_start(dev, true);

    if (ret < 0) {
        return ret;
    }
    for (unsigned n = 0; n < iso->num_queues; n++) {
        if (dev_has_queue(dev, n) && iso->rings[n] == ISOLATION_RING_TOLD) {
            isolation_connection_ring_started(iso, n);
            isolation_guest_start(iso->guest, n, iso->links[n]);
        }
    }
    isolation_guest_run(iso->guest);
    return 0;
}

/*
 * The first vhost_dev of a device that stops takes all queues with it: net
 * stops pair 0 whole before it touches pair 1, and no pair may run without
 * the one that sent the table.
 */
static int dev_end(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = isolation_of(dev);

    if (!bitmap_empty(iso->guest->started, VIRTIO_QUEUE_MAX)) {
        isolation_guest_stop(iso->guest);
        for (unsigned n = 0; n < iso->num_queues; n++) {
            if (iso->rings[n] == ISOLATION_RING_STARTED) {
                isolation_connection_set_ring(iso, n, ISOLATION_RING_STARTED,
                                              ISOLATION_RING_STOPPING);
            }
        }
    }
    return user_ops.vhost_dev_start(dev, false);
}

int isolation_op_dev_start(struct vhost_dev *dev, bool started)
{
    return started ? dev_begin(dev) : dev_end(dev);
}

/*
 * Also asked of a running device, by x-query-virtio-queue-status: then it only
 * answers.  Never fails: where the queue goes on is QEMU's to know.
 */
int isolation_op_get_vring_base(struct vhost_dev *dev,
                             struct vhost_vring_state *ring)
{
    VhostUserIsolation *iso = isolation_of(dev);
    IsolatedQueue *q = iso->guest->queues[ring->index];
    struct vhost_vring_state answer = { .index = ring->index };
    IsolationRingState state = iso->rings[ring->index];

    if (state == ISOLATION_RING_STOPPING || state == ISOLATION_RING_TOLD) {
        bool alive = user_ops.vhost_get_vring_base(dev, &answer) >= 0;

        isolation_connection_set_ring(iso, ring->index, state,
                                      ISOLATION_RING_IDLE);
        isolated_queue_stopped(q, answer.num, alive);
        trace_vhost_user_isolation_stopped(iso->guest->name, ring->index,
                                           alive,
                                           isolated_queue_in_flight(q));
        if (!alive) {
            /* What it has fetched is not known: only a new one can go on. */
            isolation_connection_lose(iso);
        }
    }
    ring->num = virtio_queue_get_last_avail_idx(iso->guest->vdev, ring->index);
    return 0;
}

/*
 * A backend that is reset forgets its requests, and nobody could say any more
 * when it stops writing to their spans: so not while it has any.  The driver
 * is gone, and what waits for nothing but an event goes with it.
 */
int isolation_op_reset_device(struct vhost_dev *dev)
{
    if (isolation_guest_out(isolation_of(dev)->guest, false)) {
        return 0;
    }
    return user_ops.vhost_reset_device(dev);
}

/* For vhost-user this is a reset too, but it comes when a VM pauses. */
void isolation_op_reset_status(struct vhost_dev *dev)
{
    if (!isolation_guest_out(isolation_of(dev)->guest, true)) {
        user_ops.vhost_reset_status(dev);
    }
}
