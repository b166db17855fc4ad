/*
 * vhost-user memory isolation: one connection, from its first message on.
 *
 * What a backend knows is one state (IsolationConnectionState), and what it
 * knows of each ring another (IsolationRingState); a step that is not in their
 * comments is a fault of ours and asserted.
 *
 * The region is laid out once, when the device first starts:
 *
 *   page 0            nothing, so that no descriptor has the offset 0
 *   rings             one a queue, page-aligned
 *   shares            one a queue, all the same size
 *
 * Shares are static.  Lending between queues would need a lock on the data
 * path, and a receive queue, whose buffers stay out for ever, would starve
 * the others.
 *
 * A region lives as long as its connection, and the backend is told of it
 * once: backends unmap at once under requests that are in flight, or ignore a
 * new descriptor at old addresses.  A new connection gets a new one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/qdev-core.h"
#include "hw/virtio/vhost-backend.h"
#include "standard-headers/linux/vhost_types.h"
#include "vhost-user-isolation-internal.h"
#include "trace.h"

#define PAGE BOUNCE_ALIGN_MAX

/* Of the vhost-user specification. */
#define SET_MEM_TABLE 5
#define SET_VRING_NUM 8

static const char *const state_names[] = {
    [ISOLATION_CONNECTION_NONE] = "none",
    [ISOLATION_CONNECTION_GREETED] = "greeted",
    [ISOLATION_CONNECTION_CHOSEN] = "chosen",
    [ISOLATION_CONNECTION_SHARED] = "shared",
    [ISOLATION_CONNECTION_LOST] = "lost",
};
QEMU_BUILD_BUG_ON(ARRAY_SIZE(state_names) != ISOLATION_CONNECTION__MAX);

static const char *connection_name(const VhostUserIsolation *iso)
{
    return iso->guest ? iso->guest->name : "";
}

static void connection_set_state(VhostUserIsolation *iso,
                                 IsolationConnectionState state)
{
    trace_vhost_user_isolation_connection(connection_name(iso),
                                          state_names[iso->state],
                                          state_names[state]);
    iso->state = state;
}

static void connection_step(VhostUserIsolation *iso,
                            IsolationConnectionState from,
                            IsolationConnectionState to)
{
    assert(iso->state == from);
    connection_set_state(iso, to);
}

void isolation_connection_set_ring(VhostUserIsolation *iso, unsigned n,
                                   IsolationRingState from,
                                   IsolationRingState to)
{
    assert(iso->rings[n] == from);
    iso->rings[n] = to;
}

void isolation_connection_rings_idle(VhostUserIsolation *iso)
{
    for (unsigned n = 0; n < iso->num_queues; n++) {
        iso->rings[n] = ISOLATION_RING_IDLE;
    }
}

bool isolation_connection_alive(const VhostUserIsolation *iso)
{
    return vhost_user_transport_alive(iso->transport);
}

bool isolation_connection_begin(VhostUserIsolation *iso, Error **errp)
{
    if (!vhost_user_transport_begin(iso->transport, errp)) {
        return false;
    }
    connection_step(iso, ISOLATION_CONNECTION_NONE,
                    ISOLATION_CONNECTION_GREETED);
    return true;
}

void isolation_connection_choose(VhostUserIsolation *iso, uint16_t device_id,
                                 bool version_1)
{
    if (iso->state != ISOLATION_CONNECTION_GREETED) {
        return;
    }
    iso->ring_bits =
        isolation_ring_features(&iso->user->isolation_config, device_id,
                                iso->offered, version_1);
    connection_step(iso, ISOLATION_CONNECTION_GREETED,
                    ISOLATION_CONNECTION_CHOSEN);
}

/* The largest ring of either format fits. */
static uint64_t ring_stride(void)
{
    ShadowRingLayout split = shadow_ring_layout(SHADOW_RING_SPLIT,
                                                ISOLATION_RING_MAX);
    ShadowRingLayout packed = shadow_ring_layout(SHADOW_RING_PACKED,
                                                 ISOLATION_RING_MAX);

    return ROUND_UP(MAX(split.bytes, packed.bytes), PAGE);
}

