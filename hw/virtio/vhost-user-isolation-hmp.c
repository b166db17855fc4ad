/*
 * vhost-user memory isolation: query-vhost-user-isolation for people.
 *
 * Knows QAPI and the monitor, and nothing of how it works.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-virtio.h"

static void print_ring(Monitor *mon, const char *whose,
                       const VhostUserRing *ring)
{
    monitor_printf(mon, "%s %s%s%s, %u", whose,
                   ring->packed ? "packed" : "split",
                   ring->event_idx ? " event-idx" : "",
                   ring->indirect ? " indirect" : "", ring->size);
}

static void print_faults(Monitor *mon, const VhostUserQueueFaults *faults)
{
    if (faults->guest_ring || faults->guest_memory || faults->request_size ||
        faults->backend_ring) {
        monitor_printf(mon, "    faults: guest-ring %" PRIu64
                       ", guest-memory %" PRIu64 ", request-size %" PRIu64
                       ", backend-ring %" PRIu64 "\n", faults->guest_ring,
                       faults->guest_memory, faults->request_size,
                       faults->backend_ring);
    }
}

static void print_queue(Monitor *mon, const VhostUserIsolationQueue *q)
{
    monitor_printf(mon, "  queue %u: %s; ", q->index,
                   VhostUserQueueState_str(q->state));
    print_ring(mon, "guest", q->guest_ring);
    if (q->backend_ring) {
        print_ring(mon, "; backend", q->backend_ring);
    }
    monitor_printf(mon, "%s%s\n", q->iothread ? ", iothread " : "",
                   q->iothread ?: "");
    if (q->has_fault) {
        monitor_printf(mon, "    broken: %s (%s)\n", q->fault_reason,
                       VhostUserQueueFault_str(q->fault));
    }
    monitor_printf(mon, "    in flight %" PRIu64 ", kept %" PRIu64
                   ", orphans %" PRIu64 "; requests %" PRIu64 ", bytes %"
                   PRIu64 " out, %" PRIu64 " in\n", q->in_flight, q->kept,
                   q->orphans, q->requests, q->bytes_out, q->bytes_in);
    monitor_printf(mon, "    batches %" PRIu64 " out, %" PRIu64
                   " in; kicks %" PRIu64 " (saved %" PRIu64 "), calls %" PRIu64
                   "; guest kicks %" PRIu64 ", guest calls %" PRIu64
                   " (saved %" PRIu64 ")\n", q->forward_batches,
                   q->return_batches, q->kicks, q->kicks_saved, q->calls,
                   q->guest_kicks, q->guest_calls, q->guest_calls_saved);
    monitor_printf(mon, "    parked %" PRIu64 ", clamped %" PRIu64
                   ", allocations %" PRIu64 "\n", q->parked, q->clamped,
                   q->allocations);
    print_faults(mon, q->faults);
}

static void print_backend(Monitor *mon, const VhostUserIsolationInfo *info)
{
    monitor_printf(mon, "  chardev %s: ", info->chardev);
    if (!info->connected) {
        monitor_printf(mon, "not connected\n");
    } else if (!info->backend) {
        monitor_printf(mon, "connected\n");
    } else {
        monitor_printf(mon, "process %" PRId64 " %s\n", info->backend->pid,
                       info->backend->executable ?: "(unknown)");
    }
}

static void print_region(Monitor *mon, const VhostUserIsolationRegion *region)
{
    g_autofree char *size = size_to_str(region->size);
    g_autofree char *resident = size_to_str(region->resident);
    g_autofree char *high = size_to_str(region->high_water);

    monitor_printf(mon, "  region: %s, resident %s, high water %s\n", size,
                   resident, high);
}

static void print_info(Monitor *mon, const VhostUserIsolationInfo *info)
{
    monitor_printf(mon, "%s: %s (%s)\n",
                   info->device ?: info->qom_path ?: "(no device)",
                   info->isolated ? "isolated" :
                   "not isolated: the backend can map guest RAM",
                   VhostUserIsolationReason_str(info->reason));
    print_backend(mon, info);
    if (info->region) {
        print_region(mon, info->region);
    }
    if (info->has_waited_ns) {
        monitor_printf(mon, "  QEMU has waited %" PRIu64 " us\n",
                       info->waited_ns / 1000);
    }
    for (VhostUserIsolationQueueList *q = info->queues; q; q = q->next) {
        print_queue(mon, q->value);
    }
}

void hmp_info_vhost_user_isolation(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    VhostUserIsolationInfoList *list = qmp_query_vhost_user_isolation(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    if (!list) {
        monitor_printf(mon, "no vhost-user devices\n");
    }
    for (VhostUserIsolationInfoList *i = list; i; i = i->next) {
        print_info(mon, i->value);
    }
    qapi_free_VhostUserIsolationInfoList(list);
}
