/*
 * vDPA devices inside QEMU: requests of vhost-vdpa.
 *
 * What Linux would refuse is refused, and stands in the log with "refused".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "standard-headers/linux/virtio_ids.h"
#include "vdpa-inside.h"

#define BACKEND_FEATURES (BIT_ULL(VHOST_BACKEND_F_IOTLB_MSG_V2) | \
                          BIT_ULL(VHOST_BACKEND_F_IOTLB_BATCH) | \
                          BIT_ULL(VHOST_BACKEND_F_IOTLB_ASID) | \
                          BIT_ULL(VHOST_BACKEND_F_SUSPEND))

static int refuse(const Device *d, int error, const char *what)
{
    device_log(d, "refused: %s: %s", what, strerror(error));
    errno = error;
    return -1;
}

/* Requests about the device */

static int get_device_id(Device *d, void *arg)
{
    *(uint32_t *)arg = VIRTIO_ID_NET;
    return 0;
}

static int set_owner(Device *d, void *arg)
{
    return 0;
}

static int get_features(Device *d, void *arg)
{
    *(uint64_t *)arg = d->offered;
    return 0;
}

static int set_features(Device *d, void *arg)
{
    uint64_t features = *(uint64_t *)arg;

    if (d->status & VIRTIO_CONFIG_S_FEATURES_OK) {
        return refuse(d, EBUSY, "features that were agreed upon");
    }
    if (features & ~d->offered || !(features & BIT_ULL(VIRTIO_F_VERSION_1))) {
        return refuse(d, EOPNOTSUPP, "features");
    }
    d->features = features;
    return 0;
}

static int get_backend_features(Device *d, void *arg)
{
    *(uint64_t *)arg = BACKEND_FEATURES;
    return 0;
}

static int set_backend_features(Device *d, void *arg)
{
    d->backend_features = *(uint64_t *)arg;
    return d->backend_features & ~BACKEND_FEATURES
           ? refuse(d, EOPNOTSUPP, "backend features") : 0;
}

static int get_status(Device *d, void *arg)
{
    *(uint8_t *)arg = d->status;
    return 0;
}

static void reset(Device *d)
{
    queues_reset(d);
    d->features = 0;
    d->status = 0;
    d->suspended = false;
    memset(d->space, 0, sizeof(d->space));
    net_reset(d);
}

static int set_status(Device *d, void *arg)
{
    uint8_t status = *(uint8_t *)arg;

    if (!status) {
        reset(d);
        return 0;
    }
    if (d->status & ~status) {
        return refuse(d, EINVAL, "status that goes back");
    }
    d->status = status;
    queues_look(d);
    return 0;
}

static bool is_in_config(const struct vhost_vdpa_config *c)
{
    return c->len && c->off <= sizeof(struct virtio_net_config) &&
           c->len <= sizeof(struct virtio_net_config) - c->off;
}

static int get_config(Device *d, void *arg)
{
    struct vhost_vdpa_config *c = arg;

    if (!is_in_config(c)) {
        return refuse(d, E2BIG, "part of the configuration");
    }
    memcpy(c->buf, (uint8_t *)&d->config + c->off, c->len);
    return 0;
}

/* The one thing that can be written is the address. */
static int set_config(Device *d, void *arg)
{
    const struct vhost_vdpa_config *c = arg;

    if (!is_in_config(c) || c->off + c->len > sizeof(d->config.mac)) {
        return refuse(d, E2BIG, "part of the configuration");
    }
    memcpy(d->config.mac + c->off, c->buf, c->len);
    net_reset(d);
    return 0;
}

static int get_config_size(Device *d, void *arg)
{
    *(uint32_t *)arg = sizeof(d->config);
    return 0;
}

/* It never changes by itself. */
static int set_config_call(Device *d, void *arg)
{
    return 0;
}

static int get_iova_range(Device *d, void *arg)
{
    *(struct vhost_vdpa_iova_range *)arg = (struct vhost_vdpa_iova_range) {
        .last = (1ULL << 48) - 1,
    };
    return 0;
}

static int suspend(Device *d, void *arg)
{
    d->suspended = d->status & VIRTIO_CONFIG_S_DRIVER_OK;
    device_log(d, "suspended");
    return 0;
}

/* Requests about queues; all begin with the number of one */

static Queue *queue_of(Device *d, const void *arg)
{
    unsigned index = *(const unsigned *)arg;

    if (index >= num_queues(d)) {
        refuse(d, ENOBUFS, "number of a queue");
        return NULL;
    }
    return &d->queue[index];
}

/* Returns: a queue that is not at work, or NULL with errno set. */
static Queue *idle_queue_of(Device *d, const void *arg)
{
    Queue *q = queue_of(d, arg);

    if (q && q->on) {
        refuse(d, EINVAL, "change of a queue at work");
        return NULL;
    }
    return q;
}

static int get_vring_num(Device *d, void *arg)
{
    *(uint16_t *)arg = RING_MAX;
    return 0;
}

static int set_vring_num(Device *d, void *arg)
{
    const struct vhost_vring_state *s = arg;
    Queue *q = idle_queue_of(d, arg);

    if (!q) {
        return -1;
    }
    if (!s->num || s->num > RING_MAX || !is_power_of_2(s->num)) {
        return refuse(d, EINVAL, "size of a ring");
    }
    q->num = s->num;
    return 0;
}

static int set_vring_addr(Device *d, void *arg)
{
    Queue *q = idle_queue_of(d, arg);

    if (!q) {
        return -1;
    }
    q->addr = *(struct vhost_vring_addr *)arg;
    return 0;
}

