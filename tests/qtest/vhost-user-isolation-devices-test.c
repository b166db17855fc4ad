/*
 * Every vhost-user device, with memory isolation and without.
 *
 * Each device is started, moves data both ways, pauses, loses its backend, is
 * stopped, and all of that again; with guest and backend using either ring
 * format.  With the property
 * on, nothing of guest RAM may be in what the backend was given.  With it off
 * and RAM shared the same search must find it, or it would prove nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/memfd.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-device.h"
#include "isolation-target.h"

#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)
#define EVENT_IDX BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)

static const DeviceConfig configs[] = {
    { "off/split" },
    { "off/packed", .guest_packed = true, .guest_event_idx = true,
      .backend_features = PACKED | EVENT_IDX | INDIRECT },
    { "on/split-on-split", .isolated = true },
    { "on/packed-on-split", .isolated = true, .guest_packed = true,
      .backend_features = EVENT_IDX },
    { "on/split-on-packed", .isolated = true,
      .backend_features = PACKED | EVENT_IDX | INDIRECT },
    { "on/packed-on-packed", .isolated = true, .guest_packed = true,
      .guest_event_idx = true, .backend_features = PACKED },
    { "on/packed-on-pinned", .isolated = true, .guest_packed = true,
      .guest_event_idx = true,
      .backend_features = PACKED | EVENT_IDX | INDIRECT,
      .pins = ",x-memory-isolation-packed=off,x-memory-isolation-event-idx=off,"
              "x-memory-isolation-indirect=off",
      .pinned_off = PACKED | EVENT_IDX | INDIRECT },
    { "on/iothread", .isolated = true, .iothread = true,
      .guest_event_idx = true, .backend_features = EVENT_IDX | INDIRECT },
};

static const DeviceKind *const kinds[] = {
    &device_blk, &device_crypto, &device_fs, &device_gpio, &device_i2c,
    &device_input, &device_rng, &device_scmi, &device_scsi, &device_snd,
    &device_vsock,
};

typedef struct DeviceTest {
    const DeviceKind *kind;
    const DeviceConfig *config;
} DeviceTest;

static void pause_and_continue(GuestDevice *d)
{
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'stop' }");
    mock_backend_wait_running(d->backend, 0);
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'cont' }");
    mock_backend_wait_running(d->backend, d->kind->model.num_queues);
}

static void lose_backend(GuestDevice *d)
{
    unsigned session = d->backend->sessions;

    mock_backend_hang_up(d->backend);
    mock_backend_wait_session(d->backend, session + 1);
    mock_backend_wait_running(d->backend, d->kind->model.num_queues);
}

/* With the property off, QEMU cannot tell where a packed ring stood. */
static bool survives_loss(const DeviceTest *test)
{
    return test->kind->reconnects &&
           (test->config->isolated || !test->config->guest_packed);
}

/* All that the backend offers is used, unless a property forbids it. */
static void assert_ring_bits(GuestDevice *d)
{
    const DeviceConfig *config = d->config;
    uint64_t wanted = config->backend_features & ~config->pinned_off;
    uint64_t used;

    if (d->kind->no_version_1) {
        wanted &= ~PACKED;
    }
    if (config->isolated) {
        g_mutex_lock(&d->backend->lock);
        used = d->backend->features & (PACKED | EVENT_IDX | INDIRECT);
        g_mutex_unlock(&d->backend->lock);
        g_assert_cmphex(used, ==, wanted);
    }
}

static void test_device(const void *opaque)
{
    const DeviceTest *test = opaque;
    GuestDevice *d;

    if (device_skip_if_missing(test->kind)) {
        return;
    }
    d = device_new(test->kind, test->config);
    for (int i = 0; i < 2; i++) {
        device_start(d);
        assert_ring_bits(d);
        test->kind->traffic(d);
        pause_and_continue(d);
        test->kind->traffic(d);
        if (survives_loss(test)) {
            lose_backend(d);
            test->kind->traffic(d);
        }
        if (test->config->isolated) {
            evidence_assert_isolated(d->backend, qtest_pid(d->qts),
                                     &d->pattern);
        }
        device_stop(d);
    }
    device_free(d);
}

#include "vhost-user-isolation-flight-cases.c.inc"
#include "vhost-user-isolation-plug-cases.c.inc"
#include "vhost-user-isolation-stream-cases.c.inc"

