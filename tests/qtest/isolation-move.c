/*
 * What a guest does to one disk, and what must come of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-move.h"

static const MachineConfig configs[] = {
    { "split-main-loop" },
    { "split-iothread", .iothread = true },
    { "packed-main-loop", .packed = true },
    { "packed-iothread", .packed = true, .iothread = true },
    { "split-iommu", .iommu = true },
    { "split-iommu-iothread", .iommu = true, .iothread = true },
    { "packed-iommu-iothread", .packed = true, .iommu = true,
      .iothread = true },
};

typedef struct MoveTest {
    const GuestMove *move;
    const MachineConfig *config;
} MoveTest;

static void assert_said_once(const char *text, const char *says)
{
    const char *first = strstr(text, says);

    g_assert_nonnull(first);
    g_assert_null(strstr(first + 1, says));
}

static void assert_outcome(Machine *machine, Disk *disk, const char *says)
{
    g_autofree char *text = NULL;

    if (says && *says) {
        disk_wait_needs_reset(disk);
        queue_kick(&disk->queue);
    }
    machine_assert_alive(machine);
    text = machine_messages(machine);
    g_test_message("%s", text);
    if (says && *says) {
        assert_said_once(text, says);
    } else if (says) {
        g_assert_cmphex(disk_status(disk) & VIRTIO_CONFIG_S_NEEDS_RESET, ==,
                        0);
        g_assert_cmpstr(text, ==, "");
    }
}

static void test_move(const void *opaque)
{
    const MoveTest *test = opaque;
    Machine *machine = machine_get(test->config);
    Disk *victim = &machine->disks[0];
    Disk *bystander = &machine->disks[1];

    disk_start(victim);
    disk_start(bystander);
    disk_read_and_verify(victim, 1);
    disk_read_and_verify(bystander, 2);
    g_free(machine_messages(machine));

    test->move->move(victim, test->move->arg);

    disk_read_and_verify(bystander, 4);
    assert_outcome(machine, victim, test->move->says);
    disk_read_and_verify(bystander, 5);

    disk_start(victim);
    disk_read_and_verify(victim, 6);
    disk_read_and_verify(bystander, 7);
}

static void add_move(const char *path, const GuestMove *move,
                     const MachineConfig *config)
{
    g_autofree char *full = g_strdup_printf("/vhost-user-isolation/%s/%s/%s",
                                            path, config->name, move->claim);
    MoveTest *test;

    if (move->rings == (config->packed ? ON_SPLIT : ON_PACKED) ||
        move->iommu != config->iommu) {
        return;
    }
    test = g_new(MoveTest, 1);
    test->move = move;
    test->config = config;
    qtest_add_data_func_full(full, test, test_move, g_free);
}

int guest_moves_run(int *argc, char ***argv, const char *path,
                    const GuestMove *moves, size_t num)
{
    int ret;

    g_test_init(argc, argv, NULL);
    if (!getenv("QTEST_QEMU_STORAGE_DAEMON_BINARY")) {
        g_test_message("QTEST_QEMU_STORAGE_DAEMON_BINARY is not set");
        return 0;
    }
    for (int i = 0; i < G_N_ELEMENTS(configs); i++) {
        for (int j = 0; j < num; j++) {
            add_move(path, &moves[j], &configs[i]);
        }
    }
    ret = g_test_run();
    machine_end();
    return ret;
}
