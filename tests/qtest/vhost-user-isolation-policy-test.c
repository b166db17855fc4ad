/*
 * One policy for a VM (-object vhost-user-isolation), and what comes of it for
 * each type of device.
 *
 * Guest RAM is shared here: QEMU could hand it out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "isolation-device.h"
#include "isolation-target.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

static const DeviceConfig configs[] = {
    { "prefer", .isolated = true, .policy = "policy=prefer" },
    { "require", .isolated = true, .policy = "policy=require" },
    { "require-in-its-iothread", .isolated = true,
      .policy = "policy=require,iothread=thread" },
};

static const DeviceKind *const kinds[] = {
    &device_blk, &device_crypto, &device_fs, &device_gpio, &device_i2c,
    &device_input, &device_net, &device_rng, &device_scsi, &device_snd,
    &device_vsock,
};

typedef struct PolicyTest {
    const DeviceKind *kind;
    const DeviceConfig *config;
} PolicyTest;

/* It is the policy's doing, and in the policy's IOThread. */
static void assert_by_policy(GuestDevice *d)
{
    bool thread = strstr(d->config->policy, "iothread=");
    QDict *answer = qtest_qmp(
        d->qts, "{ 'execute': 'query-vhost-user-isolation' }");
    QList *list = qdict_get_qlist(answer, "return");
    QDict *info = qobject_to(QDict, qlist_peek(list));
    QList *queues = qdict_get_qlist(info, "queues");
    const QListEntry *e;

    g_assert_cmpstr(qdict_get_str(info, "reason"), ==, "policy");
    QLIST_FOREACH_ENTRY(queues, e) {
        QDict *queue = qobject_to(QDict, qlist_entry_obj(e));

        g_assert_cmpstr(qdict_get_try_str(queue, "iothread"), ==,
                        thread ? "thread" : NULL);
    }
    qobject_unref(answer);
}

/* A device that says nothing: no message has a descriptor of guest RAM. */
static void test_device_is_isolated(const void *opaque)
{
    const PolicyTest *test = opaque;
    GuestDevice *d = device_new(test->kind, test->config);

    assert_by_policy(d);
    device_start(d);
    test->kind->traffic(d);
    evidence_assert_isolated(d->backend, qtest_pid(d->qts), &d->pattern);
    device_stop(d);
    device_free(d);
}

/* A machine whose devices come by QMP */

typedef struct PolicyMachine {
    char *dir;
    MockBackend *backend;
    QTestState *qts;
} PolicyMachine;

static char *machine_socket(const PolicyMachine *m)
{
    return g_strdup_printf("%s/socket", m->dir);
}

static void machine_remove_files(void *opaque)
{
    PolicyMachine *m = opaque;
    g_autofree char *socket = machine_socket(m);

    unlink(socket);
    rmdir(m->dir);
}

static PolicyMachine *machine_new(const char *args)
{
    static const MockModel model = { .num_queues = 2 };
    PolicyMachine *m = g_new0(PolicyMachine, 1);
    g_autofree char *socket = NULL;

    m->dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_assert_nonnull(m->dir);
    qtest_add_abrt_handler(machine_remove_files, m);
    socket = machine_socket(m);
    m->backend = mock_backend_new(&model, 0, NULL, socket);
    m->qts = qtest_initf("-nodefaults -m 16M -M %s,memory-backend=shared"
                         " -object memory-backend-shm,id=shared,size=16M"
                         " -chardev socket,id=socket,server=on,path=%s"
                         " %s", target_machine(), socket, args);
    return m;
}

static void machine_free(PolicyMachine *m)
{
    qtest_quit(m->qts);
    qtest_remove_abrt_handler(m);
    mock_backend_free(m->backend);
    machine_remove_files(m);
    g_free(m->dir);
    g_free(m);
}

/* Returns: what is wrong with it, or NULL. */
static char *machine_try(PolicyMachine *m, const char *command,
                         const char *arguments)
{
    QDict *answer = qtest_qmp(m->qts, "{ 'execute': %s, 'arguments': %p }",
                              command, qobject_from_json(arguments,
                                                         &error_abort));
    QDict *error = qdict_get_qdict(answer, "error");
    char *why = error ? g_strdup(qdict_get_str(error, "desc")) : NULL;

    qobject_unref(answer);
    return why;
}

static void machine_do(PolicyMachine *m, const char *command,
                       const char *arguments)
{
    g_autofree char *why = machine_try(m, command, arguments);

    g_assert_cmpstr(why, ==, NULL);
}

/* Its chardev goes with it, and a new one waits for the backend. */
static void machine_del_netdev(PolicyMachine *m)
{
    g_autofree char *socket = machine_socket(m);

    machine_do(m, "netdev_del", "{'id': 'net'}");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'chardev-add', 'arguments':"
        " { 'id': 'socket', 'backend': { 'type': 'socket', 'data': { 'server':"
        " true, 'wait': true, 'addr': { 'type': 'unix', 'data': { 'path': %s }"
        " } } } } }", socket);
}

