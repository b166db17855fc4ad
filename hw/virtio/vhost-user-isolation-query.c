/*
 * vhost-user memory isolation: what can be asked about a device.
 *
 * Counters are summed over the queues and read without stopping them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "vhost-user-isolation-internal.h"

typedef struct StatName {
    const char *name;
    size_t offset;
} StatName;

#define STAT(_name, _field) { _name, offsetof(IsolatedQueueStats, _field) }

static const StatName stat_names[] = {
    STAT("requests", requests),
    STAT("bytes-out", bytes_out),
    STAT("bytes-in", bytes_in),
    STAT("forward-batches", forward_runs),
    STAT("return-batches", return_runs),
    STAT("kicks", kicks),
    STAT("calls", calls),
    STAT("guest-kicks", guest_kicks),
    STAT("parked", parked),
    STAT("clamped", clamped),
    STAT("allocations", allocations),
};

static uint64_t stat_sum(const VirtIOIsolation *guest, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned n = 0; n < guest->num_queues; n++) {
        const void *stats = isolated_queue_stats(guest->queues[n]);

        sum += stat64_get((const Stat64 *)(stats + offset));
    }
    return sum;
}

static void stats_get(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    VirtIOIsolation *guest = opaque;

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(stat_names); i++) {
        uint64_t sum = stat_sum(guest, stat_names[i].offset);

        if (!visit_type_uint64(v, stat_names[i].name, &sum, errp)) {
            break;
        }
    }
    visit_end_struct(v, NULL);
}

void isolation_add_stats(VirtIOIsolation *guest)
{
    object_property_add(OBJECT(guest->vdev), "memory-isolation-stats",
                        "struct", stats_get, NULL, NULL, guest);
}
