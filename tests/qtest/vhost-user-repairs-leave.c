/*
 * Backends that go away at a bad moment, and devices that do.
 *
 * What runs later (a bottom half, a handler) must not meet a device that is
 * gone, and a device that is half stopped must be stopped whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_config.h"
#include "vhost-user-repairs.h"

typedef struct Leave {
    const RepairsSetup *setup;
    const RepairsKind *kind;
    unsigned request;
} Leave;

/* The end comes in the middle of the stop that the unplug begins with. */
static void test_at_unplug(const void *opaque)
{
    const Leave *t = opaque;
    RepairsGuest *g = repairs_new(t->setup, t->kind, true);

    repairs_start(g);
    vu_mock_die_at(g->mock, t->request);
    repairs_unplug(g);
    repairs_free(g);
}

/* The same at a reset; the next connection is used. */
static void test_at_reset(const void *opaque)
{
    const Leave *t = opaque;
    RepairsGuest *g = repairs_new(t->setup, t->kind, true);

    for (unsigned i = 0; i < 2; i++) {
        repairs_start(g);
        vu_mock_die_at(g->mock, t->request);
        qvirtio_reset(&g->pci.vdev);
        vu_mock_wait_running(g->mock, 0);
    }
    repairs_start(g);
    repairs_unplug(g);
    repairs_free(g);
}

/* Unplugged while the backend is away, and plugged in for the next one. */
static void test_while_unplugged(const void *opaque)
{
    const Leave *t = opaque;
    RepairsGuest *g = repairs_new(t->setup, t->kind, true);
    QDict *answer;

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    repairs_unplug(g);
    vu_mock_come_back(g->mock);
    repairs_wait_back(g);
    answer = repairs_plug(g);
    g_assert_false(qdict_haskey(answer, "error"));
    qobject_unref(answer);
    repairs_free(g);
}

static void add(const RepairsSetup *setup, const RepairsKind *kind,
                const char *claim, unsigned request,
                void (*test)(const void *))
{
    g_autofree char *path = g_strdup_printf("%s/leave/%s/%s", setup->prefix,
                                            kind->name, claim);
    Leave *t = g_new(Leave, 1);

    *t = (Leave) { setup, kind, request };
    qtest_add_data_func_full(path, t, test, g_free);
}

void repairs_add_leave_tests(const RepairsSetup *setup)
{
    static const RepairsKind *const kinds[] = {
        &repairs_blk, &repairs_scsi, &repairs_fs, &repairs_vsock,
        &repairs_rng, &repairs_gpio, &repairs_input, &repairs_net,
        &repairs_crypto,
    };
    /* Without a handler for the end of the connection. */
    static const RepairsKind *const deaf[] = { &repairs_fs, &repairs_vsock };

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        bool reconnects = true;

        for (unsigned j = 0; j < G_N_ELEMENTS(deaf); j++) {
            reconnects &= kinds[i] != deaf[j];
        }
        add(setup, kinds[i], "when-the-ring-is-stopped-for-unplug",
            VU_MOCK_GET_VRING_BASE, test_at_unplug);
        if (kinds[i] != &repairs_net && kinds[i] != &repairs_crypto) {
            add(setup, kinds[i], "when-the-ring-is-disabled-for-unplug",
                VU_MOCK_SET_VRING_ENABLE, test_at_unplug);
        }
        if (reconnects) {
            add(setup, kinds[i], "when-the-ring-is-stopped-for-reset",
                VU_MOCK_GET_VRING_BASE, test_at_reset);
        }
    }
    add(setup, &repairs_blk, "before-unplug-and-come-back", 0,
        test_while_unplugged);
    add(setup, &repairs_scsi, "before-unplug-and-come-back", 0,
        test_while_unplugged);
}