static uint64_t ring_offset(unsigned n)
{
    return PAGE + n * ring_stride();
}

/* Bytes of one queue's share of a region of @size. */
static uint64_t share_bytes(uint64_t size, unsigned num_queues)
{
    uint64_t rings = ring_offset(num_queues);

    return size > rings ? QEMU_ALIGN_DOWN((size - rings) / num_queues, PAGE)
                        : 0;
}

static uint64_t region_bytes(uint64_t share, unsigned num_queues)
{
    return ROUND_UP(ring_offset(num_queues) + num_queues * share,
                    BOUNCE_REGION_UNIT);
}

bool isolation_check_size(const VhostUserIsolationConfig *config,
                          unsigned num_queues, Error **errp)
{
    uint64_t min = region_bytes(ISOLATION_MIN_SHARE, num_queues);

    if (!config->size) {
        return true;
    }
    if (config->size < min) {
        error_setg(errp, "memory-isolation-size=%" PRIu64 " is too small for "
                   "%u queue(s): the least is %" PRIu64 " (%" PRIu64 "M)",
                   config->size, num_queues, min, min / MiB);
        return false;
    }
    if (config->size > ISOLATION_MAX_SIZE) {
        error_setg(errp, "memory-isolation-size=%" PRIu64 " is too large: the "
                   "most is %" PRIu64 "G", config->size,
                   (uint64_t)(ISOLATION_MAX_SIZE / GiB));
        return false;
    }
    return true;
}

static bool connection_make_region(VhostUserIsolation *iso, Error **errp)
{
    uint64_t size = iso->user->isolation_config.size;

    if (!size) {
        size = MIN(region_bytes(ISOLATION_DEFAULT_SHARE, iso->num_queues),
                   ISOLATION_MAX_SIZE);
    }
    iso->region = bounce_region_new(size, errp);
    if (iso->region) {
        trace_vhost_user_isolation_region(iso->guest->name, iso->region->size,
                                          iso->region->guest_base);
    }
    return iso->region;
}

int isolation_connection_share(VhostUserIsolation *iso, bool ack)
{
    struct QEMU_PACKED {
        uint32_t num_regions;
        uint32_t padding;
        uint64_t guest_base;
        uint64_t size;
        uint64_t user_base;
        uint64_t mmap_offset;
    } table = { .num_regions = 1 };
    Error *err = NULL;
    int ret = -ENOMEM;

    if (iso->state == ISOLATION_CONNECTION_SHARED) {
        return 0;
    }
    if (!connection_make_region(iso, &err)) {
        vhost_user_transport_report(iso->transport, "%s",
                                    error_get_pretty(err));
        error_free(err);
    } else {
        table.guest_base = iso->region->guest_base;
        table.size = iso->region->size;
        table.user_base = iso->region->user_base;
        ret = vhost_user_transport_request(iso->transport, SET_MEM_TABLE,
                                           &table, sizeof(table),
                                           iso->region->fd, ack);
    }
    if (ret < 0) {
        isolation_connection_lose(iso);
        return ret;
    }
    connection_step(iso, ISOLATION_CONNECTION_CHOSEN,
                    ISOLATION_CONNECTION_SHARED);
    return 0;
}

static ShadowRingFormat ring_format(const VhostUserIsolation *iso)
{
    return iso->ring_bits & BIT_ULL(VIRTIO_F_RING_PACKED) ? SHADOW_RING_PACKED
                                                          : SHADOW_RING_SPLIT;
}

ShadowRingLayout isolation_connection_layout(const VhostUserIsolation *iso,
                                             unsigned n)
{
    uint16_t size = shadow_ring_size(iso->links[n]->ring);
    ShadowRingLayout layout = shadow_ring_layout(ring_format(iso), size);

    layout.desc += ring_offset(n);
    layout.driver += ring_offset(n);
    layout.device += ring_offset(n);
    return layout;
}

