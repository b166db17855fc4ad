/*
 * vhost-user memory isolation: a device, made of two sides.
 *
 * A device has a guest's side, which hangs off VirtIODevice, and a
 * connection's side, which hangs off VhostUserState.  Most devices hold their
 * VhostUserState and make both in realize.  A netdev or a cryptodev holds it
 * for them: it is there, and connected, before the device; the device can be
 * unplugged and another plugged, or the netdev can go first.  So either side
 * can be without the other.
 *
 * To the virtio core a device that is isolated has a ring user
 * (VirtIORingUserOps), which is its guest's side.
 *
 * What cannot be isolated fails here, with a message that names the property
 * and the way out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/virtio/virtio-bus.h"
#include "vhost-user-isolation-internal.h"

/* Also while it is stopped, if there is something to be entered into it. */
static bool guest_uses_ring(VirtIOIsolation *guest, unsigned n)
{
    return n < guest->num_queues &&
           (test_bit(n, guest->started) ||
            isolated_queue_in_flight(guest->queues[n]));
}

static bool guest_uses_rings(VirtIODevice *vdev, int n)
{
    VirtIOIsolation *guest = vdev->ring_user;

    if (n >= 0) {
        return guest_uses_ring(guest, n);
    }
    for (n = 0; n < guest->num_queues; n++) {
        if (guest_uses_ring(guest, n)) {
            return true;
        }
    }
    return false;
}

/*
 * What waits for an event never ends by itself, so it would be out for ever,
 * and the first event would be given to it instead of to the new driver.  A
 * backend drops it where a ring begins anew; so it does that.
 */
static void guest_drop_parked(VirtIOIsolation *guest, unsigned n)
{
    VhostUserIsolation *iso = guest->iso;

    /* Without an answer to GET_VRING_BASE the connection ends. */
    if (iso->state == ISOLATION_CONNECTION_SHARED &&
        iso->rings[n] != ISOLATION_RING_STOPPING) {
        isolated_queue_forget_orphans(guest->queues[n]);
        isolation_connection_renew_ring(iso, n);
    }
}

/*
 * After it no byte of guest RAM changes on behalf of requests made before.
 */
static void guest_reset(VirtIODevice *vdev)
{
    VirtIOIsolation *guest = vdev->ring_user;
    bool lose = false;

    /* The device is still started if its socket has just been closed. */
    isolation_guest_pause(guest);
    isolation_iommu_stopped(guest);
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
    isolation_guest_report_late(guest);
    bitmap_zero(guest->reported, VIRTIO_QUEUE_MAX);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedLink *link = isolated_queue_link(guest->queues[n]);
        bool broken = link && shadow_ring_fault(link->ring);

        lose |= broken;
        isolated_queue_reset(guest->queues[n]);
        if (link && !broken && isolation_queue_parks(vdev->device_id, n)) {
            guest_drop_parked(guest, n);
        }
    }
    if (lose) {
        /* A ring that its backend broke cannot be mended, only replaced. */
        isolation_connection_lose(guest->iso);
    } else if (guest->iso && isolation_guest_crowded(guest)) {
        isolation_guest_make_room(guest);
    }
}

/* Can the backend serve another device as it is? */
static bool guest_leaves_nothing(VirtIOIsolation *guest)
{
    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedLink *link = isolated_queue_link(guest->queues[n]);

        if (link && shadow_ring_fault(link->ring)) {
            return false;
        }
    }
    return !isolation_guest_out(guest, true);
}

static void guest_cleanup(VirtIODevice *vdev)
{
    VirtIOIsolation *guest = vdev->ring_user;
    VhostUserIsolation *iso = guest->iso;

    if (iso) {
        if (!guest_leaves_nothing(guest)) {
            isolation_connection_lose(iso);
        }
        isolation_guest_disconnect(guest);
        iso->guest = NULL;
    }
    object_property_del(OBJECT(vdev), "memory-isolation-stats");
    isolation_guest_free(guest);
    vdev->ring_user_ops = NULL;
    vdev->ring_user = NULL;
}

