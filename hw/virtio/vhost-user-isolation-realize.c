/*
 * vhost-user memory isolation: making and freeing both sides of a device.
 *
 * A device has a guest's side, which hangs off VirtIODevice, and a
 * connection's side, which hangs off VhostUserState.  Most devices hold their
 * VhostUserState and make both in realize.  A netdev or a cryptodev holds it
 * for them: it is there, and connected, before the device; the device can be
 * unplugged and another plugged, or the netdev can go first.  So either side
 * can be without the other.
 *
 * What cannot be isolated fails here, with a message that names the property
 * and the way out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/memfd.h"
#include "qapi/error.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "vhost-user-isolation-internal.h"

bool vhost_user_isolation_possible(bool enabled, uint16_t device_id,
                                   const char *name, Error **errp)
{
    const char *why = enabled ? isolation_refused(device_id) : NULL;

    if (why) {
        error_setg(errp, "memory-isolation=on is not possible for %s: %s",
                   name, why);
    }
    return !why;
}

/* Somebody who sets one of these believes that the device is isolated. */
static bool check_unused(const VhostUserIsolationConfig *config, Error **errp)
{
    const char *used =
        config->iothread ? "iothread" :
        config->size ? "memory-isolation-size" :
        config->stop_ms != ISOLATION_DEFAULT_STOP_MS ?
            "memory-isolation-stop-ms" :
        !config->scrub ? "memory-isolation-scrub" :
        config->copy_all ? "memory-isolation-copy-all" :
        config->packed != ON_OFF_AUTO_AUTO ? "memory-isolation-packed" :
        config->event_idx != ON_OFF_AUTO_AUTO ?
            "memory-isolation-event-idx" :
        config->indirect != ON_OFF_AUTO_AUTO ?
            "memory-isolation-indirect" : NULL;

    if (used) {
        error_setg(errp, "%s has no effect without memory-isolation=on", used);
    }
    return !used;
}

bool isolation_check_config(const VhostUserIsolationConfig *config,
                            unsigned num_queues, Error **errp)
{
    if (!config->enabled) {
        return check_unused(config, errp);
    }
    if (num_queues > VIRTIO_QUEUE_MAX) {
        error_setg(errp, "memory-isolation=on is possible for %d queues at "
                   "most, not %u", VIRTIO_QUEUE_MAX, num_queues);
        return false;
    }
    if (!qemu_memfd_check(MFD_ALLOW_SEALING)) {
        error_setg(errp, "memory-isolation=on needs a host with sealable "
                   "memfds, or the backend could shrink the shared memory "
                   "under QEMU");
        return false;
    }
    return isolation_check_size(config, num_queues, errp);
}

bool vhost_user_isolation_init(VhostUserState *user, unsigned num_queues,
                               Error **errp)
{
    const VhostUserIsolationConfig *config = &user->isolation_config;
    VhostUserIsolation *iso;

    if (!isolation_check_config(config, num_queues, errp)) {
        return false;
    }
    if (!config->enabled) {
        return true;
    }
    iso = g_new0(VhostUserIsolation, 1);
    iso->user = user;
    iso->num_queues = num_queues;
    user->isolation = iso;
    iso->iothread = config->iothread;
    if (iso->iothread) {
        object_ref(OBJECT(iso->iothread));
    }
    return true;
}

/*
 * The socket may stay connected, and the next device finds it so.  But a
 * backend knows one region a connection, and this one ends.
 */
void vhost_user_isolation_cleanup(VhostUserState *user)
{
    VhostUserIsolation *iso = user->isolation;

    if (!iso) {
        return;
    }
    isolation_release_devs(iso);
    isolation_connection_drop(iso);
    if (iso->spent) {
        isolation_disconnect(iso);
    }
    if (iso->guest) {
        iso->guest->iso = NULL;
    }
    if (iso->iothread) {
        object_unref(OBJECT(iso->iothread));
    }
    g_clear_pointer(&user->isolation, g_free);
}

