/*
 * What whoever runs the machine can see of memory isolation: a disk and a NIC,
 * isolated and not, and numbers that follow from what is done here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-device.h"
#include "isolation-target.h"

#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)
#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)

/* One disk request of two buffers' worth, which the backend may keep. */
enum { KEPT_OUT = 300, KEPT_IN = 200 };

static const DeviceConfig off = { "off" };
static const DeviceConfig on = {
    "on", .isolated = true, .backend_features = PACKED | INDIRECT,
    .iothread = true,
};
static const DeviceConfig impatient = {
    "impatient", .isolated = true, .pins = ",memory-isolation-stop-ms=1",
};

static QList *query(QTestState *qts)
{
    QDict *answer = qtest_qmp(
        qts, "{ 'execute': 'query-vhost-user-isolation' }");
    QList *list = qdict_get_qlist(answer, "return");

    g_assert_nonnull(list);
    qobject_ref(list);
    qobject_unref(answer);
    return list;
}

/* The caller's. */
static QDict *query_device(GuestDevice *d)
{
    QList *list = query(d->qts);
    QDict *info = qobject_to(QDict, qlist_pop(list));

    g_assert_true(qlist_empty(list));
    qobject_unref(list);
    return info;
}

/* Borrowed. */
static QDict *queue_of(QDict *info, unsigned n)
{
    QList *queues = qdict_get_qlist(info, "queues");
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(queues, e) {
        QDict *queue = qobject_to(QDict, qlist_entry_obj(e));

        if (qdict_get_int(queue, "index") == n) {
            return queue;
        }
    }
    g_assert_not_reached();
}

static uint64_t number(QDict *queue, const char *name)
{
    g_assert_true(qdict_haskey(queue, name));
    return qdict_get_int(queue, name);
}

static void assert_queue(QDict *info, unsigned n, const char *state,
                         const char *name, uint64_t value)
{
    QDict *queue = queue_of(info, n);

    g_assert_cmpstr(qdict_get_str(queue, "state"), ==, state);
    g_assert_cmpuint(number(queue, name), ==, value);
}

/* The backend is a thread of this process. */
static void assert_backend(QDict *info)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    QDict *backend = qdict_get_qdict(info, "backend");

    g_assert_true(qdict_get_bool(info, "connected"));
    g_assert_cmpint(qdict_get_int(backend, "pid"), ==, getpid());
    g_assert_cmpstr(qdict_get_str(backend, "executable"), ==, self);
}

static void assert_ring(QDict *ring, bool packed, bool indirect, unsigned size)
{
    g_assert_true(qdict_get_bool(ring, "packed") == packed);
    g_assert_true(qdict_get_bool(ring, "indirect") == indirect);
    g_assert_false(qdict_get_bool(ring, "event-idx"));
    if (size) {
        g_assert_cmpint(qdict_get_int(ring, "size"), ==, size);
    }
}

/* Each request was alone, and waited for. */
static void assert_numbers(QDict *queue, uint64_t requests, uint64_t out,
                           uint64_t in)
{
    static const char *const nothing[] = {
        "in-flight", "kept", "orphans", "parked", "clamped",
        "guest-calls-saved",
    };

    g_assert_cmpstr(qdict_get_str(queue, "state"), ==, "running");
    g_assert_cmpuint(number(queue, "requests"), ==, requests);
    g_assert_cmpuint(number(queue, "bytes-out"), ==, out);
    g_assert_cmpuint(number(queue, "bytes-in"), ==, in);
    g_assert_cmpuint(number(queue, "forward-batches"), ==, requests);
    g_assert_cmpuint(number(queue, "return-batches"), ==, requests);
    g_assert_cmpuint(number(queue, "guest-calls"), ==, requests);
    /* One more of each when it was started. */
    g_assert_cmpuint(number(queue, "kicks") + number(queue, "kicks-saved"),
                     ==, requests + 1);
    g_assert_cmpuint(number(queue, "guest-kicks"), <=, requests + 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(nothing); i++) {
        g_assert_cmpuint(number(queue, nothing[i]), ==, 0);
    }
    assert_ring(qdict_get_qdict(queue, "guest-ring"), false, false, 8);
}

