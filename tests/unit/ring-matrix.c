/*
 * Ring harness: the cases that a scenario runs on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "ring-harness.h"

/* The largest size that blind cases have; each step costs a copy. */
#define BLIND_SIZE_MAX 8

const char *harness_format_name(ShadowRingFormat format)
{
    return format == SHADOW_RING_PACKED ? "packed" : "split";
}

void harness_run_matrix(ShadowRingFormat format, RingScenario *scenario)
{
    static const uint16_t sizes[] = { 1, 2, 7, 8, 256, 1024 };

    for (unsigned i = 0; i < ARRAY_SIZE(sizes) * 8; i++) {
        RingParams params = {
            .format = format,
            .size = sizes[i / 8],
            .event_idx = i & 1,
            .indirect = i & 2,
            .blind = i & 4,
        };
        RingHarness *h;

        if ((params.blind && params.size > BLIND_SIZE_MAX) ||
            (format == SHADOW_RING_SPLIT && !is_power_of_2(params.size))) {
            continue;
        }
        g_test_message("%s size %u event_idx %d indirect %d blind %d",
                       harness_format_name(format), params.size,
                       params.event_idx, params.indirect, params.blind);
        h = harness_new(&params);
        scenario(h);
        harness_free(h);
    }
}

static void run_split(const void *data)
{
    harness_run_matrix(SHADOW_RING_SPLIT, (RingScenario *)data);
}

static void run_packed(const void *data)
{
    harness_run_matrix(SHADOW_RING_PACKED, (RingScenario *)data);
}

void harness_add_test_of(ShadowRingFormat format, const char *claim,
                         RingScenario *scenario)
{
    g_autofree char *path = g_strdup_printf("/shadow-ring/%s/%s",
                                            harness_format_name(format),
                                            claim);

    g_test_add_data_func(path, scenario, format == SHADOW_RING_PACKED ?
                         run_packed : run_split);
}

void harness_add_test(const char *claim, RingScenario *scenario)
{
    harness_add_test_of(SHADOW_RING_SPLIT, claim, scenario);
    harness_add_test_of(SHADOW_RING_PACKED, claim, scenario);
}

unsigned harness_place_step(const RingHarness *h)
{
    return h->params.size <= 8 ? 1 : h->params.size / 3;
}