static void link_free(IsolatedLink *link)
{
    if (!link) {
        return;
    }
    shadow_ring_free(link->ring);
    bounce_pool_free(link->pool);
    event_notifier_cleanup(&link->kick);
    event_notifier_cleanup(&link->call);
    g_free(link);
}

/*
 * Not the guest's: a longer chain than fits goes through an indirect table.
 * As long as backends of the type are known to take, or the user says, until
 * one refuses it.
 */
static uint16_t ring_size(const VhostUserIsolation *iso)
{
    uint16_t size = iso->user->isolation_config.ring_size;

    if (!size) {
        size = isolation_ring_size(iso->guest->vdev->device_id);
    }
    return MIN(size, iso->ring_limit);
}

/*
 * Backends that refuse a size say so or close the socket, and one that was
 * killed looks the same; so not if one has taken rings of that size before.
 */
static void connection_shorten_rings(VhostUserIsolation *iso)
{
    uint16_t size = iso->ring_told;

    if (size <= iso->ring_taken || size <= ISOLATION_RING_MIN) {
        return;
    }
    vhost_user_transport_report(iso->transport, "the backend does not take "
                                "rings of %u; it gets rings of %u when it "
                                "connects again (see "
                                "memory-isolation-ring-size)", size, size / 2);
    iso->ring_limit = size / 2;
}

int isolation_connection_tell_size(VhostUserIsolation *iso, unsigned n,
                                   bool ack)
{
    struct vhost_vring_state state = {
        .index = n,
        .num = shadow_ring_size(iso->links[n]->ring),
    };
    int ret;

    if (!iso->ring_told) {
        iso->ring_told = state.num;
    }
    ret = vhost_user_transport_request(iso->transport, SET_VRING_NUM, &state,
                                       sizeof(state), -1, ack);
    if (ret < 0) {
        isolation_connection_lose(iso);
    }
    return ret;
}

void isolation_connection_ring_started(VhostUserIsolation *iso, unsigned n)
{
    isolation_connection_set_ring(iso, n, ISOLATION_RING_TOLD,
                                  ISOLATION_RING_STARTED);
    iso->ring_taken = MAX(iso->ring_taken, iso->ring_told);
}

/* Its memory is zeros. */
static ShadowRing *link_ring_new(const VhostUserIsolation *iso, unsigned n)
{
    const ShadowRingConfig config = {
        .format = ring_format(iso),
        .size = ring_size(iso),
        .event_idx = iso->ring_bits & BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
        .indirect = iso->ring_bits & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
        .mem = iso->region->host + ring_offset(n),
    };

    return shadow_ring_new(&config);
}

static IsolatedLink *link_new(VhostUserIsolation *iso, unsigned n,
                              Error **errp)
{
    IsolatedLink *link = g_new0(IsolatedLink, 1);
    uint64_t share = share_bytes(iso->region->size, iso->num_queues);
    int ret;

    ret = event_notifier_init(&link->kick, 0);
    if (ret >= 0) {
        ret = event_notifier_init(&link->call, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "memory-isolation: no event notifier for "
                         "queue %u", n);
        link_free(link);
        return NULL;
    }
    link->region = iso->region;
    link->ring = link_ring_new(iso, n);
    link->pool = bounce_pool_new(ring_offset(iso->num_queues) + n * share,
                                 share, ring_size(iso));
    return link;
}

void isolation_connection_renew_ring(VhostUserIsolation *iso, unsigned n)
{
    IsolatedLink *link = iso->links[n];

    shadow_ring_free(link->ring);
    memset(iso->region->host + ring_offset(n), 0, ring_stride());
    link->ring = link_ring_new(iso, n);
}

IsolatedLink *isolation_connection_link(VhostUserIsolation *iso, unsigned n,
                                        Error **errp)
{
    assert(n < iso->num_queues && iso->region);
    if (!iso->links[n]) {
        iso->links[n] = link_new(iso, n, errp);
    }
    return iso->links[n];
}

