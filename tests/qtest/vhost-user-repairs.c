/*
 * What a guest, a backend or a user may do to a vhost-user device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "standard-headers/linux/virtio_scsi.h"
#include "vhost-user-repairs.h"

/* An interrupt is a store to wherever the guest has led it. */

static void config_change_unplugs(const RepairsSetup *setup,
                                  const RepairsKind *kind, bool hang_up)
{
    RepairsGuest *g = repairs_new(setup, kind, true);

    repairs_start(g);
    repairs_lead_vector_to_port(g);
    repairs_freeze(g);
    vu_mock_send(g->mock, VU_MOCK_CONFIG_CHANGE, VU_MOCK_NEED_REPLY, NULL, 0);
    if (hang_up) {
        vu_mock_close_channel(g->mock);
    }
    repairs_thaw(g);
    if (!hang_up) {
        g_assert_cmpint(vu_mock_receive(g->mock), ==, 0);
    }
    repairs_wait_unplugged(g);
    repairs_free(g);
}

static void test_blk_config_change_unplugs(const void *setup)
{
    config_change_unplugs(setup, &repairs_blk, false);
}

static void test_blk_config_change_unplugs_hang_up(const void *setup)
{
    config_change_unplugs(setup, &repairs_blk, true);
}

static void test_gpio_config_change_unplugs(const void *setup)
{
    config_change_unplugs(setup, &repairs_gpio, true);
}

static void test_vsock_config_change_unplugs(const void *setup)
{
    config_change_unplugs(setup, &repairs_vsock, true);
}

/* Two devices: the channel's end must not be seen by the first one. */
static void test_config_change_is_dropped_at_unplug(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);

    repairs_start(g);
    for (unsigned i = 0; i < 10; i++) {
        vu_mock_send(g->mock, VU_MOCK_CONFIG_CHANGE, 0, NULL, 0);
    }
    repairs_unplug(g);
    repairs_free(g);
}

static void test_link_down_unplugs(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_net, true);

    repairs_start(g);
    repairs_lead_vector_to_port(g);
    vu_mock_leave(g->mock);
    repairs_wait_unplugged(g);
    repairs_free(g);
}

static void test_link_up_unplugs(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_net, true);

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    repairs_lead_vector_to_port(g);
    vu_mock_come_back(g->mock);
    repairs_wait_unplugged(g);
    repairs_free(g);
}

static void test_ready_change_unplugs(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_crypto, true);

    repairs_start(g);
    repairs_lead_vector_to_port(g);
    vu_mock_leave(g->mock);
    repairs_wait_unplugged(g);
    repairs_free(g);
}

/* Before the device is started there is nobody to tell. */
static void config_change_before_start(const RepairsSetup *setup,
                                       const RepairsKind *kind)
{
    RepairsGuest *g = repairs_new(setup, kind, true);

    for (unsigned i = 0; i < 2; i++) {
        vu_mock_send(g->mock, VU_MOCK_CONFIG_CHANGE, VU_MOCK_NEED_REPLY, NULL,
                     0);
        g_assert_cmpint(vu_mock_receive(g->mock), ==, 0);
        repairs_start(g);
        qvirtio_reset(&g->pci.vdev);
        vu_mock_wait_running(g->mock, 0);
    }
    repairs_free(g);
}

static void test_gpio_config_change_before_start(const void *setup)
{
    config_change_before_start(setup, &repairs_gpio);
}

static void test_vsock_config_change_before_start(const void *setup)
{
    config_change_before_start(setup, &repairs_vsock);
}

/* Configuration space while the backend is away. */

static void test_blk_config_written_while_away(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);
    unsigned wce = offsetof(struct virtio_blk_config, wce);

    repairs_start(g);
    repairs_write_config(g, wce, 1, 1);
    vu_mock_wait_count(g->mock, VU_MOCK_SET_CONFIG, 1);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    repairs_write_config(g, wce, 1, 0);
    g_assert_cmphex(qvirtio_config_readb(&g->pci.vdev, wce), ==, 1);
    vu_mock_come_back(g->mock);
    vu_mock_wait_running(g->mock, 2);
    repairs_write_config(g, wce, 1, 0);
    vu_mock_wait_count(g->mock, VU_MOCK_SET_CONFIG, 2);
    g_assert_cmphex(qvirtio_config_readb(&g->pci.vdev, wce), ==, 0);
    repairs_free(g);
}

