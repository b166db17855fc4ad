/*
 * Tests of an isolated queue whose guest memory is behind an IOMMU.
 *
 * Any look-up may have to be asked for first, once more too for what was known
 * before.  Requests go out in order all the same, and come back with the bytes
 * in the pieces of memory that the IOMMU named when they went out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

static void all_return(QueueHarness *h)
{
    for (unsigned i = 0; i < 40; i++) {
        queue_offer_random(h, 20000);
    }
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 40);
}

/* What was found for one backend is found anew for the next. */
static void another_backend(QueueHarness *h)
{
    for (unsigned i = 0; i < 20; i++) {
        queue_offer_random(h, 20000);
    }
    queue_settle(h);
    backend_fetch_all(h);
    queue_stop(h, false);
    queue_reconnect(h);
    queue_attach(h);
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 20);
}

/* While nobody owns the queue a request is on its way, in part. */
static unsigned num_parts;

static void owners_change(QueueHarness *h)
{
    for (unsigned i = 0; i < 20; i++) {
        queue_offer_random(h, 20000);
        queue_detach(h);
        num_parts += h->q->next_unsent && h->q->next_unsent->span_bytes;
        queue_attach(h);
    }
    queue_finish(h);
    g_assert_cmpuint(h->num_returned, ==, 20);
}

static void refused(QueueHarness *h)
{
    MockGuestRequest *r = mock_guest_get(h->guest);

    mock_guest_add(h->guest, r, false, 100, 1, 0);
    mock_guest_add(h->guest, r, true, 10000, 1, 0);
    r->bad_buf = g_test_rand_bit();
    queue_offer_request(h, r);
    queue_settle(h);
    queue_assert_broken(h, ISOLATED_QUEUE_FAULT_GUEST_MEMORY,
                        "the IOMMU does not allow the access");
    queue_stop(h, true);
    queue_reset(h);
}

typedef struct Claim {
    const char *path;
    QueueScenario *scenario;
} Claim;

static void test_claim(const void *opaque)
{
    const Claim *claim = opaque;
    QueueParams params = { .indirect = true, .translated = true };

    queue_run_matrix(&params, claim->scenario);
    params.part_bytes = 1500;
    queue_run_matrix(&params, claim->scenario);
}

static void test_owners_change(void)
{
    const QueueParams params = {
        .indirect = true, .translated = true, .part_bytes = 1500,
    };

    queue_run_matrix(&params, owners_change);
    g_assert_cmpuint(num_parts, >, 0);
}

static void test_any_rings(void)
{
    const QueueParams params = { .share = 1 * MiB, .translated = true };

    queue_run_ring_pairs(&params, queue_travel_often);
}

int main(int argc, char **argv)
{
    static const Claim claims[] = {
        { "all-return", all_return },
        { "another-backend", another_backend },
        { "travel-often", queue_travel_often },
        { "refused", refused },
    };

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    for (int i = 0; i < G_N_ELEMENTS(claims); i++) {
        g_autofree char *path = g_strdup_printf("/isolated-queue/iommu/%s",
                                                claims[i].path);

        g_test_add_data_func(path, &claims[i], test_claim);
    }
    g_test_add_func("/isolated-queue/iommu/owners-change-meanwhile",
                    test_owners_change);
    g_test_add_func("/isolated-queue/iommu/any-rings", test_any_rings);
    return g_test_run();
}
