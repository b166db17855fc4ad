/*
 * A machine with a cryptodev, and its backend, which comes and goes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "libqos/pci-pc.h"
#include "standard-headers/linux/virtio_crypto.h"
#include "isolation-crypto.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum {
    DATA = 0,
    CONTROL = 1,
    HEADER = 72,
    DATA_BYTES = 256,
    KEY_BYTES = 16,
    KEY_BYTE = 0xc7,
    CREATE_SESSION = 26,
    CLOSE_SESSION = 27,
    PROTOCOL_CRYPTO_SESSION = 7,
};

/* The backend */

/* Where a process on x86 has programs, heaps and libraries. */
static bool is_like_address(uint64_t word)
{
    return word >> 40 >= 0x55 && word >> 40 <= 0x7f;
}

static void create_session(CryptoTest *t, ConnectionMessage *m)
{
    static const uint8_t key[KEY_BYTES] = { [0 ... KEY_BYTES - 1] = KEY_BYTE };

    g_assert_nonnull(memmem(m->payload, m->size, key, sizeof(key)));
    for (unsigned i = 0; i + 8 <= m->size; i += 8) {
        t->leaks += is_like_address(ldq_he_p(m->payload + i));
    }
    stq_he_p(m->payload + m->size - 8, t->session);
    m->flags = CONNECTION_REPLY;
    t->created++;
}

static void answer(void *opaque, ConnectionMessage *m, bool known)
{
    CryptoTest *t = opaque;

    switch (m->request) {
    case MOCK_GET_PROTOCOL_FEATURES:
        m->payload[0] |= BIT(PROTOCOL_CRYPTO_SESSION);
        break;
    case MOCK_GET_QUEUE_NUM:
        m->payload[0] = t->queue_num;
        break;
    case CREATE_SESSION:
        create_session(t, m);
        break;
    case CLOSE_SESSION:
        t->closed = ldq_he_p(m->payload);
        g_cond_broadcast(&t->d->backend->changed);
        break;
    default:
        g_assert_true(known);
    }
}

/* The machine */

static char *machine_args(const CryptoTest *t)
{
    const DeviceConfig *config = t->d->config;

    return g_strdup_printf(
        "-nodefaults -M pc%s -m 16M -object memory-backend-shm,id=shared,"
        "size=16M -object iothread,id=thread "
        "-chardev socket,id=socket,server=on,wait=off,path=%s "
        "-object cryptodev-vhost-user,id=object,chardev=socket%s%s "
        "-device virtio-crypto-pci,id=device,addr=%d,cryptodev=object,"
        "packed=%s", config->isolated ? "" : ",memory-backend=shared",
        t->socket, config->isolated ? ",memory-isolation=on" : "",
        config->iothread ? ",iothread=thread" : "", CRYPTO_SLOT,
        config->guest_packed ? "on" : "off");
}

/* The device is there, the backend is not. */
CryptoTest *crypto_new(const DeviceConfig *config)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(CRYPTO_SLOT, 0) };
    CryptoTest *t = g_new0(CryptoTest, 1);
    GuestDevice *d = g_new0(GuestDevice, 1);
    g_autofree char *args = NULL;

    *t = (CryptoTest) { .d = d, .queue_num = 1, .session = 0x1234 };
    d->kind = &device_crypto;
    d->config = config;
    d->state = g_malloc0(DEVICE_STATE);
    d->dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_assert_nonnull(d->dir);
    t->socket = g_strdup_printf("%s/socket", d->dir);
    d->backend = mock_backend_new(&d->kind->model, config->backend_features,
                                  d->state, NULL);
    d->backend->expect_zeros = config->isolated;
    t->c = connection_new(d->backend, t->socket, CREATE_SESSION, answer,
                          t);
    args = machine_args(t);
    d->qts = qtest_init(args);
    d->bus = qpci_new_pc(d->qts, NULL);
    d->next_free = 0x900000;
    virtio_pci_init(&d->pci, d->bus, &addr);
    qvirtio_pci_device_enable(&d->pci);
    return t;
}

void crypto_replug(CryptoTest *t)
{
    GuestDevice *d = t->d;
    QPCIAddress addr = { .devfn = QPCI_DEVFN(CRYPTO_SLOT, 0) };

    qtest_qmp_device_add(d->qts, "virtio-crypto-pci", "device",
                         "{ 'addr': %s, 'cryptodev': 'object',"
                         " 'packed': %i }", stringify(CRYPTO_SLOT),
                         d->config->guest_packed);
    g_free(d->pci.pdev);
    memset(&d->pci, 0, sizeof(d->pci));
    virtio_pci_init(&d->pci, d->bus, &addr);
    qvirtio_pci_device_enable(&d->pci);
}

