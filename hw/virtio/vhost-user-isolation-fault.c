/*
 * vhost-user memory isolation: telling of a queue that broke.
 *
 * The data path latches a fault and schedules a bottom half; whoever runs the
 * machine hears of it here, and the guest, by an interrupt, last of all.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/qapi-events-virtio.h"
#include "vhost-user-isolation-internal.h"

const char *isolation_device_id(VirtIODevice *vdev)
{
    DeviceState *dev = DEVICE(vdev);

    return dev->id ?: qdev_get_parent_bus(dev)->parent->id;
}

/*
 * The backend broke a queue.  The others go on, so not virtio_error(), which
 * would swallow their completions too; the driver is told to reset.
 */
static void report_backend_fault(VirtIOIsolation *guest, unsigned n,
                                 const char *why)
{
    VirtIODevice *vdev = guest->vdev;

    error_report("%s: memory-isolation: the backend broke queue %u: %s; the "
                 "queue is stopped until the guest resets the device",
                 guest->name, n, why);
    if (virtio_vdev_has_feature(vdev, VIRTIO_F_VERSION_1)) {
        vdev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        virtio_notify_config(vdev);
    }
}

VhostUserQueueFault isolation_queue_fault(IsolatedQueueFault fault)
{
    static const VhostUserQueueFault causes[] = {
        [ISOLATED_QUEUE_FAULT_GUEST_RING] = VHOST_USER_QUEUE_FAULT_GUEST_RING,
        [ISOLATED_QUEUE_FAULT_GUEST_MEMORY] =
            VHOST_USER_QUEUE_FAULT_GUEST_MEMORY,
        [ISOLATED_QUEUE_FAULT_REQUEST_SIZE] =
            VHOST_USER_QUEUE_FAULT_REQUEST_SIZE,
        [ISOLATED_QUEUE_FAULT_BACKEND] = VHOST_USER_QUEUE_FAULT_BACKEND_RING,
    };

    assert(fault > ISOLATED_QUEUE_FAULT_NONE && fault < ARRAY_SIZE(causes));
    return causes[fault];
}

static void guest_send_event(VirtIOIsolation *guest, unsigned n,
                             IsolatedQueueFault fault, const char *why)
{
    g_autofree char *path = object_get_canonical_path(OBJECT(guest->vdev));

    qapi_event_send_vhost_user_queue_broken(isolation_device_id(guest->vdev),
                                            path, n,
                                            isolation_queue_fault(fault), why);
}

void isolation_guest_faulted(void *opaque)
{
    VirtIOIsolation *guest = opaque;
    const char *why;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedQueueFault fault = isolated_queue_fault(guest->queues[n],
                                                        &why);

        if (fault == ISOLATED_QUEUE_FAULT_NONE ||
            test_and_set_bit(n, guest->reported)) {
            continue;
        }
        guest_send_event(guest, n, fault, why);
        /*
         * What tells the guest is an interrupt, which can lead into any device
         * and so end this one: it comes last, and others have their own turn.
         */
        qemu_bh_schedule(guest->faulted);
        if (fault == ISOLATED_QUEUE_FAULT_BACKEND) {
            report_backend_fault(guest, n, why);
        } else {
            virtio_error(guest->vdev, "%s: memory-isolation: queue %u: %s",
                         guest->name, n, why);
        }
        return;
    }
}

/* The driver resets already, but whoever runs the machine wants to know. */
void isolation_guest_report_late(VirtIOIsolation *guest)
{
    const char *why;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedQueueFault fault = isolated_queue_fault(guest->queues[n],
                                                        &why);

        if (fault != ISOLATED_QUEUE_FAULT_NONE &&
            !test_bit(n, guest->reported)) {
            guest_send_event(guest, n, fault, why);
            error_report("%s: memory-isolation: queue %u, while the driver "
                         "reset it: %s", guest->name, n, why);
        }
    }
}