static void assert_region(QDict *info)
{
    QDict *region = qdict_get_qdict(info, "region");
    uint64_t size = number(region, "size");
    uint64_t high_water = number(region, "high-water");

    g_assert_cmpuint(size % (2 * MiB), ==, 0);
    g_assert_cmpuint(number(region, "resident"), >, 0);
    g_assert_cmpuint(number(region, "resident"), <=, size);
    /* A span is as large as its request, and the next one takes its place. */
    g_assert_cmpuint(high_water, >, 0);
    g_assert_cmpuint(high_water, <=, 64 * KiB);
}

/* The property's sums are the same numbers. */
static void assert_property(GuestDevice *d, QDict *info, const char *name)
{
    const char *path = qdict_get_str(info, "qom-path");
    QDict *answer = qtest_qmp(d->qts, "{ 'execute': 'qom-get', 'arguments': {"
                              " 'path': %s, 'property':"
                              " 'memory-isolation-stats' } }", path);
    uint64_t sum = 0;

    for (unsigned n = 0; n < d->kind->model.num_queues; n++) {
        sum += number(queue_of(info, n), name);
    }
    g_assert_cmpuint(number(qdict_get_qdict(answer, "return"), name), ==, sum);
    qobject_unref(answer);
}

static void assert_isolated(GuestDevice *d, QDict *info)
{
    g_assert_true(qdict_get_bool(info, "isolated"));
    g_assert_cmpstr(qdict_get_str(info, "reason"), ==, "property");
    g_assert_cmpstr(qdict_get_str(info, "device"), ==, "device");
    g_assert_cmpstr(qdict_get_str(info, "qom-path"), ==,
                    "/machine/peripheral/device/virtio-backend");
    g_assert_cmpstr(qdict_get_str(info, "chardev"), ==, "socket");
    g_assert_cmpstr(qdict_get_str(queue_of(info, 0), "iothread"), ==,
                    "thread");
    g_assert_cmpuint(qlist_size(qdict_get_qlist(info, "queues")), ==,
                     d->kind->model.num_queues);
    g_assert_true(qdict_haskey(info, "waited-ns"));
    assert_backend(info);
    assert_region(info);
    assert_property(d, info, "requests");
    assert_property(d, info, "bytes-out");
}

/* A request of the disk's traffic, with its header and its status byte. */
enum { DISK_HEADER = 16, DISK_DATA = 3 * 512 };

static void test_isolated_disk(void)
{
    GuestDevice *d = device_new(&device_blk, &on);
    QDict *info;

    device_start(d);
    d->kind->traffic(d);
    info = query_device(d);
    assert_isolated(d, info);
    assert_numbers(queue_of(info, 0), 2, DISK_HEADER + DISK_DATA + DISK_HEADER,
                   1 + DISK_DATA + 1);
    assert_ring(qdict_get_qdict(queue_of(info, 0), "backend-ring"), true, true,
                1024);
    qobject_unref(info);
    device_stop(d);
    device_free(d);
}

static void test_isolated_nic(void)
{
    static const uint64_t len = 12 + 300;
    GuestDevice *d = device_new(&device_net, &on);
    QDict *info;

    device_start(d);
    for (int i = 0; i < 3; i++) {
        d->kind->traffic(d);
    }
    info = query_device(d);
    assert_isolated(d, info);
    assert_numbers(queue_of(info, 0), 3, 0, 3 * len);
    assert_numbers(queue_of(info, 1), 3, 3 * len, 0);
    qobject_unref(info);
    device_stop(d);
    device_free(d);
}

