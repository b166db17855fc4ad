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
 * Behind an IOMMU a queue runs when it is known where all of its ring is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/virtio-bus.h"
#include "migration/blocker.h"
#include "system/runstate.h"
#include "vhost-user-isolation-internal.h"
#include "virtio-chain.h"
#include "trace.h"

/* While a stop waits for the backend: first nap and longest, microseconds. */
#define NAP_MIN_US 20
#define NAP_MAX_US 1000

/* Nobody waits for what a driver that is gone had asked for. */
#define RESET_DRAIN_MS 100

/*
 * Not a QemuEvent: its wait does not look again, and a late wake-up for the
 * move before, at the same place on the stack, would end it.
 */
typedef struct Move {
    VirtIOIsolation *guest;
    IOThread *iothread;
    QemuSemaphore done;
} Move;

static bool queue_is_runnable(VirtIOIsolation *guest, unsigned n)
{
    IsolatedQueue *q = guest->queues[n];

    return test_bit(n, guest->started) && !isolated_queue_attached(q) &&
           !guest->stale &&
           virtqueue_rings(virtio_get_queue(guest->vdev, n)) !=
           VIRTQUEUE_RINGS_UNUSABLE &&
           isolated_queue_reach_rings(q) == GUEST_REACH_NOW;
}

/* In the IOThread, for a thread that holds the BQL and waits. */
static void attach_in_iothread(void *opaque)
{
    Move *move = opaque;
    VirtIOIsolation *guest = move->guest;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (guest->iothreads[n] == move->iothread &&
            queue_is_runnable(guest, n)) {
            isolated_queue_attach(guest->queues[n],
                                  iothread_get_aio_context(move->iothread),
                                  false);
        }
    }
    qemu_sem_post(&move->done);
}

static void detach_in_iothread(void *opaque)
{
    Move *move = opaque;
    VirtIOIsolation *guest = move->guest;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (guest->iothreads[n] == move->iothread) {
            isolated_queue_detach(guest->queues[n]);
        }
    }
    qemu_sem_post(&move->done);
}

/* All queues of one IOThread at once. */
static void move_in_iothread(VirtIOIsolation *guest, IOThread *iothread,
                             QEMUBHFunc *fn)
{
    Move move = { .guest = guest, .iothread = iothread };

    qemu_sem_init(&move.done, 0);
    aio_bh_schedule_oneshot(iothread_get_aio_context(iothread), fn, &move);
    qemu_sem_wait(&move.done);
    qemu_sem_destroy(&move.done);
}

void isolation_guest_run(VirtIOIsolation *guest)
{
    assert(bql_locked());
    if (!runstate_is_running() || guest->suspended) {
        return;
    }
    isolation_iommu_check_rings(guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (!queue_is_runnable(guest, n)) {
            continue;
        }
        if (guest->iothreads[n]) {
            move_in_iothread(guest, guest->iothreads[n], attach_in_iothread);
        } else {
            isolated_queue_attach(guest->queues[n],
                                  iohandler_get_aio_context(), true);
        }
    }
}

void isolation_guest_pause(VirtIOIsolation *guest)
{
    assert(bql_locked());
    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (!isolated_queue_attached(guest->queues[n])) {
            continue;
        }
        if (guest->iothreads[n]) {
            move_in_iothread(guest, guest->iothreads[n], detach_in_iothread);
        } else {
            isolated_queue_detach(guest->queues[n]);
        }
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
    isolation_iommu_changed(guest);
    isolation_guest_run(guest);
}

static void guest_pause_for_iommu(void *opaque)
{
    isolation_guest_pause(opaque);
}

static void guest_ask_again(void *opaque)
{
    VirtIOIsolation *guest = opaque;

    isolation_guest_run(guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_look_again(guest->queues[n]);
    }
}

static const GuestIotlbUser iotlb_user = {
    .pause = guest_pause_for_iommu,
    .again = guest_ask_again,
};