void isolation_connection_lose(VhostUserIsolation *iso)
{
    if (iso->state == ISOLATION_CONNECTION_NONE) {
        return;
    }
    if (iso->state != ISOLATION_CONNECTION_LOST) {
        connection_set_state(iso, ISOLATION_CONNECTION_LOST);
    }
    vhost_user_transport_end(iso->transport);
}

void isolation_connection_end(VhostUserIsolation *iso)
{
    if (iso->state == ISOLATION_CONNECTION_NONE) {
        return;
    }
    connection_shorten_rings(iso);
    g_clear_pointer(&iso->channel, vhost_user_channel_free);
    vhost_user_transport_end(iso->transport);
    isolation_connection_rings_idle(iso);
    for (unsigned n = 0; n < iso->num_queues; n++) {
        g_clear_pointer(&iso->links[n], link_free);
    }
    g_clear_pointer(&iso->region, bounce_region_free);
    iso->offered = 0;
    iso->ring_bits = 0;
    iso->ring_told = 0;
    iso->config_changed = false;
    connection_set_state(iso, ISOLATION_CONNECTION_NONE);
}

int vhost_user_isolation_write(VhostUserState *user, const void *msg,
                               size_t size, const int *fds, unsigned num_fds)
{
    memcpy(&user->isolation->asked, msg, sizeof(user->isolation->asked));
    return vhost_user_transport_write(user->isolation->transport, msg, size,
                                      fds, num_fds);
}

/*
 * vhost-user returns an error for an answer of another size, and not always;
 * but a backend that broke a rule once is not asked again.
 */
int vhost_user_isolation_read(VhostUserState *user, void *msg, size_t max)
{
    const VhostUserIsolation *iso = user->isolation;
    int ret = vhost_user_transport_read(iso->transport, msg, max);

    if (ret >= 0 && !isolation_answer_fits(&iso->asked,
                                           ((VhostUserMessage *)msg)->size)) {
        return vhost_user_transport_fail(iso->transport, -EPROTO, "its answer "
                                         "has another size than was asked "
                                         "for");
    }
    return ret;
}

/* What it leads to can be the end of the device, and of @iso. */
static void connection_config_changed(void *opaque)
{
    VhostUserIsolation *iso = opaque;
    struct vhost_dev *dev = iso->devs[0];

    if (dev && dev->config_ops &&
        dev->config_ops->vhost_dev_config_notifier &&
        isolation_connection_alive(iso)) {
        iso->config_changed = true;
        dev->config_ops->vhost_dev_config_notifier(dev);
    }
}

/* A device whose configuration is QEMU's has nothing to be told of. */
static bool dev_listens(const struct vhost_dev *dev)
{
    return virtio_has_feature(dev->protocol_features,
                              VHOST_USER_PROTOCOL_F_CONFIG);
}

int vhost_user_isolation_setup_channel(struct vhost_dev *dev)
{
    VhostUserIsolation *iso = vhost_user_get_state(dev)->isolation;
    bool ack = virtio_has_feature(dev->protocol_features,
                                  VHOST_USER_PROTOCOL_F_REPLY_ACK);

    if (!dev_listens(dev) ||
        !virtio_has_feature(dev->protocol_features,
                            VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
        return 0;
    }
    iso->channel = vhost_user_channel_new(iso->transport, ack,
                                          connection_config_changed, iso);
    return iso->channel ? 0 : -EPROTO;
}

bool vhost_user_isolation_retries(VhostUserState *user, Error **errp)
{
    const VhostUserIsolation *iso = user->isolation;
    const char *why;

    if (!iso) {
        return true;
    }
    if (!iso->refused && !phase_check(PHASE_MACHINE_READY)) {
        vhost_user_pace_wait(iso->pace);
        return true;
    }
    why = vhost_user_transport_why(iso->transport);
    error_setg(errp, "memory-isolation: %s", why ? why : "the backend cannot "
               "be used, as was reported");
    return false;
}
