/*
 * A cryptodev whose backend goes away when it likes, and comes back.
 *
 * The object holds the connection, virtio-crypto uses it: neither may be left
 * with what the other has freed.  With memory isolation and without.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "libqos/pci-pc.h"
#include "standard-headers/linux/virtio_crypto.h"
#include "isolation-crypto.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* A start has more messages than this, whatever else is negotiated. */
enum { FEW_MESSAGES = 12 };

static const DeviceConfig configs[] = {
    { "off" },
    { "on", .isolated = true },
    { "on/packed-in-iothread", .isolated = true, .guest_packed = true,
      .iothread = true },
};

/* Cases */

static void test_killed_at_each_message_of_the_start(const void *config)
{
    CryptoTest *t = crypto_new(config);
    unsigned num;

    crypto_fill_ram(t);
    crypto_start_away(t);
    num = crypto_come_and_go(t);
    g_assert_cmpuint(num, >, FEW_MESSAGES);
    for (unsigned fuse = 1; fuse <= num; fuse++) {
        connection_open(t->c, fuse);
        connection_wait_ended(t->c);
        crypto_wait_ready(t, false);
        crypto_assert_refused(t);
    }
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    crypto_assert_isolated(t);
    crypto_free(t);
}

static void test_goes_and_comes_back(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_fill_ram(t);
    crypto_start_away(t);
    crypto_assert_refused(t);
    for (unsigned i = 0; i < 3; i++) {
        crypto_come(t, 0);
        crypto_wait_told(t, true);
        t->d->kind->traffic(t->d);
        crypto_assert_isolated(t);
        connection_close(t->c);
        crypto_wait_told(t, false);
        crypto_assert_refused(t);
    }
    crypto_free(t);
}