/* A backend that comes back has another disk, and its own idea of the cache. */

static void replace_disk(RepairsGuest *g, uint64_t sectors, uint8_t wce)
{
    uint64_t le = cpu_to_le64(sectors);

    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    vu_mock_set_space(g->mock, offsetof(struct virtio_blk_config, capacity),
                      &le, sizeof(le));
    vu_mock_set_space(g->mock, offsetof(struct virtio_blk_config, wce), &wce,
                      sizeof(wce));
    vu_mock_come_back(g->mock);
}

static void expect_capacity(RepairsGuest *g, uint64_t sectors)
{
    QVirtioDevice *vdev = &g->pci.vdev;

    qvirtio_wait_config_isr(vdev, 30 * 1000 * 1000);
    g_assert_cmpuint(qvirtio_config_readq(vdev, 0), ==, sectors);
}

static void test_blk_grows_while_away(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);

    repairs_start(g);
    for (unsigned sectors = 100; sectors < 300; sectors += 100) {
        replace_disk(g, sectors, 0);
        expect_capacity(g, sectors);
    }
    repairs_free(g);
}

static void test_blk_grows_while_paused(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);

    repairs_start(g);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");
    replace_disk(g, 100, 0);
    repairs_wait_back(g);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'cont' }");
    expect_capacity(g, 100);
    repairs_free(g);
}

static void test_blk_write_cache_is_the_drivers(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk_wce, true);
    unsigned wce = offsetof(struct virtio_blk_config, wce);

    repairs_start(g);
    repairs_write_config(g, wce, 1, 1);
    vu_mock_wait_count(g->mock, VU_MOCK_SET_CONFIG, 1);
    replace_disk(g, 0, 0);
    vu_mock_wait_count(g->mock, VU_MOCK_SET_CONFIG, 2);
    g_assert_cmphex(vu_mock_last(g->mock, VU_MOCK_SET_CONFIG)->payload[12], ==,
                    1);
    g_assert_cmphex(qvirtio_config_readb(&g->pci.vdev, wce), ==, 1);
    repairs_free(g);
}

/* It waits for one that can serve all of its queues. */
static void test_blk_fewer_queues_wait(const void *setup)
{
    static const VuMockConfig fewer = { .config_size = 256, .num_queues = 1 };
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);
    unsigned asked;

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    vu_mock_change(g->mock, &fewer);
    asked = vu_mock_count(g->mock, VU_MOCK_GET_QUEUE_NUM);
    vu_mock_come_back(g->mock);
    vu_mock_wait_count(g->mock, VU_MOCK_GET_QUEUE_NUM, asked + 2);
    vu_mock_wait_running(g->mock, 0);
    vu_mock_change(g->mock, &repairs_blk.mock);
    vu_mock_wait_running(g->mock, 2);
    repairs_free(g);
}

static void test_blk_config_synced_while_away(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);
    QDict *answer;

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    answer = qtest_qmp(g->qts, "{ 'execute': 'device-sync-config',"
                       " 'arguments': { 'id': 'device' } }");
    g_assert_true(qdict_haskey(answer, "error"));
    qobject_unref(answer);
    repairs_free(g);
}

static void test_gpio_config_used_while_away(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_gpio, true);
    uint16_t lines = cpu_to_le16(3);

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    vu_mock_set_space(g->mock, 0, &lines, sizeof(lines));
    vu_mock_come_back(g->mock);
    vu_mock_wait_running(g->mock, 2);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    /* Nobody has read it before. */
    g_assert_cmpuint(qvirtio_config_readw(&g->pci.vdev, 0), ==, 3);
    repairs_write_config(g, 0, 4, 1);
    repairs_free(g);
}

