/*
 * Fuzzing messages: a device of QEMU's.
 *
 * Its vhost_devs, connection and transport are the real ones.  It calls their
 * operations in the order of vhost.c, which would need a machine, and goes on
 * after an error as that does.  Its queues and the guest are not there; what a
 * backend does to rings is fuzz-queue.c's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "chardev/char-socket.h"
#include "hw/virtio/vhost-backend.h"
#include "standard-headers/linux/vhost_types.h"
#include "standard-headers/linux/virtio_crypto.h"
#include "standard-headers/linux/virtio_ids.h"
#include "system/cryptodev.h"
#include "messages.h"

/* The most that a configuration space can have. */
#define CONFIG_MAX 256

static VhostUserTransport *transport_of(const FuzzDevice *d)
{
    return d->user.isolation->transport;
}

/*
 * An answer that was no answer is the last one.  @ret is what an operation
 * came to.
 */
static int device_done(FuzzDevice *d, int ret)
{
    if (ret == -EPROTO || ret == -ETIMEDOUT || ret == -EPIPE) {
        g_assert_false(vhost_user_transport_alive(transport_of(d)));
    }
    return ret;
}

/* As vhost_virtqueue_start() does. */
static int ring_start(FuzzDevice *d, struct vhost_dev *dev, unsigned n)
{
    struct vhost_vring_state state = { .index = n, .num = 256 };
    struct vhost_vring_addr addr = { .index = n };
    struct vhost_vring_file file = { .index = n };
    int ret = device_done(d, dev->vhost_ops->vhost_set_vring_num(dev, &state));

    if (ret == 0) {
        ret = device_done(d, dev->vhost_ops->vhost_set_vring_base(dev,
                                                                  &state));
    }
    if (ret == 0) {
        ret = device_done(d, dev->vhost_ops->vhost_set_vring_addr(dev, &addr));
    }
    if (ret == 0) {
        ret = device_done(d, dev->vhost_ops->vhost_set_vring_kick(dev, &file));
    }
    return ret;
}

static void ring_stop(FuzzDevice *d, struct vhost_dev *dev, unsigned n)
{
    struct vhost_vring_state state = { .index = n };

    device_done(d, dev->vhost_ops->vhost_get_vring_base(dev, &state));
}

/* As vhost_dev_stop() does. */
static void dev_stop(FuzzDevice *d, struct vhost_dev *dev)
{
    device_done(d, dev->vhost_ops->vhost_dev_start(dev, false));
    device_done(d, dev->vhost_ops->vhost_set_vring_enable(dev, false));
    for (unsigned n = 0; n < dev->nvqs; n++) {
        ring_stop(d, dev, dev->vq_index + n);
    }
    if (dev->vhost_ops->vhost_reset_status) {
        dev->vhost_ops->vhost_reset_status(dev);
    }
    dev->started = false;
}

/* As vhost_dev_start() does. */
static bool dev_start(FuzzDevice *d, struct vhost_dev *dev, uint64_t features)
{
    unsigned n = 0;
    int ret = device_done(d, dev->vhost_ops->vhost_set_features(dev, features));

    if (ret >= 0) {
        ret = device_done(d, dev->vhost_ops->vhost_set_mem_table(dev, NULL));
    }
    if (ret < 0) {
        return false;
    }
    while (n < dev->nvqs && ret >= 0) {
        ret = ring_start(d, dev, dev->vq_index + n);
        n += ret >= 0;
    }
    if (ret >= 0) {
        ret = dev->vhost_ops->vhost_set_vring_enable(dev, true);
        device_done(d, ret);
    }
    if (ret >= 0 || ret == -EINVAL) {
        ret = device_done(d, dev->vhost_ops->vhost_dev_start(dev, true));
        dev->started = ret >= 0;
    }
    while (ret < 0 && n--) {
        ring_stop(d, dev, dev->vq_index + n);
    }
    return dev->started;
}

static void device_stop(FuzzDevice *d)
{
    for (unsigned i = 0; i < d->num_devs; i++) {
        if (d->devs[i].started) {
            dev_stop(d, &d->devs[i]);
        }
    }
    d->started = false;
}