static int set_vring_base(Device *d, void *arg)
{
    const struct vhost_vring_state *s = arg;
    Queue *q = idle_queue_of(d, arg);

    if (!q) {
        return -1;
    }
    if (!has_feature(d, VIRTIO_F_RING_PACKED) && s->num > UINT16_MAX) {
        return refuse(d, EINVAL, "base of a ring");
    }
    q->base = s->num;
    return 0;
}

static int get_vring_base(Device *d, void *arg)
{
    struct vhost_vring_state *s = arg;
    Queue *q = queue_of(d, arg);

    if (!q) {
        return -1;
    }
    if (q->on && !d->suspended) {
        return refuse(d, EINVAL, "base of a ring at work");
    }
    s->num = q->on ? mock_device_base(&q->ring) : q->base;
    return 0;
}

static int set_fd(int *fd, int theirs)
{
    close_fd(fd);
    if (theirs < 0) {
        return 0;
    }
    *fd = fcntl(theirs, F_DUPFD_CLOEXEC, 0);
    return *fd < 0 ? -1 : 0;
}

static int set_vring_kick(Device *d, void *arg)
{
    Queue *q = queue_of(d, arg);

    return q ? set_fd(&q->kick, ((struct vhost_vring_file *)arg)->fd) : -1;
}

static int set_vring_call(Device *d, void *arg)
{
    Queue *q = queue_of(d, arg);

    return q ? set_fd(&q->call, ((struct vhost_vring_file *)arg)->fd) : -1;
}

static int set_vring_enable(Device *d, void *arg)
{
    const struct vhost_vring_state *s = arg;
    Queue *q = queue_of(d, arg);

    if (!q) {
        return -1;
    }
    q->enabled = s->num;
    if (!q->enabled) {
        queue_off(d, s->index);
    }
    queues_look(d);
    return 0;
}

static int get_vqs_count(Device *d, void *arg)
{
    *(uint32_t *)arg = num_queues(d);
    return 0;
}

/* Requests about address spaces */

static int get_group_num(Device *d, void *arg)
{
    *(uint32_t *)arg = GROUPS;
    return 0;
}

static int get_as_num(Device *d, void *arg)
{
    *(unsigned *)arg = SPACES;
    return 0;
}

static int get_vring_group(Device *d, void *arg)
{
    struct vhost_vring_state *s = arg;

    if (!queue_of(d, arg)) {
        return -1;
    }
    s->num = queue_group(d, s->index);
    return 0;
}

static int set_group_asid(Device *d, void *arg)
{
    const struct vhost_vring_state *s = arg;

    if (s->index >= GROUPS || s->num >= SPACES ||
        d->status & VIRTIO_CONFIG_S_DRIVER_OK) {
        return refuse(d, EINVAL, "address space of a group");
    }
    d->space[s->index] = s->num;
    return 0;
}

static const struct {
    uint32_t request;
    int (*serve)(Device *d, void *arg);
} requests[] = {
    { VHOST_SET_OWNER, set_owner },
    { VHOST_GET_FEATURES, get_features },
    { VHOST_SET_FEATURES, set_features },
    { VHOST_GET_BACKEND_FEATURES, get_backend_features },
    { VHOST_SET_BACKEND_FEATURES, set_backend_features },
    { VHOST_VDPA_GET_DEVICE_ID, get_device_id },
    { VHOST_VDPA_GET_STATUS, get_status },
    { VHOST_VDPA_SET_STATUS, set_status },
    { VHOST_VDPA_GET_CONFIG, get_config },
    { VHOST_VDPA_SET_CONFIG, set_config },
    { VHOST_VDPA_GET_CONFIG_SIZE, get_config_size },
    { VHOST_VDPA_SET_CONFIG_CALL, set_config_call },
    { VHOST_VDPA_GET_IOVA_RANGE, get_iova_range },
    { VHOST_VDPA_SUSPEND, suspend },
    { VHOST_VDPA_GET_VRING_NUM, get_vring_num },
    { VHOST_SET_VRING_NUM, set_vring_num },
    { VHOST_SET_VRING_ADDR, set_vring_addr },
    { VHOST_SET_VRING_BASE, set_vring_base },
    { VHOST_GET_VRING_BASE, get_vring_base },
    { VHOST_SET_VRING_KICK, set_vring_kick },
    { VHOST_SET_VRING_CALL, set_vring_call },
    { VHOST_VDPA_SET_VRING_ENABLE, set_vring_enable },
    { VHOST_VDPA_GET_VQS_COUNT, get_vqs_count },
    { VHOST_VDPA_GET_GROUP_NUM, get_group_num },
    { VHOST_VDPA_GET_AS_NUM, get_as_num },
    { VHOST_VDPA_GET_VRING_GROUP, get_vring_group },
    { VHOST_VDPA_SET_GROUP_ASID, set_group_asid },
};

int serve_request(Device *d, uint32_t request, void *arg)
{
    g_autofree char *name = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        if (requests[i].request == request) {
            return requests[i].serve(d, arg);
        }
    }
    name = g_strdup_printf("request 0x%x", request);
    return refuse(d, ENOTTY, name);
}

ssize_t serve_message(Device *d, const void *bytes, size_t size)
{
    const struct vhost_msg_v2 *m = bytes;

    if (size != sizeof(*m) || m->type != VHOST_IOTLB_MSG_V2) {
        return refuse(d, EINVAL, "message");
    }
    if (memory_message(d, m->asid, &m->iotlb) < 0) {
        return refuse(d, errno, m->iotlb.type == VHOST_IOTLB_UPDATE
                      ? "mapping" : "message about memory");
    }
    return size;
}
