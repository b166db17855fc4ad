/*
 * Every isolated device under a load that does not change: after a while none
 * of its queues allocates anything.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-device.h"
#include "isolation-target.h"

/* The first round may allocate; all of the later ones together may not. */
enum { ROUNDS = 40 };

static const DeviceConfig configs[] = {
    { "split", .isolated = true },
    { "packed", .isolated = true, .guest_packed = true,
      .guest_event_idx = true,
      .backend_features = BIT_ULL(VIRTIO_F_RING_PACKED) |
                          BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |
                          BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) },
    { "iothread", .isolated = true, .iothread = true },
};

static const DeviceKind *const kinds[] = {
    &device_blk, &device_crypto, &device_fs, &device_gpio, &device_i2c,
    &device_input, &device_net, &device_rng, &device_scmi, &device_scsi,
    &device_snd, &device_vsock,
};

typedef struct SteadyTest {
    const DeviceKind *kind;
    const DeviceConfig *config;
} SteadyTest;

/* Sums of all queues of the machine's one device. */
typedef struct Sums {
    uint64_t requests;
    uint64_t allocations;
} Sums;

static void add_queues(QDict *connection, Sums *sums)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(connection, "queues"), e) {
        QDict *queue = qobject_to(QDict, qlist_entry_obj(e));

        sums->requests += qdict_get_int(queue, "requests");
        sums->allocations += qdict_get_int(queue, "allocations");
    }
}

static Sums query_sums(QTestState *qts)
{
    QDict *answer = qtest_qmp(
        qts, "{ 'execute': 'query-vhost-user-isolation' }");
    const QListEntry *e;
    Sums sums = {};

    QLIST_FOREACH_ENTRY(qdict_get_qlist(answer, "return"), e) {
        add_queues(qobject_to(QDict, qlist_entry_obj(e)), &sums);
    }
    qobject_unref(answer);
    return sums;
}

static void rounds(GuestDevice *d, unsigned num)
{
    while (num--) {
        d->kind->traffic(d);
    }
}

static void test_steady_load_allocates_nothing(const void *opaque)
{
    const SteadyTest *test = opaque;
    Sums before, after;
    GuestDevice *d;

    if (device_skip_if_missing(test->kind)) {
        return;
    }
    d = device_new(test->kind, test->config);
    device_start(d);
    rounds(d, 1);
    before = query_sums(d->qts);
    rounds(d, ROUNDS);
    after = query_sums(d->qts);
    g_assert_cmpuint(before.allocations, >, 0);
    g_assert_cmpuint(after.requests, >=, before.requests + ROUNDS);
    g_assert_cmpuint(after.allocations, ==, before.allocations);
    device_stop(d);
    device_free(d);
}

static void add_tests(const DeviceKind *kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        SteadyTest *test = g_new(SteadyTest, 1);
        g_autofree char *path = g_strdup_printf(
            "isolation-steady/%s/%s", kind->name, configs[i].name);

        *test = (SteadyTest) { kind, &configs[i] };
        qtest_add_data_func_full(path, test,
                                 test_steady_load_allocates_nothing, g_free);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (kinds[i]->arm_only == target_is_arm()) {
            add_tests(kinds[i]);
        }
    }
    return g_test_run();
}