/* Controls: the evidence is found where it is. */

static void test_shared_ram_is_found(void)
{
    GuestDevice *d = device_new(&device_rng, &configs[0]);
    unsigned needed = BREACH_PATTERN | BREACH_SEALS | BREACH_ADDRESS;

    device_start(d);
    device_rng.traffic(d);
    g_assert_cmphex(evidence_breaches(d->backend, qtest_pid(d->qts),
                                      &d->pattern) & needed, ==, needed);
    device_stop(d);
    device_free(d);
}

enum { CONTROL_SIZE = 2 * MiB, CONTROL_GUEST = 1 << 30, CONTROL_RING = 8 };

static void control_send(MockBackend *b, MockMessage message, int fd)
{
    g_mutex_lock(&b->lock);
    mock_backend_message(b, &message, &fd, fd >= 0);
    g_mutex_unlock(&b->lock);
}

/* A backend that was given one proper region of its own, with one ring. */
static MockBackend *control_backend(uint64_t size, unsigned seals,
                                    uint64_t user_addr)
{
    static const MockModel model = { .num_queues = 2 };
    MockBackend *b = mock_backend_new(&model, 0, NULL, NULL);
    int fd = qemu_memfd_create("control", size, false, 0, seals,
                               &error_abort);

    b->sessions = 1;
    control_send(b, (MockMessage) { MOCK_SET_MEM_TABLE, .table = {
        .num = 1, .regions = { { CONTROL_GUEST, CONTROL_SIZE, user_addr } } } },
        fd);
    control_send(b, (MockMessage) { MOCK_SET_VRING_NUM,
        .state = { .num = CONTROL_RING } }, -1);
    control_send(b, (MockMessage) { MOCK_SET_VRING_ADDR, .addr = {
        .desc_user_addr = user_addr, .avail_user_addr = user_addr + 0x1000,
        .used_user_addr = user_addr + 0x2000 } }, -1);
    return b;
}

#define CONTROL_USER (64 * TiB)
#define CONTROL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static unsigned control_breaches(MockBackend *b)
{
    GuestPattern pattern;
    unsigned breaches;

    memset(&pattern, 0x77, sizeof(pattern));
    breaches = evidence_breaches(b, getpid(), &pattern);
    mock_backend_free(b);
    return breaches;
}

static void test_files_are_judged(void)
{
    MockBackend *b = control_backend(CONTROL_SIZE, CONTROL_SEALS,
                                     CONTROL_USER);

    g_assert_cmphex(control_breaches(b), ==, 0);
    for (unsigned seal = 1; seal <= F_SEAL_GROW; seal <<= 1) {
        b = control_backend(CONTROL_SIZE, CONTROL_SEALS & ~seal,
                            CONTROL_USER);
        g_assert_cmphex(control_breaches(b), ==, BREACH_SEALS);
    }
    b = control_backend(2 * CONTROL_SIZE, CONTROL_SEALS, CONTROL_USER);
    g_assert_cmphex(control_breaches(b), ==, BREACH_FILE);
    b = control_backend(CONTROL_SIZE + 4096, CONTROL_SEALS, CONTROL_USER);
    g_assert_cmphex(control_breaches(b), ==, BREACH_FILE);
}

/* Across the border of what is read at once, which begins at 0 therefore. */
static void test_pattern_is_found_anywhere(void)
{
    uint8_t bytes[8];

    memset(bytes, 0x77, sizeof(bytes));
    for (unsigned at = MiB - 9; at <= MiB + 1; at++) {
        MockBackend *b = control_backend(CONTROL_SIZE, CONTROL_SEALS,
                                         CONTROL_USER);
        int fd = g_array_index(b->received, MockReceived, 0).fd;

        g_assert_cmpint(pwrite(fd, bytes, 1, 0), ==, 1);
        g_assert_cmpint(pwrite(fd, bytes, 8, at), ==, 8);
        g_assert_cmphex(control_breaches(b), ==, BREACH_PATTERN);
    }
}

