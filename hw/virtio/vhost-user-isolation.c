/*
 * vhost-user memory isolation: the operations between vhost and vhost-user.
 *
 * An isolated vhost_dev has a table of its own.  Its entries are ours where
 * vhost-user's would tell the backend about guest memory, rings, and the
 * guest's notifiers, or do what QEMU does itself now; the others pass on to
 * vhost-user's.  What is not in the table nobody asks for.
 *
 * Guest RAM cannot be sent, because it is in no table: SET_MEM_TABLE has the
 * region of this connection and nothing else.
 *
 * Every message goes through the transport (vhost-user-transport.c), whoever
 * writes it.  A connection that is lost fails each of them at once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/vhost-backend.h"
#include "standard-headers/linux/vhost_types.h"
#include "vhost-user-isolation-internal.h"
#include "trace.h"

static VhostUserIsolation *isolation_of(struct vhost_dev *dev)
{
    return vhost_user_get_state(dev)->isolation;
}

static bool dev_acks(const struct vhost_dev *dev)
{
    return virtio_has_feature(dev->protocol_features,
                              VHOST_USER_PROTOCOL_F_REPLY_ACK);
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

static void connection_end(VhostUserIsolation *iso)
{
    if (iso->guest) {
        isolation_guest_disconnect(iso->guest);
    }
    isolation_connection_end(iso);
}

static int op_backend_cleanup(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = isolation_of(dev);

    assert(iso->devs[dev->vq_index] == dev);
    iso->devs[dev->vq_index] = NULL;
    if (!connection_has_devs(iso)) {
        connection_end(iso);
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
    uint64_t offered;
    int ret = user_ops.vhost_get_features(dev, &offered);

    if (ret < 0) {
        return ret;
    }
    if (iso->state == ISOLATION_CONNECTION_GREETED) {
        iso->offered = offered;
        iso->seen |= offered;
    }
    *features = isolation_offered_features(
        iso->guest ? iso->guest->vdev->host_features : UINT64_MAX, offered);
    return 0;
}

/* Packed rings were asked for, or came with the driver before this one. */
static bool rings_are_packed(const VhostUserIsolation *iso)
{
    return iso->state == ISOLATION_CONNECTION_GREETED ?
           iso->user->isolation_config.packed == ON_OFF_AUTO_ON :
           iso->ring_bits & BIT_ULL(VIRTIO_F_RING_PACKED);
}

/* The next connection can have others. */
static int refuse_driver(VhostUserIsolation *iso, const char *why)
{
    vhost_user_transport_report(iso->transport, "%s", why);
    isolation_connection_lose(iso);
    return -ENOTSUP;
}

/* A driver chooses once; the next backend may have what this one lacks. */
static int refuse_backend(VhostUserIsolation *iso, uint64_t lacking)
{
    vhost_user_transport_report(iso->transport, "the backend lacks features "
                                "that the driver uses (0x%" PRIx64 "); one "
                                "that has them is waited for, or a reset",
                                lacking);
    isolation_connection_lose(iso);
    return -ENOTSUP;
}

static int op_set_features(struct vhost_dev *dev, uint64_t features)
{
    VhostUserIsolation *iso = isolation_of(dev);
    uint16_t device_id = iso->guest->vdev->device_id;
    uint64_t lacking;

    features = isolation_payload_features(device_id, features, iso->offered);
    lacking = isolation_lacking_features(features, iso->seen, iso->offered);
    if (lacking) {
        return refuse_backend(iso, lacking);
    }
    if (!(features & BIT_ULL(VIRTIO_F_VERSION_1)) && rings_are_packed(iso)) {
        return refuse_driver(iso, "a driver older than virtio 1.0 cannot be "
                             "served on packed rings");
    }
    isolation_connection_choose(iso, device_id,
                                features & BIT_ULL(VIRTIO_F_VERSION_1));
    features |= iso->ring_bits;
    trace_vhost_user_isolation_features(iso->guest->name, iso->offered,
                                        features);
    return user_ops.vhost_set_features(dev, features);
}