static void test_not_isolated(const void *opaque)
{
    GuestDevice *d = device_new(opaque, &off);
    QDict *info;

    device_start(d);
    d->kind->traffic(d);
    info = query_device(d);
    g_assert_false(qdict_get_bool(info, "isolated"));
    g_assert_cmpstr(qdict_get_str(info, "reason"), ==, "default");
    g_assert_cmpstr(qdict_get_str(info, "device"), ==, "device");
    g_assert_true(qlist_empty(qdict_get_qlist(info, "queues")));
    g_assert_false(qdict_haskey(info, "region"));
    g_assert_false(qdict_haskey(info, "waited-ns"));
    assert_backend(info);
    qobject_unref(info);
    device_stop(d);
    device_free(d);
}

static bool keep(MockBackend *b, unsigned queue, const MockChain *chain,
                 uint32_t *len)
{
    return false;
}

/* In flight, kept over a stop, an orphan after a reset. */
static void test_request_that_is_out(void)
{
    DeviceKind kind = device_blk;
    uint8_t out[KEPT_OUT] = {};
    GuestDevice *d;
    QDict *info;

    kind.model.serve = keep;
    d = device_new(&kind, &impatient);
    device_start(d);
    device_post(d, 0, out, sizeof(out), KEPT_IN);
    mock_backend_wait_kept(d->backend, 0, 1);
    info = query_device(d);
    assert_queue(info, 0, "running", "in-flight", 1);
    qobject_unref(info);
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'stop' }");
    info = query_device(d);
    assert_queue(info, 0, "kept", "kept", 1);
    qobject_unref(info);
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'cont' }");
    mock_backend_wait_running(d->backend, 1);
    device_stop(d);
    info = query_device(d);
    assert_queue(info, 0, "idle", "orphans", 1);
    assert_queue(info, 0, "idle", "in-flight", 0);
    assert_queue(info, 0, "idle", "requests", 0);
    qobject_unref(info);
    device_free(d);
}

/* The backend has fetched more than there was. */
static void test_broken_queue(void)
{
    GuestDevice *d = device_new(&device_blk, &impatient);
    QDict *info, *queue;

    device_start(d);
    d->backend->base_lie = 100;
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'stop' }");
    info = query_device(d);
    queue = queue_of(info, 0);
    g_assert_cmpstr(qdict_get_str(queue, "state"), ==, "broken");
    g_assert_cmpstr(qdict_get_str(queue, "fault"), ==, "backend-ring");
    g_assert_true(qdict_haskey(queue, "fault-reason"));
    g_assert_cmpuint(number(qdict_get_qdict(queue, "faults"), "backend-ring"),
                     ==, 1);
    g_assert_cmpuint(number(qdict_get_qdict(queue, "faults"), "guest-ring"),
                     ==, 0);
    qobject_unref(info);
    device_free(d);
}

/* There the device is the user's, and what is around it the machine's. */
static void test_virtio_mmio(void)
{
    static const MockModel model = { .num_queues = 1 };
    g_autofree char *dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_autofree char *socket = g_strdup_printf("%s/socket", dir);
    MockBackend *b = mock_backend_new(&model, 0, NULL, socket);
    QTestState *qts;
    QDict *info;
    QList *list;

    if (!qtest_has_machine("microvm")) {
        g_test_skip("this QEMU has no machine with virtio-mmio");
    } else {
        qts = qtest_initf("-nodefaults -M microvm"
                          " -chardev socket,id=socket,server=on,path=%s"
                          " -device vhost-user-rng,id=rng0,chardev=socket,"
                          "memory-isolation=on", socket);
        list = query(qts);
        info = qobject_to(QDict, qlist_pop(list));
        g_assert_cmpstr(qdict_get_str(info, "device"), ==, "rng0");
        g_assert_cmpstr(qdict_get_str(info, "qom-path"), ==,
                        "/machine/peripheral/rng0");
        g_assert_cmpuint(qlist_size(qdict_get_qlist(info, "queues")), ==, 1);
        qobject_unref(info);
        qobject_unref(list);
        qtest_quit(qts);
    }
    mock_backend_free(b);
    unlink(socket);
    rmdir(dir);
}

