/*
 * Fuzzing messages: the guest's side of the device, which is not fuzzed.
 *
 * It never has a request out.  fuzz-queue.c has the real one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-dmabuf.h"
#include "messages.h"

void isolation_guest_start(VirtIOIsolation *guest, unsigned n,
                           IsolatedLink *link)
{
    g_assert_false(test_bit(n, guest->started));
    set_bit(n, guest->started);
}

void isolation_guest_run(VirtIOIsolation *guest)
{
}

void isolation_guest_stop(VirtIOIsolation *guest)
{
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
}

void isolation_guest_disconnect(VirtIOIsolation *guest)
{
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
}

unsigned isolation_guest_out(VirtIOIsolation *guest, bool parked)
{
    return 0;
}

void isolated_queue_stopped(IsolatedQueue *q, uint32_t base, bool alive)
{
}

unsigned isolated_queue_in_flight(const IsolatedQueue *q)
{
    return 0;
}

unsigned int virtio_queue_get_last_avail_idx(VirtIODevice *vdev, int n)
{
    return 0;
}

void virtio_forget_vhost_device(struct vhost_dev *dev)
{
}