static int op_set_mem_table(struct vhost_dev *dev, struct vhost_memory *mem)
{
    VhostUserIsolation *iso = isolation_of(dev);

    if (iso->state < ISOLATION_CONNECTION_CHOSEN ||
        iso->state == ISOLATION_CONNECTION_LOST) {
        return -ENOTCONN;
    }
    return isolation_connection_share(iso, dev_acks(dev));
}

static int op_set_vring_endian(struct vhost_dev *dev,
                               struct vhost_vring_state *ring)
{
    return refuse_driver(isolation_of(dev), "a driver older than virtio 1.0 "
                         "of another byte order than the host's cannot be "
                         "served; use disable-legacy=on or "
                         "memory-isolation=off");
}

/*
 * A backend may have no answer; but each one that the backend itself has asked
 * for would be a line in the log, as often as it likes.
 */
static int op_get_config(struct vhost_dev *dev, uint8_t *config,
                         uint32_t config_len, Error **errp)
{
    VhostUserIsolation *iso = isolation_of(dev);
    bool changed = iso->config_changed;
    int ret;

    iso->config_changed = false;
    ret = user_ops.vhost_get_config(dev, config, config_len, errp);
    if (ret < 0 && changed) {
        vhost_user_transport_fail(iso->transport, ret, "it does not tell the "
                                  "configuration that it says has changed");
    }
    return ret;
}

/* Nothing of ours is to be done for these. */

static int op_set_owner(struct vhost_dev *dev)
{
    return user_ops.vhost_set_owner(dev);
}

static int op_get_vq_index(struct vhost_dev *dev, int idx)
{
    return user_ops.vhost_get_vq_index(dev, idx);
}

static int op_migration_done(struct vhost_dev *dev, char *mac_addr)
{
    return user_ops.vhost_migration_done(dev, mac_addr);
}

static int op_net_set_mtu(struct vhost_dev *dev, uint16_t mtu)
{
    return user_ops.vhost_net_set_mtu(dev, mtu);
}

static int op_set_config(struct vhost_dev *dev, const uint8_t *data,
                         uint32_t offset, uint32_t size, uint32_t flags)
{
    return user_ops.vhost_set_config(dev, data, offset, size, flags);
}

static int op_crypto_create_session(struct vhost_dev *dev, void *session_info,
                                    uint64_t *session_id)
{
    return user_ops.vhost_crypto_create_session(dev, session_info, session_id);
}

static int op_crypto_close_session(struct vhost_dev *dev, uint64_t session_id)
{
    return user_ops.vhost_crypto_close_session(dev, session_id);
}

static bool op_supports_device_state(struct vhost_dev *dev)
{
    return user_ops.vhost_supports_device_state(dev);
}

/* A pipe of the backend's own is refused: vhost-user finds no descriptor. */
static int op_set_device_state_fd(struct vhost_dev *dev,
                                  VhostDeviceStateDirection direction,
                                  VhostDeviceStatePhase phase, int fd,
                                  int *reply_fd, Error **errp)
{
    return user_ops.vhost_set_device_state_fd(dev, direction, phase, fd,
                                              reply_fd, errp);
}

static bool op_wait_device_state(struct vhost_dev *dev, int fd, int events,
                                 int64_t begun_ns, Error **errp)
{
    return vhost_user_transport_wait(isolation_of(dev)->transport, fd, events,
                                     begun_ns, errp);
}

static int op_check_device_state(struct vhost_dev *dev, Error **errp)
{
    return user_ops.vhost_check_device_state(dev, errp);
}

/*
 * Not here: SET_VRING_ERR, only for debugging, where QEMU would read one more
 * eventfd of the backend's; IOTLB, dirty log and in-flight tracking, which
 * QEMU does itself.
 */