static void test_scsi_sizes_are_written(const void *setup)
{
    static const unsigned fields[] = {
        offsetof(struct virtio_scsi_config, sense_size),
        offsetof(struct virtio_scsi_config, cdb_size),
    };
    RepairsGuest *g = repairs_new(setup, &repairs_scsi, true);
    QVirtioDevice *vdev = &g->pci.vdev;

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        uint32_t size;

        repairs_start(g);
        size = qvirtio_config_readl(vdev, fields[i]);
        repairs_write_config(g, fields[i], 4, size);
        g_assert_cmphex(vdev->bus->get_status(vdev) &
                        VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
        repairs_write_config(g, fields[i], 4, size + 1);
        g_assert_cmphex(vdev->bus->get_status(vdev) &
                        VIRTIO_CONFIG_S_NEEDS_RESET, !=, 0);
        g_assert_cmpuint(qvirtio_config_readl(vdev, fields[i]), ==, size);
        qvirtio_reset(vdev);
        vu_mock_wait_running(g->mock, 0);
    }
    repairs_free(g);
}

/* Rings that are not as they were at the start. */

static void test_ring_set_up_after_the_start(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);

    for (unsigned i = 0; i < 2; i++) {
        repairs_start_driver(g, 1);
        vu_mock_wait_running(g->mock, 1);
        repairs_set_up_ring(g, 1);
        qvirtio_reset(&g->pci.vdev);
        vu_mock_wait_running(g->mock, 0);
    }
    repairs_start(g);
    repairs_free(g);
}

static void test_ring_taken_away_after_the_start(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);
    QVirtioDevice *vdev = &g->pci.vdev;
    QVirtQueue nowhere = {};

    repairs_start(g);
    vdev->bus->queue_select(vdev, 1);
    vdev->bus->set_queue_address(vdev, &nowhere);
    qpci_io_writew(g->pci.pdev, g->pci.bar, g->pci.common_cfg_offset +
                   offsetof(struct virtio_pci_common_cfg, queue_enable), 1);
    qvirtio_reset(vdev);
    vu_mock_wait_running(g->mock, 0);
    repairs_start(g);
    repairs_free(g);
}

/* What is completed before the guest's notifier is there is not told. */
static void test_notifiers_before_the_start(const void *setup)
{
    static const RepairsKind *const kinds[] = {
        &repairs_blk, &repairs_scsi, &repairs_fs, &repairs_vsock,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        RepairsGuest *g = repairs_new(setup, kinds[i], true);

        repairs_start(g);
        qvirtio_reset(&g->pci.vdev);
        vu_mock_wait_running(g->mock, 0);
        g_assert_cmpuint(vu_mock_late_calls(g->mock), ==, 0);
        repairs_free(g);
    }
}

/* A backend registers an object, and is gone when another one asks for it. */
static void test_shared_object_of_one_that_left(const void *setup)
{
    static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    RepairsGuest *g = repairs_new(setup, &repairs_blk, true);

    repairs_start(g);
    vu_mock_send(g->mock, VU_MOCK_SHARED_OBJECT_ADD, VU_MOCK_NEED_REPLY, uuid,
                 sizeof(uuid));
    if (vu_mock_receive(g->mock) == 0) {
        vu_mock_leave(g->mock);
        repairs_wait_away(g);
        vu_mock_come_back(g->mock);
        vu_mock_wait_running(g->mock, 2);
        vu_mock_send(g->mock, VU_MOCK_SHARED_OBJECT_LOOKUP, VU_MOCK_NEED_REPLY,
                     uuid, sizeof(uuid));
        g_assert_cmpint(vu_mock_receive(g->mock), !=, 0);
        g_assert_cmpuint(vu_mock_count(g->mock, VU_MOCK_GET_SHARED_OBJECT),
                         ==, 0);
    }
    repairs_free(g);
}

/* The NIC outlives its netdev. */
static void test_net_leaves_after_netdev_del(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_net, true);

    repairs_start(g);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'netdev_del', 'arguments':"
                             " { 'id': 'backend' } }");
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    repairs_unplug(g);
    repairs_free(g);
}