static void machine_assert_refused(PolicyMachine *m, const char *command,
                                   const char *arguments, const char *says)
{
    g_autofree char *why = machine_try(m, command, arguments);

    g_test_message("%s: %s", arguments, why);
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, says));
}

/* Is it told only what an isolated backend is? */
static bool backend_is_isolated(MockBackend *b)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    bool logs;

    g_mutex_lock(&b->lock);
    while (!b->protocol_features) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    logs = b->protocol_features & BIT_ULL(MOCK_PROTOCOL_LOG_SHMFD);
    g_mutex_unlock(&b->lock);
    return !logs;
}

#define ADD_NETDEV(more) "{'type': 'vhost-user', 'id': 'net'," \
                         " 'chardev': 'socket'" more "}"
#define ADD_POLICY(policy) "{'qom-type': 'vhost-user-isolation'," \
                           " 'id': 'iso0', 'policy': '" policy "'}"
#define DEL_POLICY "{'id': 'iso0'}"

/**
 * Plug - a device that policy=require refuses
 * @claim: test name
 * @command: of QMP
 * @arguments: device, netdev or object
 * @says: what is in the message
 */
typedef struct Plug {
    const char *claim;
    const char *command;
    const char *arguments;
    const char *says;
} Plug;

#define DEVICE(name, more) "{'driver': '" name "', 'chardev': 'socket'" more "}"
#define OFF ", 'memory-isolation': 'off'"
#define NOT_OFF(name) "memory-isolation=off is not possible for " name \
                      ": object 'iso0' has policy=require"
#define NOT_POSSIBLE(name) name " cannot be isolated, and object 'iso0' has " \
                           "policy=require"

static const Plug plugs[] = {
    { "blk", "device_add", DEVICE("vhost-user-blk-pci", OFF),
      NOT_OFF("virtio-blk") },
    { "scsi", "device_add", DEVICE("vhost-user-scsi-pci", OFF),
      NOT_OFF("virtio-scsi") },
    { "fs", "device_add", DEVICE("vhost-user-fs-pci", ", 'tag': 'fs'" OFF),
      NOT_OFF("virtio-user-fs") },
    { "vsock", "device_add", DEVICE("vhost-user-vsock-pci", OFF),
      NOT_OFF("vhost-vsock") },
    { "rng", "device_add", DEVICE("vhost-user-rng-pci", OFF),
      NOT_OFF("virtio-rng") },
    { "i2c", "device_add", DEVICE("vhost-user-i2c-pci", OFF),
      NOT_OFF("vhost-user-i2c") },
    { "gpio", "device_add", DEVICE("vhost-user-gpio-pci", OFF),
      NOT_OFF("virtio-gpio") },
    { "input", "device_add", DEVICE("vhost-user-input-pci", OFF),
      NOT_OFF("virtio-input") },
    { "snd", "device_add", DEVICE("vhost-user-snd-pci", OFF),
      NOT_OFF("virtio-sound") },
    { "net", "netdev_add", ADD_NETDEV(OFF), NOT_OFF("virtio-net") },
    { "crypto", "object-add", "{'qom-type': 'cryptodev-vhost-user',"
      " 'id': 'crypto', 'chardev': 'socket'" OFF "}",
      NOT_OFF("virtio-crypto") },
    { "generic", "device_add", DEVICE("vhost-user-test-device-pci",
      ", 'virtio-id': 5"), NOT_POSSIBLE("virtio-balloon") },
    { "global", "device_add", DEVICE("vhost-user-vsock-pci", ", 'id': 'v'"),
      NOT_OFF("vhost-vsock") },
};

static void test_require_refuses(const void *opaque)
{
    const Plug *plug = opaque;
    bool is_global = g_str_equal(plug->claim, "global");
    PolicyMachine *m;

    if (strstr(plug->arguments, "test-device") &&
        !qtest_has_device("vhost-user-test-device-pci")) {
        g_test_skip("this QEMU lets nobody create the generic device");
        return;
    }
    m = machine_new(is_global ?
        "-object vhost-user-isolation,id=iso0,policy=require"
        " -global vhost-user-vsock-pci.memory-isolation=off" :
        "-object vhost-user-isolation,id=iso0,policy=require");
    machine_assert_refused(m, plug->command, plug->arguments, plug->says);
    /* The backend was told nothing, and another device can have the socket. */
    g_assert_cmpuint(mock_backend_messages(m->backend, MOCK_SET_OWNER), ==, 0);
    machine_do(m, "netdev_add", ADD_NETDEV());
    g_assert_true(backend_is_isolated(m->backend));
    machine_free(m);
}

static void test_without_policy_nothing_is_isolated(void)
{
    PolicyMachine *m = machine_new("");

    machine_do(m, "netdev_add", ADD_NETDEV());
    g_assert_false(backend_is_isolated(m->backend));
    machine_free(m);
}

static void test_prefer_leaves_off_alone(void)
{
    PolicyMachine *m = machine_new("");

    machine_do(m, "object-add", ADD_POLICY("prefer"));
    machine_do(m, "netdev_add", ADD_NETDEV(OFF));
    g_assert_false(backend_is_isolated(m->backend));
    machine_free(m);
}