static void test_reset_while_away(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_start_away(t);
    crypto_come_and_go(t);
    device_stop(t->d);
    crypto_start_away(t);
    crypto_assert_refused(t);
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    device_stop(t->d);
    device_start_driver(t->d);
    crypto_wait_served(t);
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

/* Nobody lets QEMU's main loop see the end before the guest resets. */
static void test_reset_as_it_goes(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_start_away(t);
    for (unsigned i = 0; i < 10; i++) {
        crypto_come(t, 0);
        connection_close(t->c);
        device_stop(t->d);
        device_start_driver(t->d);
    }
    crypto_wait_ready(t, false);
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

static void test_replaced_while_paused(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_start_away(t);
    crypto_come(t, 0);
    qtest_qmp_assert_success(t->d->qts, "{ 'execute': 'stop' }");
    connection_close(t->c);
    crypto_wait_ready(t, false);
    connection_open(t->c, 0);
    crypto_wait_ready(t, true);
    g_assert_cmpuint(mock_backend_messages(t->d->backend, MOCK_SET_VRING_KICK),
                     ==, 1);
    qtest_qmp_assert_success(t->d->qts, "{ 'execute': 'cont' }");
    crypto_wait_served(t);
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

/* It connects again, and cannot be used: QEMU goes on and hangs up. */
static void test_comes_back_with_too_little(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_start_away(t);
    crypto_come(t, 0);
    connection_close(t->c);
    crypto_wait_ready(t, false);
    t->queue_num = 0;
    for (unsigned i = 0; i < 2; i++) {
        connection_open(t->c, 0);
        connection_wait_ended(t->c);
        crypto_wait_ready(t, false);
        crypto_assert_refused(t);
    }
    t->queue_num = 1;
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

static void test_sessions(const void *config)
{
    CryptoTest *t = crypto_new(config);
    uint64_t id;

    crypto_start_away(t);
    g_assert_cmpuint(crypto_create(t, 0, &id), ==, VIRTIO_CRYPTO_ERR);
    g_assert_cmpuint(crypto_close(t, 0, 1), ==, VIRTIO_CRYPTO_ERR);
    crypto_come(t, 0);
    g_assert_cmpuint(crypto_create(t, 0, &id), ==, VIRTIO_CRYPTO_OK);
    g_assert_cmphex(id, ==, t->session);
    g_assert_cmpuint(t->created, ==, 1);
    g_assert_cmpuint(t->leaks, ==, 0);
    g_assert_cmpuint(crypto_close(t, 0, id), ==, VIRTIO_CRYPTO_OK);
    crypto_wait_closed(t, id);
    t->session = -1;
    g_assert_cmpuint(crypto_create(t, 0, &id), ==, VIRTIO_CRYPTO_ERR);
    t->d->kind->traffic(t->d);
    connection_close(t->c);
    g_assert_cmpuint(crypto_create(t, 0, &id), ==, VIRTIO_CRYPTO_ERR);
    crypto_wait_ready(t, false);
    crypto_free(t);
}

/* What came goes back; the status is at the end, and all of it is used. */
static bool serve_echo(MockBackend *b, unsigned queue, const MockChain *chain,
                       uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    uint8_t status = VIRTIO_CRYPTO_OK;

    *len = iov_size(chain->in, chain->num_in);
    mock_chain_write(chain, 0, out, size);
    mock_chain_write(chain, *len - 1, &status, 1);
    return true;
}

/*
 * Linux's driver adds the rest of its list for each entry of it, so that the
 * same memory is there twice.  A backend fills the first.
 */
static void test_output_that_is_offered_twice(const void *config)
{
    CryptoTest *t = crypto_new(config);
    MockModel model = device_crypto.model;
    uint64_t addr = t->d->next_free;
    const GuestDesc descs[] = {
        { addr, 32 },
        { addr + 64, 16, VRING_DESC_F_WRITE },
        { addr + 80, 16, VRING_DESC_F_WRITE },
        { addr + 80, 16, VRING_DESC_F_WRITE },
        { addr + 128, 1, VRING_DESC_F_WRITE },
    };
    uint8_t out[32], in[32];

    model.serve = serve_echo;
    t->d->backend->model = &model;
    crypto_start_away(t);
    crypto_come(t, 0);
    device_random(out, sizeof(out));
    qtest_memwrite(t->d->qts, addr, out, sizeof(out));
    queue_offer(&t->d->queues[0], descs, G_N_ELEMENTS(descs));
    g_assert_cmpuint(queue_wait_used(&t->d->queues[0]), ==, 49);
    qtest_memread(t->d->qts, addr + 64, in, sizeof(in));
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    crypto_free(t);
}

static void test_session_of_a_queue_that_is_not_there(const void *config)
{
    static const uint32_t queues[] = { 1, 2, 63, 64, 0x10000, UINT32_MAX };
    CryptoTest *t = crypto_new(config);
    uint64_t id;

    crypto_start_away(t);
    crypto_come(t, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(queues); i++) {
        g_assert_cmpuint(crypto_create(t, queues[i], &id), ==,
                         VIRTIO_CRYPTO_ERR);
        g_assert_cmpuint(crypto_close(t, queues[i], 1), ==,
                         VIRTIO_CRYPTO_ERR);
    }
    g_assert_cmpuint(t->created, ==, 0);
    crypto_free(t);
}

/* The end comes within the operation, on the vhost_dev that it has. */
static void test_killed_by_a_session(const void *config)
{
    CryptoTest *t = crypto_new(config);
    unsigned num;
    uint64_t id;

    crypto_start_away(t);
    num = crypto_come_and_go(t);
    for (unsigned i = 0; i < 3; i++) {
        crypto_come(t, num + 1);
        t->d->kind->traffic(t->d);
        g_assert_cmpuint(crypto_create(t, 0, &id), ==, VIRTIO_CRYPTO_ERR);
        crypto_wait_ready(t, false);
        crypto_assert_refused(t);
    }
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

/* Returns: why not, or NULL. */
static char *try_make_object(CryptoTest *t)
{
    QDict *answer = qtest_qmp(
        t->d->qts, "{ 'execute': 'object-add', 'arguments': {"
        " 'qom-type': 'cryptodev-vhost-user', 'id': 'object',"
        " 'chardev': 'socket', 'memory-isolation': %s } }",
        t->d->config->isolated ? "on" : "off");
    QDict *error = qdict_get_qdict(answer, "error");
    char *why = error ? g_strdup(qdict_get_str(error, "desc")) : NULL;

    qobject_unref(answer);
    return why;
}

/*
 * The object before has the chardev until the device that used it is
 * finalized, some time after it is gone.
 *
 * Returns: why not, or NULL.
 */
static char *make_object(CryptoTest *t)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    char *why;

    while ((why = try_make_object(t)) && strstr(why, "already in use")) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_free(why);
        g_usleep(1000);
    }
    return why;
}

static bool chardev_is_open(CryptoTest *t)
{
    QDict *answer = qtest_qmp(t->d->qts, "{ 'execute': 'query-chardev' }");
    const QListEntry *e;
    bool open = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(answer, "return"), e) {
        QDict *chardev = qobject_to(QDict, qlist_entry_obj(e));

        open |= g_str_equal(qdict_get_str(chardev, "label"), "socket") &&
                g_str_has_prefix(qdict_get_str(chardev, "filename"), "unix:");
    }
    qobject_unref(answer);
    return open;
}

static void wait_chardev(CryptoTest *t, bool open)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (chardev_is_open(t) != open) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

static void delete_object(CryptoTest *t)
{
    qtest_qmp_assert_success(
        t->d->qts, "{ 'execute': 'object-del', 'arguments': {"
        " 'id': 'object' } }");
}

/* The guest's driver is not asked; then the object goes, in either state. */
static void test_unplugged_while_started(const void *config)
{
    CryptoTest *t = crypto_new(config);

    crypto_start_away(t);
    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    qpci_unplug_acpi_device_test(t->d->qts, "device", CRYPTO_SLOT);
    connection_wait_running(t->c, 0);
    delete_object(t);
    connection_close(t->c);
    wait_chardev(t, false);
    g_assert_null(make_object(t));
    connection_open(t->c, 0);
    wait_chardev(t, true);
    delete_object(t);
    connection_close(t->c);
    wait_chardev(t, false);
    g_assert_null(make_object(t));
    crypto_free(t);
}

/* The connection stays, and with it what was negotiated. */
static void test_next_device_is_served(const void *config)
{
    CryptoTest *t = crypto_new(config);
    unsigned num;

    crypto_start_away(t);
    crypto_come(t, 0);
    for (unsigned i = 0; i < 3; i++) {
        t->d->kind->traffic(t->d);
        num = connection_received(t->c);
        qpci_unplug_acpi_device_test(t->d->qts, "device", CRYPTO_SLOT);
        g_assert_true(connection_wait_running(t->c, 0));
        crypto_replug(t);
        device_start_driver(t->d);
        crypto_wait_served(t);
        g_assert_cmpuint(connection_received(t->c), >, num);
    }
    t->d->kind->traffic(t->d);
    crypto_free(t);
}

/* There is a server when the object is made, and it cannot be used. */
static void test_object_is_refused(const void *config)
{
    CryptoTest *t = crypto_new(config);
    g_autofree char *why = NULL;

    qpci_unplug_acpi_device_test(t->d->qts, "device", CRYPTO_SLOT);
    delete_object(t);
    t->queue_num = 0;
    connection_open(t->c, 0);
    wait_chardev(t, true);
    why = make_object(t);
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, "cannot be used"));
    connection_wait_ended(t->c);
    g_assert_null(make_object(t));
    crypto_free(t);
}

