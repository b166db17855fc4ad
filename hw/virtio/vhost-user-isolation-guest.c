/*
 * vhost-user memory isolation: the guest's side of a device.
 *
 * Who owns the queues.  Without an IOThread it is the main loop, and there
 * holding the BQL is ownership: taking and giving is a plain call from any
 * thread that holds it.  With an IOThread ownership moves by one bottom half
 * for all queues, while the thread that holds the BQL waits.  Queues never
 * need the BQL in the IOThread, so that cannot deadlock unless another device
 * there does (one whose buffers lie in MMIO).  A nested event loop instead
 * would run handlers that free the device under its own stop.
 *
 * Requests move only while the device is started and the VM runs.  Both are
 * asked for here, since a backend that reconnects while the VM is paused
 * starts the device, and then nothing starts it when the VM goes on.
 *
 * Memory that changes (a BAR that moves, RAM that is plugged, bus mastering
 * that goes away) pauses the data path: between begin and commit of the memory
 * listener nobody looks at the guest, and afterwards it is asked again where
 * the rings lie.  So the data path never meets a ring that is not RAM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-events-virtio.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "vhost-user-isolation-internal.h"
#include "virtio-chain.h"
#include "trace.h"

/* While a stop waits for the backend: first nap and longest, microseconds. */
#define NAP_MIN_US 20
#define NAP_MAX_US 1000

/*
 * Not a QemuEvent: its wait does not look again, and a late wake-up for the
 * move before, at the same place on the stack, would end it.
 */
typedef struct Move {
    VirtIOIsolation *guest;
    QemuSemaphore done;
} Move;

static AioContext *guest_home(const VirtIOIsolation *guest)
{
    return guest->iothread ? iothread_get_aio_context(guest->iothread)
                           : iohandler_get_aio_context();
}

static bool queue_is_runnable(VirtIOIsolation *guest, unsigned n)
{
    VirtQueue *vq = virtio_get_queue(guest->vdev, n);

    return test_bit(n, guest->started) &&
           !isolated_queue_attached(guest->queues[n]) &&
           virtqueue_rings(vq) == VIRTQUEUE_RINGS_DIRECT;
}

/*
 * QEMU's accessors translate a ring behind an IOMMU at each access, and the
 * guest can lead any of them into a device, also into this one: a reset in the
 * middle of a completion.  Until there are accessors that go to RAM or fail,
 * such a ring is refused.
 */
static void refuse_translated_rings(VirtIOIsolation *guest)
{
    for (unsigned n = 0; n < guest->num_queues; n++) {
        VirtQueue *vq = virtio_get_queue(guest->vdev, n);

        if (test_bit(n, guest->started) &&
            virtqueue_rings(vq) == VIRTQUEUE_RINGS_TRANSLATED) {
            isolated_queue_guest_fault(guest->queues[n],
                                       "a ring behind an IOMMU is not "
                                       "supported with memory-isolation=on");
        }
    }
}

/* In the IOThread, for a thread that holds the BQL and waits. */
static void attach_in_iothread(void *opaque)
{
    Move *move = opaque;
    VirtIOIsolation *guest = move->guest;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (queue_is_runnable(guest, n)) {
            isolated_queue_attach(guest->queues[n], guest_home(guest), false);
        }
    }
    qemu_sem_post(&move->done);
}

static void detach_in_iothread(void *opaque)
{
    Move *move = opaque;
    VirtIOIsolation *guest = move->guest;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_detach(guest->queues[n]);
    }
    qemu_sem_post(&move->done);
}

static void move_in_iothread(VirtIOIsolation *guest, QEMUBHFunc *fn)
{
    Move move = { .guest = guest };

    qemu_sem_init(&move.done, 0);
    aio_bh_schedule_oneshot(guest_home(guest), fn, &move);
    qemu_sem_wait(&move.done);
    qemu_sem_destroy(&move.done);
}

void isolation_guest_run(VirtIOIsolation *guest)
{
    assert(bql_locked());
    if (!runstate_is_running() || guest->suspended) {
        return;
    }
    refuse_translated_rings(guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (!queue_is_runnable(guest, n)) {
            continue;
        }
        if (guest->iothread) {
            move_in_iothread(guest, attach_in_iothread);
            break;
        }
        isolated_queue_attach(guest->queues[n], guest_home(guest), true);
    }
}

void isolation_guest_pause(VirtIOIsolation *guest)
{
    assert(bql_locked());
    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (!isolated_queue_attached(guest->queues[n])) {
            continue;
        }
        if (guest->iothread) {
            move_in_iothread(guest, detach_in_iothread);
            break;
        }
        isolated_queue_detach(guest->queues[n]);
    }
}

static void guest_memory_begin(MemoryListener *listener)
{
    VirtIOIsolation *guest = container_of(listener, VirtIOIsolation, memory);

    guest->suspended = true;
    isolation_guest_pause(guest);
}

static void guest_memory_commit(MemoryListener *listener)
{
    VirtIOIsolation *guest = container_of(listener, VirtIOIsolation, memory);

    guest->suspended = false;
    isolation_guest_run(guest);
}

void isolation_guest_vm_state(void *opaque, bool running, RunState state)
{
    VirtIOIsolation *guest = opaque;

    if (running) {
        guest->vm_stopped = false;
        isolation_guest_run(guest);
        return;
    }
    /*
     * The device is stopped by now, unless its socket has just been closed:
     * then it is stopped later, when guest memory may not change any more.
     */
    isolation_guest_pause(guest);
    isolation_guest_drain(guest, 0);
    guest->vm_stopped = true;
}