static void test_late_policy_holds_from_then_on(void)
{
    PolicyMachine *m = machine_new("");

    machine_do(m, "object-add", ADD_POLICY("prefer"));
    machine_do(m, "netdev_add", ADD_NETDEV());
    g_assert_true(backend_is_isolated(m->backend));
    machine_free(m);
}

static void test_require_is_refused_if_it_is_not_true(void)
{
    PolicyMachine *m = machine_new("");

    machine_do(m, "netdev_add", ADD_NETDEV());
    machine_assert_refused(m, "object-add", ADD_POLICY("require"),
                           "policy=require comes too late: the backend at "
                           "chardev 'socket'");
    machine_del_netdev(m);
    machine_do(m, "object-add", ADD_POLICY("require"));
    machine_assert_refused(m, "netdev_add", ADD_NETDEV(OFF),
                           NOT_OFF("virtio-net"));
    machine_free(m);
}

static void test_isolated_devices_may_come_before_require(void)
{
    PolicyMachine *m = machine_new("");

    machine_do(m, "netdev_add", ADD_NETDEV(", 'memory-isolation': 'on'"));
    machine_do(m, "object-add", ADD_POLICY("require"));
    machine_free(m);
}

static void test_there_is_one_policy(void)
{
    PolicyMachine *m = machine_new(
        "-object vhost-user-isolation,id=iso1,policy=prefer");

    machine_assert_refused(m, "object-add", ADD_POLICY("require"),
                           "object 'iso1' is the policy of this VM already");
    machine_do(m, "object-del", "{'id': 'iso1'}");
    machine_do(m, "object-add", ADD_POLICY("require"));
    machine_free(m);
}

static void test_policy_stays_as_it_is(void)
{
    PolicyMachine *m = machine_new(
        "-object vhost-user-isolation,id=iso0,policy=require"
        " -object iothread,id=thread");

    machine_assert_refused(m, "qom-set", "{'path': '/objects/iso0',"
                           " 'property': 'policy', 'value': 'prefer'}",
                           "policy cannot be changed any more");
    machine_assert_refused(m, "qom-set", "{'path': '/objects/iso0',"
                           " 'property': 'iothread', 'value': 'thread'}",
                           "iothread cannot be changed any more");
    machine_do(m, "netdev_add", ADD_NETDEV());
    machine_assert_refused(m, "object-del", DEL_POLICY, "is in use");
    machine_del_netdev(m);
    machine_do(m, "object-del", DEL_POLICY);
    machine_do(m, "netdev_add", ADD_NETDEV(OFF));
    machine_free(m);
}

/* The chardev is none that a backend could be at: QEMU ends after the words. */
static void test_prefer_says_what_it_cannot(void)
{
    g_autofree char *command = g_strdup_printf(
        "timeout -k 5 60 %s -nodefaults -display none -M %s -m 16 -S "
        "-accel qtest -object vhost-user-isolation,id=iso0,policy=prefer "
        "-chardev null,id=socket -device vhost-user-gpu-pci,chardev=socket",
        getenv("QTEST_QEMU_BINARY"), target_machine());
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;

    g_spawn_command_line_sync(command, NULL, &text, NULL, &err);
    g_assert_no_error(err);
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, "warning: vhost-user-gpu is not isolated, "
                            "although object 'iso0' has policy=prefer"));
}

static void add_device_tests(const DeviceConfig *config)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf(
            "isolation-policy/%s/%s", config->name, kinds[i]->name);
        PolicyTest *test = g_new(PolicyTest, 1);

        *test = (PolicyTest) { kinds[i], config };
        qtest_add_data_func_full(path, test, test_device_is_isolated, g_free);
    }
}

static void add_refusals(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(plugs); i++) {
        g_autofree char *path = g_strdup_printf(
            "isolation-policy/refused/%s", plugs[i].claim);

        qtest_add_data_func(path, &plugs[i], test_require_refuses);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        add_device_tests(&configs[i]);
    }
    add_refusals();
    qtest_add_func("isolation-policy/none/nothing-is-isolated",
                   test_without_policy_nothing_is_isolated);
    qtest_add_func("isolation-policy/prefer/leaves-off-alone",
                   test_prefer_leaves_off_alone);
    qtest_add_func("isolation-policy/prefer/says-what-it-cannot",
                   test_prefer_says_what_it_cannot);
    qtest_add_func("isolation-policy/late/holds-from-then-on",
                   test_late_policy_holds_from_then_on);
    qtest_add_func("isolation-policy/late/require-is-refused-if-not-true",
                   test_require_is_refused_if_it_is_not_true);
    qtest_add_func("isolation-policy/late/isolated-devices-may-be-there",
                   test_isolated_devices_may_come_before_require);
    qtest_add_func("isolation-policy/object/there-is-one",
                   test_there_is_one_policy);
    qtest_add_func("isolation-policy/object/stays-as-it-is",
                   test_policy_stays_as_it_is);
    return g_test_run();
}