static void device_start(FuzzDevice *d, FuzzInput *in)
{
    uint64_t features = BIT_ULL(VIRTIO_F_VERSION_1) |
                        (uint64_t)fuzz_u8(in) << 24;

    d->started = true;
    for (unsigned i = 0; i < d->num_devs && d->started; i++) {
        d->started = dev_start(d, &d->devs[i], features);
    }
    if (!d->started) {
        device_stop(d);
    }
}

/* As a device with a configuration does. */
static int config_changed(struct vhost_dev *dev)
{
    uint8_t config[CONFIG_MAX];
    Error *err = NULL;
    int ret = dev->vhost_ops->vhost_get_config(dev, config, 60, &err);

    if (ret < 0) {
        error_report_err(err);
    }
    return ret;
}

static const VhostDevConfigOps config_ops = {
    .vhost_dev_config_notifier = config_changed,
};

/* As vhost_dev_cleanup() does. */
static void dev_cleanup(struct vhost_dev *dev)
{
    if (dev->vhost_ops) {
        dev->vhost_ops->vhost_backend_cleanup(dev);
    }
    memset(dev, 0, sizeof(*dev));
}

static void device_disconnect(FuzzDevice *d)
{
    device_stop(d);
    for (unsigned i = 0; i < d->num_devs; i++) {
        dev_cleanup(&d->devs[i]);
    }
    g_assert_cmpint(d->user.isolation->state, ==, ISOLATION_CONNECTION_NONE);
    g_assert_null(d->user.isolation->channel);
    g_assert_null(d->user.isolation->region);
    g_assert_false(vhost_user_transport_alive(transport_of(d)));
}

/* As vhost_dev_init() does. */
static bool dev_init(FuzzDevice *d, unsigned i, Error **errp)
{
    struct vhost_dev *dev = &d->devs[i];
    uint64_t features;
    int ret;

    *dev = (struct vhost_dev) {
        .nvqs = FUZZ_DEV_QUEUES,
        .vqs = d->vqs[i],
        .vq_index = i * FUZZ_DEV_QUEUES,
        .vq_index_end = d->num_devs * FUZZ_DEV_QUEUES,
        .config_ops = d->has_config ? &config_ops : NULL,
        .vdev = &d->vdev,
        .vhost_ops = &user_ops,
    };
    /* It can fail because of what the backend does not offer. */
    ret = dev->vhost_ops->vhost_backend_init(dev, &d->user, errp);
    if (ret >= 0) {
        ret = device_done(d, dev->vhost_ops->vhost_set_owner(dev));
    }
    if (ret >= 0) {
        ret = device_done(d, dev->vhost_ops->vhost_get_features(dev,
                                                                &features));
        dev->features = ret >= 0 ? features : 0;
    }
    return ret >= 0;
}

static void device_connect(FuzzDevice *d)
{
    Error *err = NULL;
    bool good = true;

    for (unsigned i = 0; i < d->num_devs && good; i++) {
        good = dev_init(d, i, &err);
    }
    error_free(err);
    if (!good) {
        qemu_chr_fe_disconnect(&d->be);
    }
}

static void device_event(void *opaque, QEMUChrEvent event)
{
    FuzzDevice *d = opaque;

    if (event == CHR_EVENT_OPENED && !d->connected) {
        if (vhost_user_isolation_rests(&d->user)) {
            return;
        }
        d->connected = true;
        world_asked();
        device_connect(d);
    } else if (event == CHR_EVENT_CLOSED && d->connected) {
        /* Not below anything that talks to the backend. */
        g_assert_false(d->busy);
        device_disconnect(d);
        d->connected = false;
    }
}