void crypto_free(CryptoTest *t)
{
    connection_free(t->c);
    device_free(t->d);
    g_free(t->socket);
    g_free(t);
}

bool crypto_hw_ready(CryptoTest *t)
{
    return qvirtio_config_readl(&t->d->pci.vdev,
                                offsetof(struct virtio_crypto_config,
                                         status)) & VIRTIO_CRYPTO_S_HW_READY;
}

void crypto_wait_ready(CryptoTest *t, bool ready)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    while (crypto_hw_ready(t) != ready) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

/* A driver that has been told, and tells. */
void crypto_wait_told(CryptoTest *t, bool ready)
{
    qvirtio_wait_config_isr(&t->d->pci.vdev, WAIT_US);
    g_assert_true(crypto_hw_ready(t) == ready);
}

/*
 * An interrupt of what is served before SET_VRING_CALL arrives is lost: so let
 * QEMU come to the end of the start, and the backend to the last message.
 */
void crypto_wait_served(CryptoTest *t)
{
    g_assert_true(connection_wait_running(t->c, 1));
    crypto_wait_ready(t, true);
    connection_settle(t->c);
}

void crypto_come(CryptoTest *t, unsigned fuse)
{
    connection_open(t->c, fuse);
    crypto_wait_served(t);
}

/* The driver's half of a start; the backend's follows when it is there. */
void crypto_start_away(CryptoTest *t)
{
    device_start_driver(t->d);
    g_assert_false(crypto_hw_ready(t));
}

/* Returns: how many messages a start has. */
unsigned crypto_come_and_go(CryptoTest *t)
{
    unsigned num;

    crypto_come(t, 0);
    t->d->kind->traffic(t->d);
    num = connection_received(t->c);
    connection_close(t->c);
    crypto_wait_ready(t, false);
    return num;
}

/* Before anything else is there. */
void crypto_fill_ram(CryptoTest *t)
{
    if (t->d->config->isolated) {
        t->d->pattern = guest_pattern_fill(t->d->qts, DEVICE_RAM);
    }
}

void crypto_assert_isolated(CryptoTest *t)
{
    if (t->d->config->isolated) {
        evidence_assert_isolated(t->d->backend, qtest_pid(t->d->qts),
                                 &t->d->pattern);
    }
}

/* Requests */

/* The backend is away: QEMU has the queue, and can do nothing. */
void crypto_assert_refused(CryptoTest *t)
{
    uint8_t out[HEADER + DATA_BYTES] = {}, in[DATA_BYTES + 1] = {};

    device_request(t->d, DATA, out, sizeof(out), in, sizeof(in));
    g_assert_cmpuint(in[DATA_BYTES], ==, VIRTIO_CRYPTO_NOTSUPP);
}

uint32_t crypto_create(CryptoTest *t, uint32_t queue, uint64_t *id)
{
    struct {
        struct virtio_crypto_op_ctrl_req req;
        uint8_t key[KEY_BYTES];
    } out = {};
    struct virtio_crypto_session_input in = {};
    struct virtio_crypto_sym_create_session_req *sym =
        &out.req.u.sym_create_session;

    out.req.header.opcode = cpu_to_le32(VIRTIO_CRYPTO_CIPHER_CREATE_SESSION);
    out.req.header.queue_id = cpu_to_le32(queue);
    sym->op_type = cpu_to_le32(VIRTIO_CRYPTO_SYM_OP_CIPHER);
    sym->u.cipher.para.algo = cpu_to_le32(VIRTIO_CRYPTO_CIPHER_AES_CBC);
    sym->u.cipher.para.keylen = cpu_to_le32(KEY_BYTES);
    sym->u.cipher.para.op = cpu_to_le32(VIRTIO_CRYPTO_OP_ENCRYPT);
    memset(out.key, KEY_BYTE, sizeof(out.key));
    g_assert_cmpuint(device_request(t->d, CONTROL, &out, sizeof(out), &in,
                                    sizeof(in)), ==, sizeof(in));
    *id = le64_to_cpu(in.session_id);
    return le32_to_cpu(in.status);
}

uint8_t crypto_close(CryptoTest *t, uint32_t queue, uint64_t id)
{
    struct virtio_crypto_op_ctrl_req out = {};
    uint8_t status = 0xff;

    out.header.opcode = cpu_to_le32(VIRTIO_CRYPTO_CIPHER_DESTROY_SESSION);
    out.header.queue_id = cpu_to_le32(queue);
    out.u.destroy_session.session_id = cpu_to_le64(id);
    device_request(t->d, CONTROL, &out, sizeof(out), &status, 1);
    return status;
}

void crypto_wait_closed(CryptoTest *t, uint64_t id)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    MockBackend *b = t->d->backend;

    g_mutex_lock(&b->lock);
    while (t->closed != id) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    g_mutex_unlock(&b->lock);
}