/* The address space is known only after the device is plugged into its bus. */
static void guest_watch_memory(VirtIOIsolation *guest)
{
    if (guest->memory_watched) {
        return;
    }
    isolation_iommu_watch(guest, &iotlb_user);
    guest->memory = (MemoryListener) {
        .name = "vhost-user-isolation",
        .region_add = isolation_iommu_region_add,
        .region_del = isolation_iommu_region_del,
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

/*
 * Devices that stop together wait together: the time of a stop begins with the
 * first of them and ends when the main loop comes round again.
 */
static struct {
    int64_t begun_ms;
    QEMUBH *over;
} stop;

static void stop_over(void *opaque)
{
    g_clear_pointer(&stop.over, qemu_bh_delete);
}

static int64_t stop_begun_ms(void)
{
    if (!stop.over) {
        stop.begun_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
        stop.over = qemu_bh_new(stop_over, NULL);
        qemu_bh_schedule(stop.over);
    }
    return stop.begun_ms;
}

/* The driver has gone, or the VM pauses. */
static uint32_t guest_stop_ms(const VirtIOIsolation *guest)
{
    const VirtIODevice *vdev = guest->vdev;
    uint32_t stop_ms = guest->iso->user->isolation_config.stop_ms;

    return vdev->use_started && !vdev->started ? MIN(stop_ms, RESET_DRAIN_MS)
                                               : stop_ms;
}

/* Return what has been completed by now; what the backend still has. */
static unsigned guest_drain_once(VirtIOIsolation *guest)
{
    unsigned out = 0;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (test_bit(n, guest->started)) {
            out += isolated_queue_drain(guest->queues[n]);
        }
    }
    return out;
}

/* Wait for the backend, but not longer than until @deadline_ms. */
static void guest_drain(VirtIOIsolation *guest, int64_t deadline_ms)
{
    unsigned nap = NAP_MIN_US;
    unsigned out;

    if (guest->vm_stopped || !guest->iso) {
        return;
    }
    while ((out = guest_drain_once(guest)) &&
           qemu_clock_get_ms(QEMU_CLOCK_REALTIME) < deadline_ms &&
           isolation_connection_alive(guest->iso)) {
        g_usleep(nap);
        nap = MIN(nap * 2, NAP_MAX_US);
    }
    trace_vhost_user_isolation_drained(guest->name, out);
}

void isolation_guest_stop(VirtIOIsolation *guest)
{
    isolation_guest_pause(guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_unpark(guest->queues[n]);
        if (test_bit(n, guest->started)) {
            /* A kick that is found later would start a legacy device. */
            event_notifier_test_and_clear(virtio_queue_get_host_notifier(
                virtio_get_queue(guest->vdev, n)));
        }
    }
    guest_drain(guest, stop_begun_ms() + guest_stop_ms(guest));
    isolation_iommu_stopped(guest);
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
}

void isolation_guest_disconnect(VirtIOIsolation *guest)
{
    isolation_guest_pause(guest);
    isolation_iommu_stopped(guest);
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_disconnect(guest->queues[n]);
    }
}

static void guest_vm_state(void *opaque, bool running, RunState state)
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
    guest_drain(guest, 0);
    guest->vm_stopped = true;
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

bool isolation_guest_crowded(VirtIOIsolation *guest)
{
    for (unsigned n = 0; n < guest->num_queues; n++) {
        if (isolated_queue_crowded(guest->queues[n])) {
            return true;
        }
    }
    return false;
}

void isolation_guest_make_room(VirtIOIsolation *guest)
{
    vhost_user_transport_report(guest->iso->transport, "the backend is "
                                "disconnected: it keeps requests of a driver "
                                "that was reset, and others have no room");
    isolation_connection_lose(guest->iso);
}

/* A request waits, and orphans have its room. */
static void guest_starved(void *opaque)
{
    VirtIOIsolation *guest = opaque;

    isolation_guest_pause(guest);
    if (guest->iso && isolation_guest_crowded(guest)) {
        isolation_guest_make_room(guest);
    }
    isolation_guest_run(guest);
}

static IsolatedQueue *queue_new(VirtIOIsolation *guest, unsigned n)
{
    const VhostUserIsolationConfig *config =
        &guest->iso->user->isolation_config;
    uint16_t device_id = guest->vdev->device_id;

    return isolated_queue_new(&(IsolatedQueueConfig) {
        .vdev = guest->vdev,
        .name = guest->name,
        .vq = virtio_get_queue(guest->vdev, n),
        .index = n,
        .scrub = config->scrub,
        .trim = config->trim,
        .wipe = config->wipe,
        .all_writable = config->copy_all || isolation_lengths_lie(device_id),
        .merges = isolation_queue_merges(device_id, n),
        .parks = isolation_queue_parks(device_id, n),
        .faulted = guest->faulted,
        .starved = guest->starved,
    });
}

VirtIOIsolation *isolation_guest_new(VhostUserIsolation *iso,
                                     VirtIODevice *vdev)
{
    DeviceState *proxy = qdev_get_parent_bus(DEVICE(vdev))->parent;
    const char *id = isolation_device_id(vdev);
    VirtIOIsolation *guest = g_new0(VirtIOIsolation, 1);

    guest->vdev = vdev;
    guest->iso = iso;
    guest->name = id ? g_strdup(id)
                     : object_get_canonical_path(OBJECT(proxy));
    guest->num_queues = iso->num_queues;
    guest->iothreads = isolation_iothreads_ref(iso->iothreads,
                                               iso->num_queues);
    guest->queues = g_new0(IsolatedQueue *, guest->num_queues);
    guest->faulted = qemu_bh_new(isolation_guest_faulted, guest);
    guest->starved = qemu_bh_new(guest_starved, guest);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        guest->queues[n] = queue_new(guest, n);
    }
    guest->vm_state =
        qemu_add_vm_change_state_handler(guest_vm_state, guest);
    return guest;
}

void isolation_guest_free(VirtIOIsolation *guest)
{
    migrate_del_blocker(&guest->blocker);
    if (guest->memory_watched) {
        memory_listener_unregister(&guest->memory);
        guest_iotlb_free(guest->iotlb);
    }
    qemu_del_vm_change_state_handler(guest->vm_state);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_free(guest->queues[n]);
    }
    qemu_bh_delete(guest->faulted);
    qemu_bh_delete(guest->starved);
    isolation_iothreads_free(guest->iothreads, guest->num_queues);
    g_free(guest->queues);
    g_free(guest->name);
    g_free(guest);
}
