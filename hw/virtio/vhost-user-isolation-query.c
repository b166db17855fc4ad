/*
 * vhost-user memory isolation: what whoever runs the machine can see.
 *
 * query-vhost-user-isolation lists all vhost-user devices, netdevs and
 * cryptodevs, since the one that is not isolated is the one to look for.  The
 * property memory-isolation-stats of a device is the sum over its queues, of
 * the same numbers.
 *
 * Nobody is waited for: counters and gauges of a queue are stored by its owner
 * for any thread to read, and the rest is under the BQL.  So numbers of one
 * queue may be of slightly different moments.
 *
 * Not here: names, which are QAPI's, and how people see it (-hmp.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-virtio.h"
#include "qapi/visitor.h"
#include "vhost-user-isolation-internal.h"

/* The QAPI types say the same as the queue's own. */
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE_IDLE != VHOST_USER_QUEUE_STATE_IDLE);
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE_RUNNING !=
                  VHOST_USER_QUEUE_STATE_RUNNING);
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE_STOPPING !=
                  VHOST_USER_QUEUE_STATE_STOPPING);
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE_KEPT != VHOST_USER_QUEUE_STATE_KEPT);
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE_BROKEN != VHOST_USER_QUEUE_STATE_BROKEN);
QEMU_BUILD_BUG_ON((int)ISOLATED_QUEUE__MAX != VHOST_USER_QUEUE_STATE__MAX);

static VhostUserRing *ring_info(uint64_t features, uint16_t size)
{
    VhostUserRing *ring = g_new0(VhostUserRing, 1);

    ring->packed = features & BIT_ULL(VIRTIO_F_RING_PACKED);
    ring->event_idx = features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    ring->indirect = features & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC);
    ring->size = size;
    return ring;
}

static VhostUserQueueFaults *faults_info(const IsolatedQueueStats *stats)
{
    VhostUserQueueFaults *faults = g_new0(VhostUserQueueFaults, 1);

    faults->guest_ring =
        stat64_get(&stats->faults[ISOLATED_QUEUE_FAULT_GUEST_RING]);
    faults->guest_memory =
        stat64_get(&stats->faults[ISOLATED_QUEUE_FAULT_GUEST_MEMORY]);
    faults->request_size =
        stat64_get(&stats->faults[ISOLATED_QUEUE_FAULT_REQUEST_SIZE]);
    faults->backend_ring =
        stat64_get(&stats->faults[ISOLATED_QUEUE_FAULT_BACKEND]);
    return faults;
}

static void queue_fill_stats(VhostUserIsolationQueue *info,
                             const IsolatedQueueStats *stats)
{
    info->requests = stat64_get(&stats->requests);
    info->bytes_out = stat64_get(&stats->bytes_out);
    info->bytes_in = stat64_get(&stats->bytes_in);
    info->forward_batches = stat64_get(&stats->forward_runs);
    info->return_batches = stat64_get(&stats->return_runs);
    info->kicks = stat64_get(&stats->kicks);
    info->kicks_saved = stat64_get(&stats->kicks_saved);
    info->calls = stat64_get(&stats->calls);
    info->guest_kicks = stat64_get(&stats->guest_kicks);
    info->guest_calls = stat64_get(&stats->guest_calls);
    info->guest_calls_saved = stat64_get(&stats->guest_calls_saved);
    info->parked = stat64_get(&stats->parked);
    info->clamped = stat64_get(&stats->clamped);
    info->allocations = stat64_get(&stats->allocations);
    info->in_flight = stat64_get(&stats->in_flight);
    info->orphans = stat64_get(&stats->orphans);
    info->faults = faults_info(stats);
}

static VhostUserIsolationQueue *queue_info(const VirtIOIsolation *guest,
                                           unsigned n)
{
    VhostUserIsolationQueue *info = g_new0(VhostUserIsolationQueue, 1);
    const IsolatedQueue *q = guest->queues[n];
    const IsolatedLink *link = isolated_queue_link(q);
    VirtIODevice *vdev = guest->vdev;
    IsolatedQueueFault fault;
    const char *why;

    info->index = n;
    if (guest->iothreads[n]) {
        info->iothread = iothread_get_id(guest->iothreads[n]);
    }
    info->state = (VhostUserQueueState)isolated_queue_state(q);
    fault = isolated_queue_fault(q, &why);
    if (fault != ISOLATED_QUEUE_FAULT_NONE) {
        info->has_fault = true;
        info->fault = isolation_queue_fault(fault);
        info->fault_reason = g_strdup(why);
    }
    info->guest_ring = ring_info(vdev->guest_features,
                                 virtio_queue_get_num(vdev, n));
    if (link) {
        info->backend_ring = ring_info(guest->iso->ring_bits,
                                       shadow_ring_size(link->ring));
    }
    queue_fill_stats(info, isolated_queue_stats(q));
    if (info->state == VHOST_USER_QUEUE_STATE_KEPT) {
        info->kept = info->in_flight;
    }
    return info;
}