/* The address space is known only after the device is plugged into its bus. */
static void guest_watch_memory(VirtIOIsolation *guest)
{
    if (guest->memory_watched) {
        return;
    }
    guest->memory = (MemoryListener) {
        .name = "vhost-user-isolation",
        .begin = guest_memory_begin,
        .commit = guest_memory_commit,
        /* Behind virtio's own, which looks up the rings anew. */
        .priority = MEMORY_LISTENER_PRIORITY_DEV_BACKEND,
    };
    memory_listener_register(&guest->memory, guest->vdev->dma_as);
    guest->memory_watched = true;
}

void isolation_guest_start(VirtIOIsolation *guest, unsigned n,
                           IsolatedLink *link)
{
    IsolatedQueue *q = guest->queues[n];
    VirtQueue *vq = virtio_get_queue(guest->vdev, n);

    guest_watch_memory(guest);
    isolated_queue_connect(q, link);
    set_bit(n, guest->started);
    if (virtqueue_rings(vq) == VIRTQUEUE_RINGS_UNUSABLE) {
        isolated_queue_guest_fault(q, "a ring is not in RAM");
    }
}

void isolation_guest_drain(VirtIOIsolation *guest, uint32_t ms)
{
    int64_t deadline = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms;
    unsigned nap = NAP_MIN_US;
    unsigned out;

    if (guest->vm_stopped || !guest->iso) {
        return;
    }
    for (;;) {
        out = 0;
        for (unsigned n = 0; n < guest->num_queues; n++) {
            if (test_bit(n, guest->started)) {
                out += isolated_queue_drain(guest->queues[n]);
            }
        }
        if (!out || qemu_clock_get_ms(QEMU_CLOCK_REALTIME) >= deadline ||
            !isolation_connected(guest->iso)) {
            break;
        }
        g_usleep(nap);
        nap = MIN(nap * 2, NAP_MAX_US);
    }
    trace_vhost_user_isolation_drained(guest->name, out);
}

static bool guest_queue_parks(const VirtIOIsolation *guest, unsigned n)
{
    return isolation_queue_parks(guest->vdev->device_id, n);
}

unsigned isolation_guest_out(VirtIOIsolation *guest, bool parked)
{
    unsigned out = 0;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedLink *link = isolated_queue_link(guest->queues[n]);

        if (link && (parked || !guest_queue_parks(guest, n))) {
            out += shadow_ring_in_flight(link->ring);
        }
    }
    return out;
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

static void guest_send_event(VirtIOIsolation *guest, unsigned n,
                             IsolatedQueueFault fault, const char *why)
{
    DeviceState *proxy = qdev_get_parent_bus(DEVICE(guest->vdev))->parent;
    g_autofree char *path = object_get_canonical_path(OBJECT(guest->vdev));

    qapi_event_send_vhost_user_queue_broken(
        proxy->id, path, n, fault == ISOLATED_QUEUE_FAULT_BACKEND, why);
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
        if (fault == ISOLATED_QUEUE_FAULT_GUEST) {
            virtio_error(guest->vdev, "%s: memory-isolation: queue %u: %s",
                         guest->name, n, why);
        } else {
            report_backend_fault(guest, n, why);
        }
        return;
    }
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

bool vhost_user_isolation_can_save(VirtIODevice *vdev)
{
    VirtIOIsolation *guest = vdev->isolation;
    unsigned kept = 0;

    for (unsigned n = 0; guest && n < guest->num_queues; n++) {
        IsolatedQueue *q = guest->queues[n];

        if (isolated_queue_state(q) != ISOLATED_QUEUE_BROKEN) {
            kept += isolated_queue_in_flight(q);
        } else if (!guest_was_told(guest, n)) {
            error_report("%s: memory-isolation: queue %u is broken, and its "
                         "driver does not know: the VM cannot be saved before "
                         "the driver resets the device", guest->name, n);
            return false;
        }
    }
    if (kept) {
        error_report("%s: memory-isolation: %u request(s) that the backend "
                     "did not complete cannot be saved; let the VM go on and "
                     "try again, or raise memory-isolation-stop-ms",
                     guest->name, kept);
    }
    return !kept;
}

/* Also while it is stopped, if there is something to be entered into it. */
static bool guest_uses_ring(VirtIOIsolation *guest, unsigned n)
{
    return n < guest->num_queues &&
           (test_bit(n, guest->started) ||
            isolated_queue_in_flight(guest->queues[n]));
}

bool vhost_user_isolation_uses_ring(VirtIODevice *vdev, int n)
{
    VirtIOIsolation *guest = vdev->isolation;

    if (!guest) {
        return false;
    }
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
    if (!iso->lost && !test_bit(n, iso->stopping)) {
        isolated_queue_forget_orphans(guest->queues[n]);
        isolation_link_renew(iso, n);
    }
}

/* The driver resets already, but whoever runs the machine wants to know. */
static void guest_report_late(VirtIOIsolation *guest)
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

void vhost_user_isolation_reset(VirtIODevice *vdev)
{
    VirtIOIsolation *guest = vdev->isolation;
    bool disconnect = false;

    if (!guest) {
        return;
    }
    /* The device is still started if its socket has just been closed. */
    isolation_guest_pause(guest);
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
    guest_report_late(guest);
    bitmap_zero(guest->reported, VIRTIO_QUEUE_MAX);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedLink *link = isolated_queue_link(guest->queues[n]);
        bool broken = link && shadow_ring_fault(link->ring);

        disconnect |= broken;
        isolated_queue_reset(guest->queues[n]);
        if (link && !broken && guest_queue_parks(guest, n)) {
            guest_drop_parked(guest, n);
        }
    }
    if (disconnect) {
        /* A ring that its backend broke cannot be mended, only replaced. */
        isolation_disconnect(guest->iso);
    }
}
