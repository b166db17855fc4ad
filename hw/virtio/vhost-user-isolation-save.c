/*
 * vhost-user memory isolation: saving a device that has requests out.
 *
 * What is out waits for the next backend, wherever that is: here, when the VM
 * goes on, or where it is loaded.  The present one is disconnected first, so
 * that no request is done twice; all of them travel in a subsection of the
 * device, and are the first that is sent there, in the guest's order.
 *
 * So saving needs a chardev that can connect again.  One that cannot blocks it
 * from the start, since a VM that was stopped to be saved and has lost its disk
 * would be worse.
 *
 * In the subsection, big endian:  u32 queues, for each  u32 index, u32 bytes,
 * and what isolated_queue_save() writes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "migration/blocker.h"
#include "standard-headers/linux/virtio_ids.h"
#include "vhost-user-isolation-internal.h"
#include "trace.h"

/* A file system keeps its backend: what it says of itself is in the stream. */
static bool guest_keeps_backend(const VirtIOIsolation *guest)
{
    return guest->vdev->device_id == VIRTIO_ID_FS;
}

bool isolation_block_saving(VirtIOIsolation *guest, Error **errp)
{
    if (guest_keeps_backend(guest) ||
        vhost_user_dials_again(guest->iso->user->chr)) {
        return true;
    }
    error_setg(&guest->blocker, "%s: memory-isolation: the requests that its "
               "backend has can travel only if its chardev can connect again: "
               "set reconnect-ms there", guest->name);
    return migrate_add_blocker(&guest->blocker, errp) >= 0;
}

/*
 * What a broken queue had is lost; its driver resets if it knows.  It does not
 * if the queue broke while the VM was stopped to be saved, or if the driver is
 * too old to be told.
 */
static bool guest_was_told(const VirtIOIsolation *guest, unsigned n)
{
    const VirtIODevice *vdev = guest->vdev;

    return test_bit(n, guest->reported) &&
           (vdev->broken || (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET));
}

static bool save_is_possible(VirtIOIsolation *guest, unsigned *kept,
                             Error **errp)
{
    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedQueue *q = guest->queues[n];

        if (isolated_queue_state(q) != ISOLATED_QUEUE_BROKEN) {
            *kept += isolated_queue_in_flight(q);
        } else if (!guest_was_told(guest, n)) {
            error_setg(errp, "%s: memory-isolation: queue %u is broken, and "
                       "its driver does not know: the VM cannot be saved "
                       "before the driver resets the device", guest->name, n);
            return false;
        }
    }
    return true;
}

/* It does nothing of it any more.  What can go back to the ring does. */
static void save_leave_backend(VirtIOIsolation *guest)
{
    if (guest->iso) {
        isolation_connection_lose(guest->iso);
    }
    isolation_guest_disconnect(guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_unpark(guest->queues[n]);
    }
}

static void put_be32(GByteArray *out, uint32_t value)
{
    value = cpu_to_be32(value);
    g_byte_array_append(out, (uint8_t *)&value, sizeof(value));
}

static bool queue_travels(const IsolatedQueue *q)
{
    return isolated_queue_state(q) != ISOLATED_QUEUE_BROKEN &&
           isolated_queue_in_flight(q);
}

static GByteArray *save_queues(const VirtIOIsolation *guest)
{
    GByteArray *out = g_byte_array_new();
    uint32_t num = 0;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        num += queue_travels(guest->queues[n]);
    }
    if (!num) {
        return out;
    }
    put_be32(out, num);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        g_autoptr(GByteArray) requests = g_byte_array_new();

        if (queue_travels(guest->queues[n])) {
            isolated_queue_save(guest->queues[n], requests);
            put_be32(out, n);
            put_be32(out, requests->len);
            g_byte_array_append(out, requests->data, requests->len);
        }
    }
    return out;
}

bool isolation_guest_save(VirtIODevice *vdev, Error **errp)
{
    VirtIOIsolation *guest = vdev->ring_user;
    unsigned kept = 0;
    GByteArray *out;

    if (!save_is_possible(guest, &kept, errp)) {
        return false;
    }
    if (!kept && (guest_keeps_backend(guest) ||
                  !isolation_guest_out(guest, true))) {
        return true;
    }
    if (guest_keeps_backend(guest)) {
        error_setg(errp, "%s: memory-isolation: %u request(s) that the backend "
                   "did not complete cannot be saved; let the VM go on and try "
                   "again, or raise memory-isolation-stop-ms", guest->name,
                   kept);
        return false;
    }
    save_leave_backend(guest);
    out = save_queues(guest);
    vdev->ring_user_size = out->len;
    vdev->ring_user_data = g_byte_array_free(out, false);
    trace_vhost_user_isolation_saved(guest->name, kept, vdev->ring_user_size);
    return true;
}

/* One queue; @data and @size move behind it. */
static bool load_queue(VirtIOIsolation *guest, const uint8_t **data,
                       size_t *size, Error **errp)
{
    uint32_t n, bytes;

    if (*size < 8) {
        error_setg(errp, "the stream ends in the middle");
        return false;
    }
    n = ldl_be_p(*data);
    bytes = ldl_be_p(*data + 4);
    *data += 8;
    *size -= 8;
    if (n >= guest->num_queues || bytes > *size ||
        isolated_queue_in_flight(guest->queues[n])) {
        error_setg(errp, "the stream names queue %" PRIu32 " of %u with %"
                   PRIu32 " bytes", n, guest->num_queues, bytes);
        return false;
    }
    if (!isolated_queue_load(guest->queues[n], *data, bytes, errp)) {
        error_prepend(errp, "queue %" PRIu32 ": ", n);
        return false;
    }
    *data += bytes;
    *size -= bytes;
    return true;
}

static bool load_queues(VirtIOIsolation *guest, const uint8_t *data,
                        size_t size, Error **errp)
{
    uint32_t num;

    if (size < 4) {
        error_setg(errp, "the stream ends before it begins");
        return false;
    }
    num = ldl_be_p(data);
    data += 4;
    size -= 4;
    while (num && load_queue(guest, &data, &size, errp)) {
        num--;
    }
    if (!num && size) {
        error_setg(errp, "the stream goes on behind the last queue");
    }
    return !num && !size;
}

bool isolation_guest_load(VirtIODevice *vdev, Error **errp)
{
    VirtIOIsolation *guest = vdev->ring_user;

    if (load_queues(guest, vdev->ring_user_data, vdev->ring_user_size, errp)) {
        return true;
    }
    error_prepend(errp, "%s: memory-isolation: requests cannot be loaded: ",
                  guest->name);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_reset(guest->queues[n]);
    }
    return false;
}
