/*
 * vhost-user memory isolation: the operations between vhost and vhost-user.
 *
 * An isolated vhost_dev has a table of its own: vhost-user's, with some
 * entries replaced.  What is not replaced goes straight through.  Replaced is
 * everything that would tell the backend about guest memory, rings, and the
 * guest's notifiers, or that QEMU does itself now.
 *
 * Guest RAM cannot be sent, because it is in no table: SET_MEM_TABLE has the
 * region of this connection and nothing else.
 *
 * Start:  features, table, then for each queue NUM, BASE, ADDR, KICK, CALL
 *         with the shadow ring's values; dev_start(true) comes last and hands
 *         the queues to their owners.
 * Stop:   dev_start(false) comes first: owners gone, requests drained while
 *         the backend still runs.  GET_VRING_BASE settles what is left.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/vhost-backend.h"
#include "standard-headers/linux/vhost_types.h"
#include "vhost-user-isolation-internal.h"
#include "trace.h"

/* Nobody waits for what a driver that is gone had asked for. */
#define RESET_DRAIN_MS 100

/* Made from user_ops when the first isolated device connects, then constant. */
static VhostOps isolated_ops;
static VhostOps released_ops;

static VhostUserIsolation *isolation_of(struct vhost_dev *dev)
{
    return vhost_user_get_state(dev)->isolation;
}

bool vhost_user_isolated(const struct vhost_dev *dev)
{
    return dev->vhost_ops == &isolated_ops || dev->vhost_ops == &released_ops;
}

uint64_t vhost_user_isolation_features(const struct vhost_dev *dev,
                                       uint64_t wanted, uint64_t features)
{
    return vhost_user_isolated(dev) ?
           isolation_device_features(wanted, features) : features;
}

/* The queues of one vhost_dev are a part of the device's. */
static bool dev_has_queue(const struct vhost_dev *dev, unsigned n)
{
    return n >= dev->vq_index && n < dev->vq_index + dev->nvqs;
}

static bool connection_has_devs(const VhostUserIsolation *iso)
{
    for (unsigned n = 0; n < iso->num_queues; n++) {
        if (iso->devs[n]) {
            return true;
        }
    }
    return false;
}

static int op_backend_cleanup(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = isolation_of(dev);

    assert(iso->devs[dev->vq_index] == dev);
    iso->devs[dev->vq_index] = NULL;
    if (!connection_has_devs(iso)) {
        iso->spent = iso->table_sent;
        isolation_connection_drop(iso);
    }
    return user_ops.vhost_backend_cleanup(dev);
}

/* The backend's slots hold one region, whatever memory the guest has. */
static int op_memslots_limit(struct vhost_dev *dev)
{
    return INT_MAX;
}

static bool op_no_private_memslots(struct vhost_dev *dev)
{
    return false;
}

static bool op_requires_shm_log(struct vhost_dev *dev)
{
    return false;
}

static int op_set_log_base(struct vhost_dev *dev, uint64_t base,
                           struct vhost_log *log)
{
    return 0;
}

static int op_get_features(struct vhost_dev *dev, uint64_t *features)
{
    VhostUserIsolation *iso = isolation_of(dev);
    Error *err = NULL;
    uint64_t offered;
    int ret = user_ops.vhost_get_features(dev, &offered);

    if (ret < 0) {
        return ret;
    }
    if (!isolation_check_pins(&iso->user->isolation_config, offered, &err)) {
        error_report_err(err);
        return -ENOTSUP;
    }
    if (!iso->rings_chosen) {
        iso->offered = offered;
    }
    *features = isolation_guest_features(offered);
    return 0;
}

/* The rings stay as they are until the connection ends, whatever guest comes. */
static void choose_rings(VhostUserIsolation *iso, uint16_t device_id,
                         bool version_1)
{
    if (!iso->rings_chosen) {
        iso->ring_bits =
            isolation_ring_features(&iso->user->isolation_config, device_id,
                                    iso->offered, version_1);
        iso->rings_chosen = true;
    }
}