typedef struct Case {
    const char *claim;
    void (*test)(const void *config);
} Case;

static const Case cases[] = {
    { "killed-at-each-message-of-the-start",
      test_killed_at_each_message_of_the_start },
    { "goes-and-comes-back", test_goes_and_comes_back },
    { "reset-while-away", test_reset_while_away },
    { "reset-as-it-goes", test_reset_as_it_goes },
    { "replaced-while-paused", test_replaced_while_paused },
    { "comes-back-with-too-little", test_comes_back_with_too_little },
    { "sessions", test_sessions },
    { "output-that-is-offered-twice", test_output_that_is_offered_twice },
    { "session-of-a-queue-that-is-not-there",
      test_session_of_a_queue_that_is_not_there },
    { "killed-by-a-session", test_killed_by_a_session },
    { "unplugged-while-started", test_unplugged_while_started },
    { "next-device-is-served", test_next_device_is_served },
    { "object-is-refused", test_object_is_refused },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
        for (unsigned n = 0; n < G_N_ELEMENTS(cases); n++) {
            g_autofree char *path = g_strdup_printf(
                "isolation-crypto/%s/%s", configs[i].name, cases[n].claim);

            qtest_add_data_func(path, &configs[i], cases[n].test);
        }
    }
    return g_test_run();
}