static const VirtIORingUserOps ring_user_ops = {
    .reset = guest_reset,
    .cleanup = guest_cleanup,
    .uses_ring = guest_uses_rings,
    .save = isolation_guest_save,
    .load = isolation_guest_load,
};

bool vhost_user_isolation_init(VhostUserState *user, unsigned num_queues,
                               Error **errp)
{
    VhostUserIsolationConfig *config = &user->isolation_config;
    VhostUserIsolation *iso;
    IOThread **iothreads;

    assert(config->decided);
    if (!isolation_check_config(config, num_queues, errp)) {
        return false;
    }
    if (!config->enabled) {
        return true;
    }
    iothreads = isolation_iothreads_new(config, num_queues, errp);
    config->iothreads = NULL;
    if (!iothreads) {
        return false;
    }
    iso = g_new0(VhostUserIsolation, 1);
    iso->user = user;
    iso->num_queues = num_queues;
    iso->ring_limit = ISOLATION_RING_MAX;
    iso->transport = vhost_user_transport_new(user->chr, config->timeout_ms);
    iso->pace = vhost_user_pace_new(user->chr);
    user->isolation = iso;
    iso->iothreads = iothreads;
    return true;
}

/*
 * The socket is closed with it, since a backend knows one region a connection,
 * and the next device would have another.
 */
void vhost_user_isolation_cleanup(VhostUserState *user)
{
    VhostUserIsolation *iso = user->isolation;

    isolation_unregister(user);
    if (!iso) {
        return;
    }
    isolation_release_devs(iso);
    if (iso->guest) {
        isolation_guest_disconnect(iso->guest);
        iso->guest->iso = NULL;
    }
    isolation_connection_end(iso);
    vhost_user_transport_free(iso->transport);
    vhost_user_pace_free(iso->pace);
    isolation_iothreads_free(iso->iothreads, iso->num_queues);
    g_clear_pointer(&user->isolation, g_free);
}

bool vhost_user_isolation_attach(VhostUserState *user, VirtIODevice *vdev,
                                 Error **errp)
{
    VhostUserIsolation *iso = user->isolation;

    isolation_note_device(user, vdev);
    if (!iso) {
        return true;
    }
    assert(!isolation_refused(vdev->device_id));
    assert(!iso->guest && !vdev->ring_user);
    iso->guest = isolation_guest_new(iso, vdev);
    if (!isolation_block_saving(iso->guest, errp)) {
        isolation_guest_free(iso->guest);
        iso->guest = NULL;
        return false;
    }
    vhost_user_transport_set_name(iso->transport, iso->guest->name);
    vdev->ring_user = iso->guest;
    vdev->ring_user_ops = &ring_user_ops;
    if (VIRTIO_DEVICE_GET_CLASS(vdev)->guest_notifier_mask) {
        /* The guest's notifier is ours: the bus masks it, not the backend. */
        vdev->use_guest_notifier_mask = false;
    }
    /* Some devices ask no vhost_dev what they may offer, as crypto. */
    vdev->host_features = isolation_device_features(vdev->host_features);
    object_property_add(OBJECT(vdev), "memory-isolation-stats", "struct",
                        isolation_get_stats, NULL, NULL, iso->guest);
    return true;
}

bool vhost_user_isolation_dial(VhostUserState *user, Error **errp)
{
    return !user->isolation ||
           vhost_user_dial(user->chr, user->isolation_config.timeout_ms, errp);
}

bool vhost_user_isolation_rests(VhostUserState *user)
{
    return user->isolation && vhost_user_pace_rests(user->isolation->pace);
}

bool vhost_user_isolation_realize(VhostUserState *user, VirtIODevice *vdev,
                                  Error **errp)
{
    unsigned num_queues = 0;

    if (!vhost_user_isolation_decide(&user->isolation_config, vdev->device_id,
                                     vdev->name, errp)) {
        return false;
    }
    while (num_queues < VIRTIO_QUEUE_MAX &&
           virtio_queue_get_num(vdev, num_queues)) {
        num_queues++;
    }
    return vhost_user_isolation_init(user, num_queues, errp) &&
           vhost_user_isolation_attach(user, vdev, errp) &&
           vhost_user_isolation_dial(user, errp);
}
