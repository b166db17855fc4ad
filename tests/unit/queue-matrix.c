/*
 * Queue harness: one scenario on every combination of rings and owners.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "queue-harness.h"

void queue_run_one(const QueueParams *p, QueueScenario *scenario)
{
    QueueHarness *h;

    g_test_message("owner %d, packed %d event_idx %d indirect %d, "
                   "guest packed %d event_idx %d indirect %d", p->owner,
                   p->format, p->event_idx, p->indirect, p->guest_format,
                   p->guest_event_idx, p->guest_indirect);
    h = queue_harness_new(p);
    scenario(h);
    queue_harness_free(h);
}

void queue_run_matrix(const QueueParams *params, QueueScenario *scenario)
{
    QueueParams p = *params;

    for (p.owner = 0; p.owner < QUEUE_OWNER__MAX; p.owner++) {
        for (unsigned i = 0; i < 4; i++) {
            p.event_idx = i & 1;
            p.format = i & 2 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
            p.guest_event_idx = p.event_idx;
            p.guest_format = i == 1 || i == 2 ? SHADOW_RING_PACKED
                                              : SHADOW_RING_SPLIT;
            queue_run_one(&p, scenario);
        }
    }
}

void queue_run_ring_pairs(const QueueParams *params, QueueScenario *scenario)
{
    QueueParams p = *params;

    for (unsigned i = 0; i < 64; i++) {
        p.event_idx = i & 1;
        p.indirect = i & 2;
        p.format = i & 4 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        p.guest_event_idx = i & 8;
        p.guest_indirect = i & 16;
        p.guest_format = i & 32 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        p.owner = i % 3 ? QUEUE_OWNER_IOTHREAD : QUEUE_OWNER_MAIN_LOOP;
        p.guest_ring_size = params->guest_ring_size;
        if (p.guest_ring_size && p.guest_format == SHADOW_RING_PACKED) {
            /* Any size is right there. */
            p.guest_ring_size -= 5;
        }
        queue_run_one(&p, scenario);
    }
}