/* A disk that is isolated, and a netdev that nobody uses and that is not. */
static void test_all_are_listed(void)
{
    static const MockModel model = { .num_queues = 2 };
    GuestDevice *d = device_new(&device_blk, &on);
    g_autofree char *socket = g_strdup_printf("%s/net", d->dir);
    MockBackend *b = mock_backend_new(&model, 0, NULL, socket);
    QDict *disk, *net;
    QList *list;

    qtest_qmp_assert_success(d->qts, "{ 'execute': 'chardev-add', 'arguments':"
        " { 'id': 'net', 'backend': { 'type': 'socket', 'data': { 'server':"
        " true, 'wait': false, 'addr': { 'type': 'unix', 'data': { 'path': %s"
        " } } } } } }", socket);
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'netdev_add', 'arguments':"
        " { 'type': 'vhost-user', 'id': 'net', 'chardev': 'net' } }");
    list = query(d->qts);
    disk = qobject_to(QDict, qlist_pop(list));
    net = qobject_to(QDict, qlist_pop(list));
    g_assert_true(qlist_empty(list));
    g_assert_cmpstr(qdict_get_str(disk, "chardev"), ==, "socket");
    g_assert_true(qdict_get_bool(disk, "isolated"));
    g_assert_cmpstr(qdict_get_str(net, "chardev"), ==, "net");
    g_assert_false(qdict_get_bool(net, "isolated"));
    g_assert_false(qdict_haskey(net, "qom-path"));
    qobject_unref(disk);
    qobject_unref(net);
    qobject_unref(list);
    qtest_qmp_assert_success(d->qts, "{ 'execute': 'netdev_del', 'arguments':"
                             " { 'id': 'net' } }");
    list = query(d->qts);
    g_assert_cmpuint(qlist_size(list), ==, 1);
    qobject_unref(list);
    device_free(d);
    mock_backend_free(b);
}

static void test_people_can_read_it(void)
{
    GuestDevice *d = device_new(&device_blk, &on);
    g_autofree char *text = NULL;

    device_start(d);
    d->kind->traffic(d);
    text = qtest_hmp(d->qts, "info vhost-user-isolation");
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, "device: isolated (property)"));
    g_assert_nonnull(strstr(text, ", iothread thread"));
    g_assert_nonnull(strstr(text, "queue 0: running; guest split, 8; backend "
                            "packed indirect, 1024"));
    g_assert_nonnull(strstr(text, "requests 2, bytes 1568 out, 1538 in"));
    device_stop(d);
    device_free(d);
}

/* Two disks can be told apart. */
static void test_traces_name_the_device(void)
{
    GuestDevice *d = device_new(&device_blk, &on);
    g_autofree char *log = g_strdup_printf("%s/log", d->dir);
    g_autofree char *text = NULL;

    g_free(qtest_hmp(d->qts, "logfile %s", log));
    g_free(qtest_hmp(d->qts, "log trace:isolated_queue_*"));
    device_start(d);
    d->kind->traffic(d);
    device_stop(d);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, "isolated_queue_state device queue 0 idle -> "
                            "running"));
    g_assert_nonnull(strstr(text, "isolated_queue_forwarded device queue 0 "
                            "requests 1"));
    g_assert_nonnull(strstr(text, "isolated_queue_returned device queue 0 "
                            "requests 1"));
    unlink(log);
    device_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("isolation-query/disk/isolated", test_isolated_disk);
    qtest_add_func("isolation-query/nic/isolated", test_isolated_nic);
    qtest_add_data_func("isolation-query/disk/not-isolated", &device_blk,
                        test_not_isolated);
    qtest_add_data_func("isolation-query/nic/not-isolated", &device_net,
                        test_not_isolated);
    qtest_add_func("isolation-query/request-that-is-out",
                   test_request_that_is_out);
    qtest_add_func("isolation-query/broken-queue", test_broken_queue);
    qtest_add_func("isolation-query/all-are-listed", test_all_are_listed);
    qtest_add_func("isolation-query/virtio-mmio", test_virtio_mmio);
    qtest_add_func("isolation-query/people-can-read-it",
                   test_people_can_read_it);
    qtest_add_func("isolation-query/traces-name-the-device",
                   test_traces_name_the_device);
    return g_test_run();
}