/* Packed rings were asked for, or came with the driver before this one. */
static bool rings_are_packed(const VhostUserIsolation *iso)
{
    return iso->rings_chosen ?
           iso->ring_bits & BIT_ULL(VIRTIO_F_RING_PACKED) :
           iso->user->isolation_config.packed == ON_OFF_AUTO_ON;
}

static int op_set_features(struct vhost_dev *dev, uint64_t features)
{
    VhostUserIsolation *iso = isolation_of(dev);
    uint16_t device_id = iso->guest->vdev->device_id;

    features = isolation_payload_features(device_id, features, iso->offered);
    if (!(features & BIT_ULL(VIRTIO_F_VERSION_1)) && rings_are_packed(iso)) {
        error_report("%s: memory-isolation: a driver older than virtio 1.0 "
                     "cannot be served on packed rings", iso->guest->name);
        /* The next connection can have others. */
        isolation_disconnect(iso);
        return -ENOTSUP;
    }
    choose_rings(iso, device_id, features & BIT_ULL(VIRTIO_F_VERSION_1));
    features |= iso->ring_bits;
    trace_vhost_user_isolation_features(iso->guest->name, iso->offered,
                                        features);
    return user_ops.vhost_set_features(dev, features);
}

static int op_set_mem_table(struct vhost_dev *dev, struct vhost_memory *mem)
{
    VhostUserIsolation *iso = isolation_of(dev);
    Error *err = NULL;
    int ret;

    if (iso->table_sent) {
        return 0;
    }
    if (!isolation_region_get(iso, &err)) {
        error_report_err(err);
        isolation_disconnect(iso);
        return -ENOMEM;
    }
    ret = vhost_user_set_mem_region(dev, iso->region->fd, iso->region->size,
                                    iso->region->guest_base,
                                    iso->region->user_base);
    iso->table_sent = ret >= 0;
    return ret;
}

static int op_set_vring_endian(struct vhost_dev *dev,
                               struct vhost_vring_state *ring)
{
    VhostUserIsolation *iso = isolation_of(dev);

    error_report("%s: memory-isolation: a driver older than virtio 1.0 of "
                 "another byte order than the host's cannot be served; use "
                 "disable-legacy=on or memory-isolation=off",
                 iso->guest->name);
    isolation_disconnect(iso);
    return -ENOTSUP;
}

static int op_set_vring_num(struct vhost_dev *dev,
                            struct vhost_vring_state *ring)
{
    VhostUserIsolation *iso = isolation_of(dev);
    Error *err = NULL;
    IsolatedLink *link = isolation_link_get(iso, ring->index, &err);
    struct vhost_vring_state state = { .index = ring->index };

    if (!link) {
        error_report_err(err);
        isolation_disconnect(iso);
        return -ENOMEM;
    }
    state.num = shadow_ring_size(link->ring);
    return user_ops.vhost_set_vring_num(dev, &state);
}

static int op_set_vring_base(struct vhost_dev *dev,
                             struct vhost_vring_state *ring)
{
    IsolatedLink *link = isolation_of(dev)->links[ring->index];
    struct vhost_vring_state state = {
        .index = ring->index,
        .num = shadow_ring_base(link->ring),
    };

    return user_ops.vhost_set_vring_base(dev, &state);
}