static void test_tables_are_judged(void)
{
    MockBackend *b = control_backend(CONTROL_SIZE, CONTROL_SEALS,
                                     CONTROL_USER);
    int fd = dup(g_array_index(b->received, MockReceived, 0).fd);

    /* A descriptor of memory that comes with any other message. */
    control_send(b, (MockMessage) { MOCK_SET_VRING_ERR }, fd);
    g_assert_cmphex(control_breaches(b), ==, BREACH_REGIONS);

    /* A second table on the same connection. */
    b = control_backend(CONTROL_SIZE, CONTROL_SEALS, CONTROL_USER);
    fd = dup(g_array_index(b->received, MockReceived, 0).fd);
    control_send(b, (MockMessage) { MOCK_SET_MEM_TABLE, .table = {
        .num = 1,
        .regions = { { CONTROL_GUEST, CONTROL_SIZE, CONTROL_USER } } } }, fd);
    g_assert_cmphex(control_breaches(b), ==, BREACH_REGIONS);

    b = control_backend(CONTROL_SIZE, CONTROL_SEALS, (uintptr_t)&configs &
                        -CONTROL_SIZE);
    g_assert_cmphex(control_breaches(b), ==, BREACH_ADDRESS);
}

static void test_rings_are_judged(void)
{
    static const struct {
        uint64_t desc, avail, used, log;
    } bad[] = {
        { 0x4000, 0x4000 + 16 * CONTROL_RING - 1, 0x5000 },
        { 0x4000, 0x5000, 0x5000 + 2 * CONTROL_RING + 5 },
        { 0x4000, 0x2000 + 8 * CONTROL_RING + 5, 0x6000 },
        { 0x4000, 0x5000, CONTROL_SIZE - 8 * CONTROL_RING - 5 },
        { -16, 0x5000, 0x6000 },
        { 0x4000, 0x5000, 0x6000, .log = 4096 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        MockBackend *b = control_backend(CONTROL_SIZE, CONTROL_SEALS,
                                         CONTROL_USER);

        control_send(b, (MockMessage) { MOCK_SET_VRING_NUM, .state = {
            .index = 1, .num = CONTROL_RING } }, -1);
        control_send(b, (MockMessage) { MOCK_SET_VRING_ADDR, .addr = {
            .index = 1,
            .desc_user_addr = CONTROL_USER + bad[i].desc,
            .avail_user_addr = CONTROL_USER + bad[i].avail,
            .used_user_addr = CONTROL_USER + bad[i].used,
            .log_guest_addr = bad[i].log } }, -1);
        g_assert_cmphex(control_breaches(b), ==, BREACH_RINGS);
    }
}

static void test_logs_are_judged(void)
{
    MockBackend *b = control_backend(CONTROL_SIZE, CONTROL_SEALS,
                                     CONTROL_USER);

    control_send(b, (MockMessage) { MOCK_SET_LOG_BASE }, -1);
    g_assert_cmphex(control_breaches(b), ==, BREACH_LOG);
}

static void add_tests(const DeviceKind *kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        const DeviceConfig *config = &configs[i];
        g_autofree char *path = NULL;
        DeviceTest *test;

        if (!config->isolated && config->guest_packed &&
            !kind->packed_if_shared) {
            continue;
        }
        path = g_strdup_printf("isolation-devices/%s/%s", kind->name,
                               config->name);
        test = g_new(DeviceTest, 1);
        *test = (DeviceTest) { kind, config };
        qtest_add_data_func_full(path, test, test_device, g_free);
    }
}

static void add_pc_tests(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        add_flight_tests(&configs[i]);
        add_stream_tests(&configs[i]);
    }
    qtest_add_func("isolation-devices/control/shared-ram-is-found",
                   test_shared_ram_is_found);
    qtest_add_func("isolation-devices/control/files-are-judged",
                   test_files_are_judged);
    qtest_add_func("isolation-devices/control/pattern-is-found-anywhere",
                   test_pattern_is_found_anywhere);
    qtest_add_func("isolation-devices/control/tables-are-judged",
                   test_tables_are_judged);
    qtest_add_func("isolation-devices/control/rings-are-judged",
                   test_rings_are_judged);
    qtest_add_func("isolation-devices/control/logs-are-judged",
                   test_logs_are_judged);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (kinds[i]->arm_only == target_is_arm()) {
            add_tests(kinds[i]);
            if (!target_is_arm()) {
                add_plug_tests(kinds[i]);
            }
        }
    }
    if (!target_is_arm()) {
        add_pc_tests();
    }
    return g_test_run();
}