static const VhostOps isolated_ops = {
    .backend_type = VHOST_BACKEND_TYPE_USER,
    .no_guest_memory = true,
    .vhost_backend_cleanup = op_backend_cleanup,
    .vhost_backend_memslots_limit = op_memslots_limit,
    .vhost_backend_no_private_memslots = op_no_private_memslots,
    .vhost_set_log_base = op_set_log_base,
    .vhost_set_mem_table = op_set_mem_table,
    .vhost_set_vring_addr = isolation_op_set_vring_addr,
    .vhost_set_vring_endian = op_set_vring_endian,
    .vhost_set_vring_num = isolation_op_set_vring_num,
    .vhost_set_vring_base = isolation_op_set_vring_base,
    .vhost_get_vring_base = isolation_op_get_vring_base,
    .vhost_set_vring_kick = isolation_op_set_vring_kick,
    .vhost_set_vring_call = isolation_op_set_vring_call,
    .vhost_set_features = op_set_features,
    .vhost_get_features = op_get_features,
    .vhost_set_owner = op_set_owner,
    .vhost_reset_device = isolation_op_reset_device,
    .vhost_get_vq_index = op_get_vq_index,
    .vhost_set_vring_enable = isolation_op_set_vring_enable,
    .vhost_requires_shm_log = op_requires_shm_log,
    .vhost_migration_done = op_migration_done,
    .vhost_net_set_mtu = op_net_set_mtu,
    .vhost_get_config = op_get_config,
    .vhost_set_config = op_set_config,
    .vhost_crypto_create_session = op_crypto_create_session,
    .vhost_crypto_close_session = op_crypto_close_session,
    .vhost_dev_start = isolation_op_dev_start,
    .vhost_reset_status = isolation_op_reset_status,
    .vhost_supports_device_state = op_supports_device_state,
    .vhost_set_device_state_fd = op_set_device_state_fd,
    .vhost_wait_device_state = op_wait_device_state,
    .vhost_check_device_state = op_check_device_state,
};

static int released_backend_cleanup(struct vhost_dev *dev)
{
    return user_ops.vhost_backend_cleanup(dev);
}

static int released_set_features(struct vhost_dev *dev, uint64_t features)
{
    return -ENOTCONN;
}

static int released_get_vring_base(struct vhost_dev *dev,
                                   struct vhost_vring_state *ring)
{
    if (dev->vdev) {
        ring->num = virtio_queue_get_last_avail_idx(dev->vdev, ring->index);
    }
    return 0;
}

static int released_set_vring_enable(struct vhost_dev *dev, int enable)
{
    return 0;
}

/*
 * Of a vhost_dev that its connection has let go.  All that is left for it is
 * to be cleaned up; a start ends at its first operation.
 */
static const VhostOps released_ops = {
    .backend_type = VHOST_BACKEND_TYPE_USER,
    .no_guest_memory = true,
    .vhost_backend_cleanup = released_backend_cleanup,
    .vhost_get_vring_base = released_get_vring_base,
    .vhost_set_features = released_set_features,
    .vhost_get_vq_index = op_get_vq_index,
    .vhost_set_vring_call = isolation_op_set_vring_call,
    .vhost_set_vring_enable = released_set_vring_enable,
};

void isolation_release_devs(VhostUserIsolation *iso)
{
    for (unsigned n = 0; n < iso->num_queues; n++) {
        if (iso->devs[n]) {
            iso->devs[n]->vhost_ops = &released_ops;
            iso->devs[n] = NULL;
        }
    }
}

bool vhost_user_isolation_connect(struct vhost_dev *dev, VhostUserState *user,
                                  Error **errp)
{
    VhostUserIsolation *iso = user->isolation;

    if (!iso) {
        return vhost_user_isolation_may_share(user, errp);
    }
    assert(dev->vq_index < iso->num_queues);
    if (dev->vq_index == 0) {
        isolation_release_devs(iso);
        connection_end(iso);
        if (!isolation_connection_begin(iso, errp)) {
            return false;
        }
    }
    dev->vhost_ops = &isolated_ops;
    iso->devs[dev->vq_index] = dev;
    return true;
}

int vhost_user_isolation_connected(struct vhost_dev *dev, uint64_t features,
                                   Error **errp)
{
    VhostUserIsolation *iso = isolation_of(dev);
    Error *err = NULL;

    if (isolation_check_pins(&iso->user->isolation_config, features, &err)) {
        return 0;
    }
    iso->refused = true;
    vhost_user_transport_set_why(iso->transport, error_get_pretty(err));
    error_propagate(errp, err);
    return -ENOTSUP;
}