void device_realize(FuzzDevice *d, FuzzInput *in)
{
    static const uint16_t ids[] = {
        VIRTIO_ID_NET, VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_CRYPTO,
        VIRTIO_ID_GPIO, VIRTIO_ID_SCSI, VIRTIO_ID_INPUT, VIRTIO_ID_SOUND,
    };
    uint8_t bits = fuzz_u8(in);
    uint8_t more = fuzz_u8(in);

    d->num_devs = 1 + (bits >> 3 & 1);
    d->has_config = bits & 0x10;
    d->vdev.device_id = ids[bits & 7];
    d->vdev.name = "fuzz";
    d->vdev.host_features = UINT64_MAX;
    d->guest.vdev = &d->vdev;
    d->guest.name = (char *)"fuzz";
    d->guest.num_queues = d->num_devs * FUZZ_DEV_QUEUES;
    d->guest.queues = d->queues;
    vhost_user_isolation_config_init(&d->user.isolation_config);
    d->user.isolation_config.enabled = true;
    d->user.isolation_config.decided = true;
    d->user.isolation_config.timeout_ms = FUZZ_TIMEOUT_MS;
    d->user.isolation_config.size = 16 * MiB;
    d->user.isolation_config.ring_size = bits & 0x20 ? 1 << (more & 7) : 0;
    d->user.isolation_config.packed = (more >> 3 & 3) % ON_OFF_AUTO__MAX;
    d->user.supports_config = bits & 0x40;
    d->chr = CHARDEV(object_new(TYPE_CHARDEV_SOCKET));
    d->chr->label = g_strdup("fuzz");
    qemu_chr_fe_init(&d->be, d->chr, &error_abort);
    vhost_user_init(&d->user, &d->be, &error_abort);
    vhost_user_isolation_init(&d->user, d->guest.num_queues, &error_abort);
    d->user.isolation->guest = &d->guest;
    d->guest.iso = d->user.isolation;
    qemu_chr_fe_set_handlers(&d->be, NULL, NULL, device_event, NULL, d, NULL,
                             true);
}

void device_unplug(FuzzDevice *d)
{
    qemu_chr_fe_set_handlers(&d->be, NULL, NULL, NULL, NULL, NULL, NULL,
                             false);
    if (d->connected) {
        device_disconnect(d);
    }
    vhost_user_cleanup(&d->user);
    g_assert_null(d->guest.iso);
    g_assert_false(qemu_chr_fe_backend_open(&d->be));
    qemu_chr_fe_deinit(&d->be, true);
}

bool device_plug_socket(FuzzDevice *d, int take_fd)
{
    if (qemu_chr_add_client(d->chr, take_fd) < 0) {
        close(take_fd);
        return false;
    }
    return true;
}

static void read_config(FuzzDevice *d, FuzzInput *in)
{
    struct vhost_dev *dev = &d->devs[0];
    uint8_t config[CONFIG_MAX];

    /* There may be none, which is no fault. */
    dev->vhost_ops->vhost_get_config(dev, config, fuzz_u8(in), NULL);
}

static void write_config(FuzzDevice *d, FuzzInput *in)
{
    struct vhost_dev *dev = &d->devs[0];
    uint8_t config[CONFIG_MAX] = { };

    device_done(d, dev->vhost_ops->vhost_set_config(
        dev, config, fuzz_u8(in), fuzz_u8(in),
        VHOST_SET_CONFIG_TYPE_FRONTEND));
}

static void crypto(FuzzDevice *d, FuzzInput *in)
{
    struct vhost_dev *dev = &d->devs[d->num_devs - 1];
    uint8_t key[64] = { };
    CryptoDevBackendSessionInfo info = {
        .op_code = VIRTIO_CRYPTO_CIPHER_CREATE_SESSION,
        .u.sym_sess_info.cipher_key = key,
        .u.sym_sess_info.key_len = fuzz_u8(in) % sizeof(key),
    };
    uint64_t id;

    if (dev->vhost_ops->vhost_crypto_create_session(dev, &info, &id) >= 0) {
        dev->vhost_ops->vhost_crypto_close_session(dev, id);
    }
}

/*
 * As vhost_save_backend_state() and vhost_load_backend_state() do: bytes as
 * long as there are some, or a few of them.
 */
