/*
 * vhost-user memory isolation: what belongs to one connection.
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
#include "vhost-user-isolation-internal.h"
#include "trace.h"

#define PAGE BOUNCE_ALIGN_MAX

/* The largest ring of either format fits. */
static uint64_t ring_stride(void)
{
    ShadowRingLayout split = shadow_ring_layout(SHADOW_RING_SPLIT,
                                                ISOLATION_RING_SIZE);
    ShadowRingLayout packed = shadow_ring_layout(SHADOW_RING_PACKED,
                                                 ISOLATION_RING_SIZE);

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

BounceRegion *isolation_region_get(VhostUserIsolation *iso, Error **errp)
{
    uint64_t size = iso->user->isolation_config.size;

    if (iso->region) {
        return iso->region;
    }
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

static ShadowRingFormat ring_format(const VhostUserIsolation *iso)
{
    return iso->ring_bits & BIT_ULL(VIRTIO_F_RING_PACKED) ? SHADOW_RING_PACKED
                                                          : SHADOW_RING_SPLIT;
}

ShadowRingLayout isolation_link_layout(const VhostUserIsolation *iso,
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
 * As large as the guest's can be: some backends refuse more than they have
 * announced, and this much they were built for.
 */
static uint16_t ring_size(const VhostUserIsolation *iso, unsigned n)
{
    return pow2floor(virtio_queue_get_max_num(iso->guest->vdev, n));
}

/* Its memory is zeros. */
static ShadowRing *link_ring_new(const VhostUserIsolation *iso, unsigned n)
{
    const ShadowRingConfig config = {
        .format = ring_format(iso),
        .size = ring_size(iso, n),
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
                                 share, ring_size(iso, n));
    return link;
}

void isolation_link_renew(VhostUserIsolation *iso, unsigned n)
{
    IsolatedLink *link = iso->links[n];

    shadow_ring_free(link->ring);
    memset(iso->region->host + ring_offset(n), 0, ring_stride());
    link->ring = link_ring_new(iso, n);
}

IsolatedLink *isolation_link_get(VhostUserIsolation *iso, unsigned n,
                                 Error **errp)
{
    assert(n < iso->num_queues && iso->region);
    if (!iso->links[n]) {
        iso->links[n] = link_new(iso, n, errp);
    }
    return iso->links[n];
}

bool isolation_connected(const VhostUserIsolation *iso)
{
    return qemu_chr_fe_backend_open(iso->user->chr);
}

void isolation_disconnect(VhostUserIsolation *iso)
{
    if (isolation_connected(iso)) {
        qemu_chr_fe_disconnect(iso->user->chr);
    }
}

static void guest_lose_links(VirtIOIsolation *guest)
{
    isolation_guest_pause(guest);
    bitmap_zero(guest->started, VIRTIO_QUEUE_MAX);
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_disconnect(guest->queues[n]);
    }
}

void isolation_connection_drop(VhostUserIsolation *iso)
{
    if (iso->guest) {
        guest_lose_links(iso->guest);
    }
    bitmap_zero(iso->prepared, VIRTIO_QUEUE_MAX);
    bitmap_zero(iso->stopping, VIRTIO_QUEUE_MAX);
    for (unsigned n = 0; n < iso->num_queues; n++) {
        g_clear_pointer(&iso->links[n], link_free);
    }
    g_clear_pointer(&iso->region, bounce_region_free);
    iso->table_sent = false;
    iso->rings_chosen = false;
    iso->lost = false;
    iso->offered = 0;
}

void isolation_guest_leave(VirtIOIsolation *guest)
{
    VhostUserIsolation *iso = guest->iso;

    if (!iso) {
        return;
    }
    if (iso->lost || isolation_guest_out(guest, true)) {
        /* Nobody would know what comes back. */
        isolation_connection_drop(iso);
        isolation_disconnect(iso);
    } else {
        guest_lose_links(guest);
    }
    iso->guest = NULL;
    guest->iso = NULL;
}