static int op_set_vring_addr(struct vhost_dev *dev,
                             struct vhost_vring_addr *addr)
{
    BounceRegion *region = isolation_of(dev)->region;
    ShadowRingLayout layout = isolation_link_layout(isolation_of(dev),
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
static int op_set_vring_kick(struct vhost_dev *dev,
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
        set_bit(file->index, iso->prepared);
    }
    return ret;
}

/*
 * The guest's notifier is not the backend's business: it calls us, and we
 * decide whether the guest hears of it.  Comes at any time, before start too.
 */
static int op_set_vring_call(struct vhost_dev *dev,
                             struct vhost_vring_file *file)
{
    return 0;
}

/* The other side of the socket may have thrown away kicks until now. */
static int op_set_vring_enable(struct vhost_dev *dev, int enable)
{
    VhostUserIsolation *iso = isolation_of(dev);
    int ret = user_ops.vhost_set_vring_enable(dev, enable);

    if (ret < 0 || !enable) {
        return ret;
    }
    for (unsigned n = 0; n < iso->guest->num_queues; n++) {
        if (dev_has_queue(dev, n) && test_bit(n, iso->guest->started)) {
            event_notifier_set(&iso->links[n]->kick);
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
    for (unsigned n = 0; n < iso->guest->num_queues; n++) {
        if (dev_has_queue(dev, n) && test_and_clear_bit(n, iso->prepared)) {
            isolation_guest_start(iso->guest, n, iso->links[n]);
        }
    }
    isolation_guest_run(iso->guest);
    return 0;
}

/* The driver has gone, or the VM pauses. */
static uint32_t dev_drain_ms(const VhostUserIsolation *iso)
{
    const VirtIODevice *vdev = iso->guest->vdev;
    uint32_t stop_ms = iso->user->isolation_config.stop_ms;

    return vdev->use_started && !vdev->started ? MIN(stop_ms, RESET_DRAIN_MS)
                                               : stop_ms;
}

/*
 * The first vhost_dev of a device that stops takes all queues with it: net
 * stops pair 0 whole before it touches pair 1, and no pair may run without
 * the one that sent the table.
 */
static int dev_end(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = isolation_of(dev);
    VirtIOIsolation *guest = iso->guest;

    if (!bitmap_empty(guest->started, VIRTIO_QUEUE_MAX)) {
        isolation_guest_pause(guest);
        for (unsigned n = 0; n < guest->num_queues; n++) {
            VirtQueue *vq = virtio_get_queue(guest->vdev, n);

            isolated_queue_unpark(guest->queues[n]);
            if (test_bit(n, guest->started)) {
                /* A kick that is found later would start a legacy device. */
                event_notifier_test_and_clear(
                    virtio_queue_get_host_notifier(vq));
            }
        }
        isolation_guest_drain(guest, dev_drain_ms(iso));
        bitmap_or(iso->stopping, iso->stopping, guest->started,
                  VIRTIO_QUEUE_MAX);
        bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
    }
    return user_ops.vhost_dev_start(dev, false);
}

static int op_dev_start(struct vhost_dev *dev, bool started)
{
    return started ? dev_begin(dev) : dev_end(dev);
}

/*
 * What the backend has fetched is not known: only a new connection can go on.
 * A device that goes closes it when nobody listens to it any more.
 */
static void isolation_give_up(VhostUserIsolation *iso)
{
    iso->lost = true;
    if (DEVICE(iso->guest->vdev)->realized) {
        isolation_disconnect(iso);
    }
}

/*
 * Also asked of a running device, by x-query-virtio-queue-status: then it only
 * answers.  Never fails: where the queue goes on is QEMU's to know.
 */
static int op_get_vring_base(struct vhost_dev *dev,
                             struct vhost_vring_state *ring)
{
    VhostUserIsolation *iso = isolation_of(dev);
    IsolatedQueue *q = iso->guest->queues[ring->index];
    struct vhost_vring_state answer = { .index = ring->index };
    bool stopping = test_and_clear_bit(ring->index, iso->stopping);
    bool prepared = test_and_clear_bit(ring->index, iso->prepared);

    if (stopping || prepared) {
        bool alive = user_ops.vhost_get_vring_base(dev, &answer) >= 0;

        isolated_queue_stopped(q, answer.num, alive);
        trace_vhost_user_isolation_stopped(iso->guest->name, ring->index,
                                           alive,
                                           isolated_queue_in_flight(q));
        if (!alive) {
            isolation_give_up(iso);
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
static int op_reset_device(struct vhost_dev *dev)
{
    if (isolation_guest_out(isolation_of(dev)->guest, false)) {
        return 0;
    }
    return user_ops.vhost_reset_device(dev);
}

/* For vhost-user this is a reset too, but it comes when a VM pauses. */
static void op_reset_status(struct vhost_dev *dev)
{
    if (!isolation_guest_out(isolation_of(dev)->guest, true)) {
        user_ops.vhost_reset_status(dev);
    }
}

static void isolated_ops_init(void)
{
    if (isolated_ops.vhost_backend_init) {
        return;
    }
    isolated_ops = user_ops;
    isolated_ops.vhost_backend_cleanup = op_backend_cleanup;
    isolated_ops.vhost_backend_memslots_limit = op_memslots_limit;
    isolated_ops.vhost_backend_no_private_memslots = op_no_private_memslots;
    isolated_ops.vhost_requires_shm_log = op_requires_shm_log;
    isolated_ops.vhost_set_log_base = op_set_log_base;
    isolated_ops.vhost_get_features = op_get_features;
    isolated_ops.vhost_set_features = op_set_features;
    isolated_ops.vhost_set_mem_table = op_set_mem_table;
    isolated_ops.vhost_set_vring_endian = op_set_vring_endian;
    isolated_ops.vhost_set_vring_num = op_set_vring_num;
    isolated_ops.vhost_set_vring_base = op_set_vring_base;
    isolated_ops.vhost_get_vring_base = op_get_vring_base;
    isolated_ops.vhost_set_vring_addr = op_set_vring_addr;
    isolated_ops.vhost_set_vring_kick = op_set_vring_kick;
    isolated_ops.vhost_set_vring_call = op_set_vring_call;
    isolated_ops.vhost_set_vring_enable = op_set_vring_enable;
    isolated_ops.vhost_dev_start = op_dev_start;
    isolated_ops.vhost_reset_device = op_reset_device;
    isolated_ops.vhost_reset_status = op_reset_status;
    /* Only for debugging, and QEMU would read an eventfd of the backend's. */
    isolated_ops.vhost_set_vring_err = NULL;
    /* QEMU translates, logs and tracks; without these nobody asks. */
    isolated_ops.vhost_set_iotlb_callback = NULL;
    isolated_ops.vhost_send_device_iotlb_msg = NULL;
    isolated_ops.vhost_get_inflight_fd = NULL;
    isolated_ops.vhost_set_inflight_fd = NULL;
}

static int released_set_features(struct vhost_dev *dev, uint64_t features)
{
    return -ENOTCONN;
}

static int released_set_vring_enable(struct vhost_dev *dev, int enable)
{
    return 0;
}

/* All that is left for it is to be cleaned up: it cannot be started. */
static void released_ops_init(void)
{
    released_ops = isolated_ops;
    released_ops.vhost_set_features = released_set_features;
    released_ops.vhost_set_vring_enable = released_set_vring_enable;
    released_ops.vhost_backend_cleanup = user_ops.vhost_backend_cleanup;
}

void isolation_release_devs(VhostUserIsolation *iso)
{
    for (unsigned n = 0; n < iso->num_queues; n++) {
        if (iso->devs[n]) {
            iso->devs[n]->vhost_ops = &released_ops;
            iso->devs[n] = NULL;
        }
    }
}

bool vhost_user_isolation_init_dev(struct vhost_dev *dev,
                                   VhostUserState *user)
{
    VhostUserIsolation *iso = user->isolation;

    if (!iso) {
        return false;
    }
    assert(dev->vq_index < iso->num_queues);
    if (dev->vq_index == 0) {
        isolation_release_devs(iso);
        isolation_connection_drop(iso);
        iso->spent = false;
    }
    isolated_ops_init();
    released_ops_init();
    dev->vhost_ops = &isolated_ops;
    iso->devs[dev->vq_index] = dev;
    return true;
}