static IsolatedQueue *queue_new(VirtIOIsolation *guest, unsigned n)
{
    const VhostUserIsolationConfig *config =
        &guest->iso->user->isolation_config;
    uint16_t device_id = guest->vdev->device_id;

    return isolated_queue_new(&(IsolatedQueueConfig) {
        .vdev = guest->vdev,
        .vq = virtio_get_queue(guest->vdev, n),
        .index = n,
        .scrub = config->scrub,
        .all_writable = config->copy_all || isolation_lengths_lie(device_id),
        .merges = isolation_queue_merges(device_id, n),
        .parks = isolation_queue_parks(device_id, n),
        .faulted = guest->faulted,
    });
}

static VirtIOIsolation *guest_new(VhostUserIsolation *iso, VirtIODevice *vdev)
{
    DeviceState *proxy = qdev_get_parent_bus(DEVICE(vdev))->parent;
    VirtIOIsolation *guest = g_new0(VirtIOIsolation, 1);

    guest->vdev = vdev;
    guest->iso = iso;
    guest->name = proxy->id ? g_strdup(proxy->id)
                            : object_get_canonical_path(OBJECT(proxy));
    guest->iothread = iso->iothread;
    if (guest->iothread) {
        object_ref(OBJECT(guest->iothread));
    }
    guest->num_queues = iso->num_queues;
    guest->queues = g_new0(IsolatedQueue *, guest->num_queues);
    guest->faulted = qemu_bh_new(isolation_guest_faulted, guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        guest->queues[n] = queue_new(guest, n);
    }
    guest->vm_state =
        qemu_add_vm_change_state_handler(isolation_guest_vm_state, guest);
    return guest;
}

bool vhost_user_isolation_attach(VhostUserState *user, VirtIODevice *vdev,
                                 Error **errp)
{
    VhostUserIsolation *iso = user->isolation;

    if (!iso) {
        return true;
    }
    if (!vhost_user_isolation_possible(true, vdev->device_id, vdev->name,
                                       errp)) {
        return false;
    }
    assert(!iso->guest && !vdev->isolation);
    iso->guest = guest_new(iso, vdev);
    vdev->isolation = iso->guest;
    if (VIRTIO_DEVICE_GET_CLASS(vdev)->guest_notifier_mask) {
        /* The guest's notifier is ours: the bus masks it, not the backend. */
        vdev->use_guest_notifier_mask = false;
    }
    /* Some devices ask no vhost_dev what they may offer, as crypto. */
    vdev->host_features = isolation_device_features(vdev->host_features,
                                                    vdev->host_features);
    isolation_add_stats(iso->guest);
    return true;
}

bool vhost_user_isolation_realize(VhostUserState *user, VirtIODevice *vdev,
                                  Error **errp)
{
    unsigned num_queues = 0;

    if (!vhost_user_isolation_possible(user->isolation_config.enabled,
                                       vdev->device_id, vdev->name, errp)) {
        return false;
    }
    while (num_queues < VIRTIO_QUEUE_MAX &&
           virtio_queue_get_num(vdev, num_queues)) {
        num_queues++;
    }
    return vhost_user_isolation_init(user, num_queues, errp) &&
           vhost_user_isolation_attach(user, vdev, errp);
}

void vhost_user_isolation_unrealize(VirtIODevice *vdev)
{
    VirtIOIsolation *guest = vdev->isolation;

    if (!guest) {
        return;
    }
    isolation_guest_leave(guest);
    if (guest->memory_watched) {
        memory_listener_unregister(&guest->memory);
    }
    qemu_del_vm_change_state_handler(guest->vm_state);
    object_property_del(OBJECT(vdev), "memory-isolation-stats");
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_free(guest->queues[n]);
    }
    qemu_bh_delete(guest->faulted);
    if (guest->iothread) {
        object_unref(OBJECT(guest->iothread));
    }
    g_free(guest->queues);
    g_free(guest->name);
    g_free(guest);
    vdev->isolation = NULL;
}