static bool transfer(FuzzDevice *d, int fd, bool save)
{
    const VhostOps *ops = d->devs[0].vhost_ops;
    int64_t begun = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    char buf[4096] = { };

    for (unsigned i = 0; save || i < 40; i++) {
        Error *err = NULL;
        ssize_t len;

        world_pipe();
        if (!ops->vhost_wait_device_state(&d->devs[0], fd,
                                          save ? G_IO_IN : G_IO_OUT, begun,
                                          &err)) {
            error_free(err);
            return false;
        }
        len = save ? read(fd, buf, sizeof(buf)) : write(fd, buf, sizeof(buf));
        if (len <= 0) {
            return len == 0;
        }
    }
    return true;
}

static void move_state(FuzzDevice *d, FuzzInput *in)
{
    struct vhost_dev *dev = &d->devs[0];
    bool save = fuzz_u8(in) & 1;
    int64_t waited = world_waited();
    int reply_fd = -1;
    int fds[2];

    if (d->started || !dev->vhost_ops->vhost_supports_device_state(dev) ||
        pipe2(fds, O_CLOEXEC) < 0) {
        return;
    }
    if (device_done(d, dev->vhost_ops->vhost_set_device_state_fd(
            dev, save ? VHOST_TRANSFER_STATE_DIRECTION_SAVE :
                        VHOST_TRANSFER_STATE_DIRECTION_LOAD,
            VHOST_TRANSFER_STATE_PHASE_STOPPED, fds[save], &reply_fd,
            NULL)) >= 0 && transfer(d, fds[!save], save)) {
        dev->vhost_ops->vhost_check_device_state(dev, NULL);
    }
    /* A pipe of the backend's own could block. */
    g_assert_cmpint(reply_fd, ==, -1);
    g_assert_cmpint(world_waited() - waited, <=,
                    (2 + VHOST_USER_TRANSPORT_LATE) * FUZZ_TIMEOUT_MS *
                    (int64_t)SCALE_MS);
    close(fds[!save]);
}

static void ask(FuzzDevice *d, unsigned which)
{
    struct vhost_dev *dev = &d->devs[which % d->num_devs];
    struct vhost_vring_state state = { .index = dev->vq_index };
    char mac[6] = { };
    uint64_t features;

    switch (which % 7) {
    case 0:
        device_done(d, dev->vhost_ops->vhost_get_features(dev, &features));
        break;
    case 1:
        device_done(d, dev->vhost_ops->vhost_get_vring_base(dev, &state));
        break;
    case 2:
        device_done(d, dev->vhost_ops->vhost_net_set_mtu(dev, 1500));
        break;
    case 3:
        dev->vhost_ops->vhost_migration_done(dev, mac);
        break;
    case 4:
        device_done(d, dev->vhost_ops->vhost_reset_device(dev));
        break;
    case 5:
        dev->vhost_ops->vhost_reset_status(dev);
        break;
    default:
        device_done(d, dev->vhost_ops->vhost_set_vring_enable(dev, which & 8));
        break;
    }
}

void device_move(FuzzDevice *d, unsigned which, FuzzInput *in)
{
    if (!d->connected) {
        return;
    }
    d->busy = true;
    world_asked();
    switch (which) {
    case 0:
    case 1:
        if (d->started) {
            device_stop(d);
        } else {
            device_start(d, in);
        }
        break;
    case 2:
        read_config(d, in);
        break;
    case 3:
        write_config(d, in);
        break;
    case 4:
        crypto(d, in);
        break;
    case 5:
        move_state(d, in);
        break;
    default:
        ask(d, fuzz_u8(in));
        break;
    }
    d->busy = false;
}

void device_check(FuzzDevice *d)
{
    world_check();
    g_assert_true(d->connected || !vhost_user_transport_alive(transport_of(d)));
    if (d->connected && !vhost_user_transport_alive(transport_of(d))) {
        /* It takes the main loop's bottom halves, and the chardev's watch. */
        for (unsigned i = 0; i < 3 && d->connected; i++) {
            world_turn();
        }
        g_assert_false(d->connected);
    }
}