/* What the device writes there may reset it. */
static void lead_used_to_registers(RepairsGuest *g, unsigned ring)
{
    QPCIDevice *pdev = g->pci.pdev;
    QPCIBar bar = g->pci.bar;
    uint64_t common = g->pci.common_cfg_offset;

    g->pci.vdev.bus->queue_select(&g->pci.vdev, ring);
    /* There is no room for more. */
    qpci_io_writew(pdev, bar, common +
                   offsetof(struct virtio_pci_common_cfg, queue_size), 8);
    qpci_io_writel(pdev, bar, common +
                   offsetof(struct virtio_pci_common_cfg, queue_used_lo),
                   bar.addr + common);
    qpci_io_writel(pdev, bar, common +
                   offsetof(struct virtio_pci_common_cfg, queue_used_hi), 0);
    qpci_io_writew(pdev, bar, common +
                   offsetof(struct virtio_pci_common_cfg, queue_enable), 1);
}

static void ring_in_its_own_registers(const RepairsSetup *setup,
                                      const RepairsKind *kind)
{
    RepairsGuest *g = repairs_new(setup, kind, true);
    QVirtioDevice *vdev = &g->pci.vdev;

    repairs_set_up(g, kind->num_rings + kind->num_others);
    lead_used_to_registers(g, 0);
    vdev->bus->set_status(vdev, vdev->bus->get_status(vdev) |
                          VIRTIO_CONFIG_S_DRIVER_OK);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'cont' }");
    repairs_start(g);
    repairs_free(g);
}

static void test_blk_ring_in_its_own_registers(const void *setup)
{
    ring_in_its_own_registers(setup, &repairs_blk);
}

static void test_net_ring_in_its_own_registers(const void *setup)
{
    ring_in_its_own_registers(setup, &repairs_net);
}

static const struct {
    const char *claim;
    void (*test)(const void *setup);
} tests[] = {
    { "vector/blk-config-change-unplugs", test_blk_config_change_unplugs },
    { "vector/blk-config-change-unplugs-and-channel-ends",
      test_blk_config_change_unplugs_hang_up },
    { "vector/gpio-config-change-unplugs", test_gpio_config_change_unplugs },
    { "vector/vsock-config-change-unplugs", test_vsock_config_change_unplugs },
    { "vector/net-link-down-unplugs", test_link_down_unplugs },
    { "vector/net-link-up-unplugs", test_link_up_unplugs },
    { "vector/crypto-ready-change-unplugs", test_ready_change_unplugs },
    { "config/blk-changes-are-dropped-at-unplug",
      test_config_change_is_dropped_at_unplug },
    { "config/gpio-changes-before-the-start",
      test_gpio_config_change_before_start },
    { "config/vsock-changes-before-the-start",
      test_vsock_config_change_before_start },
    { "config/blk-written-while-away", test_blk_config_written_while_away },
    { "config/blk-synced-while-away", test_blk_config_synced_while_away },
    { "config/blk-grows-while-away", test_blk_grows_while_away },
    { "config/blk-grows-while-paused", test_blk_grows_while_paused },
    { "config/blk-write-cache-is-the-drivers",
      test_blk_write_cache_is_the_drivers },
    { "config/gpio-used-while-away", test_gpio_config_used_while_away },
    { "config/scsi-sizes-are-written", test_scsi_sizes_are_written },
    { "ring/set-up-after-the-start", test_ring_set_up_after_the_start },
    { "ring/taken-away-after-the-start",
      test_ring_taken_away_after_the_start },
    { "ring/notifiers-before-the-start", test_notifiers_before_the_start },
    { "ring/blk-in-its-own-registers", test_blk_ring_in_its_own_registers },
    { "ring/net-in-its-own-registers", test_net_ring_in_its_own_registers },
    { "backend/shared-object-of-one-that-left",
      test_shared_object_of_one_that_left },
    { "backend/blk-fewer-queues-wait", test_blk_fewer_queues_wait },
    { "backend/net-leaves-after-netdev-del",
      test_net_leaves_after_netdev_del },
};

void repairs_add_tests(const RepairsSetup *setup)
{
    /* QEMU's own: what is used after it was freed is not as it was. */
    g_setenv("MALLOC_PERTURB_", "165", false);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", setup->prefix,
                                                tests[i].claim);

        qtest_add_data_func(path, setup, tests[i].test);
    }
    repairs_add_leave_tests(setup);
    repairs_add_crypto_tests(setup);
}