static VhostUserIsolationRegion *region_info(const VhostUserIsolation *iso)
{
    VhostUserIsolationRegion *info = g_new0(VhostUserIsolationRegion, 1);
    struct stat st;

    info->size = iso->region->size;
    /* Of a memfd: pages that are there, whoever has touched them. */
    if (fstat(iso->region->fd, &st) == 0) {
        info->resident = st.st_blocks * 512ULL;
    }
    for (unsigned n = 0; iso->guest && n < iso->guest->num_queues; n++) {
        const IsolatedQueueStats *stats =
            isolated_queue_stats(iso->guest->queues[n]);

        info->high_water += stat64_get(&stats->high_water);
    }
    return info;
}

static VhostUserBackendProcess *process_info(VhostUserState *user)
{
    pid_t pid = vhost_user_peer(user->chr);
    VhostUserBackendProcess *info;
    g_autofree char *path = NULL;

    if (!pid) {
        return NULL;
    }
    path = g_strdup_printf("/proc/%d/exe", pid);
    info = g_new0(VhostUserBackendProcess, 1);
    info->pid = pid;
    info->executable = g_file_read_link(path, NULL);
    return info;
}

static VhostUserIsolationReason
config_reason(const VhostUserIsolationConfig *config)
{
    return config->asked != ON_OFF_AUTO_AUTO
           ? VHOST_USER_ISOLATION_REASON_PROPERTY
           : !config->by_policy ? VHOST_USER_ISOLATION_REASON_DEFAULT
           : config->enabled ? VHOST_USER_ISOLATION_REASON_POLICY
           : VHOST_USER_ISOLATION_REASON_DEVICE_TYPE;
}

static void info_fill_device(VhostUserIsolationInfo *info,
                             const VhostUserState *user)
{
    Object *obj = user->isolation_device
                  ? object_resolve_path_type(user->isolation_device,
                                             TYPE_VIRTIO_DEVICE, NULL)
                  : NULL;

    if (obj) {
        info->device = g_strdup(isolation_device_id(VIRTIO_DEVICE(obj)));
        info->qom_path = g_strdup(user->isolation_device);
    }
}

static void info_fill_isolation(VhostUserIsolationInfo *info,
                                const VhostUserIsolation *iso)
{
    VhostUserIsolationQueueList **tail = &info->queues;

    if (iso->region) {
        info->region = region_info(iso);
    }
    info->has_waited_ns = true;
    info->waited_ns = vhost_user_transport_waited(iso->transport);
    for (unsigned n = 0; iso->guest && n < iso->guest->num_queues; n++) {
        QAPI_LIST_APPEND(tail, queue_info(iso->guest, n));
    }
}

static VhostUserIsolationInfo *state_info(VhostUserState *user)
{
    VhostUserIsolationInfo *info = g_new0(VhostUserIsolationInfo, 1);

    info->chardev = g_strdup(user->chr->chr ? user->chr->chr->label : "");
    info->isolated = user->isolation;
    info->reason = config_reason(&user->isolation_config);
    info->connected = qemu_chr_fe_backend_open(user->chr);
    if (info->connected) {
        info->backend = process_info(user);
    }
    info_fill_device(info, user);
    if (user->isolation) {
        info_fill_isolation(info, user->isolation);
    }
    return info;
}

VhostUserIsolationInfoList *qmp_query_vhost_user_isolation(Error **errp)
{
    VhostUserIsolationInfoList *list = NULL;
    VhostUserState *user = NULL;

    /* The newest first, so that it ends with the oldest at its head. */
    while ((user = isolation_next_state(user))) {
        QAPI_LIST_PREPEND(list, state_info(user));
    }
    return list;
}

/* The property */

typedef struct StatName {
    const char *name;
    size_t offset;
} StatName;

#define STAT(_name, _field) \
    { _name, offsetof(VhostUserIsolationQueue, _field) }

static const StatName stat_names[] = {
    STAT("requests", requests),
    STAT("bytes-out", bytes_out),
    STAT("bytes-in", bytes_in),
    STAT("forward-batches", forward_batches),
    STAT("return-batches", return_batches),
    STAT("kicks", kicks),
    STAT("kicks-saved", kicks_saved),
    STAT("calls", calls),
    STAT("guest-kicks", guest_kicks),
    STAT("guest-calls", guest_calls),
    STAT("guest-calls-saved", guest_calls_saved),
    STAT("parked", parked),
    STAT("clamped", clamped),
    STAT("allocations", allocations),
};

static void stats_add(uint64_t *sums, const VirtIOIsolation *guest, unsigned n)
{
    VhostUserIsolationQueue *info = queue_info(guest, n);

    for (size_t i = 0; i < ARRAY_SIZE(stat_names); i++) {
        sums[i] += *(uint64_t *)((uint8_t *)info + stat_names[i].offset);
    }
    qapi_free_VhostUserIsolationQueue(info);
}

void isolation_get_stats(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    VirtIOIsolation *guest = opaque;
    uint64_t sums[ARRAY_SIZE(stat_names)] = { };

    for (unsigned n = 0; n < guest->num_queues; n++) {
        stats_add(sums, guest, n);
    }
    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(stat_names); i++) {
        if (!visit_type_uint64(v, stat_names[i].name, &sums[i], errp)) {
            break;
        }
    }
    visit_end_struct(v, NULL);
}
