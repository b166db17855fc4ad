/*
 * Sessions of a cryptodev: messages that the guest's control queue causes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_crypto.h"
#include "vhost-user-repairs.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum { CONTROL = 1, KEY_BYTES = 16 };

/* One request on the control queue; returns what the device wrote. */
static struct virtio_crypto_session_input
control(RepairsGuest *g, const void *out, size_t out_len)
{
    struct virtio_crypto_session_input in = {};
    QVirtQueue *vq = g->rings[CONTROL];
    uint64_t addr = guest_alloc(&g->alloc, out_len + sizeof(in));
    uint32_t head;

    qtest_memwrite(g->qts, addr, out, out_len);
    head = qvirtqueue_add(g->qts, vq, addr, out_len, false, true);
    qvirtqueue_add(g->qts, vq, addr + out_len, sizeof(in), true, false);
    qvirtqueue_kick(g->qts, &g->pci.vdev, vq, head);
    qvirtio_wait_used_elem(g->qts, &g->pci.vdev, vq, head, NULL, WAIT_US);
    qtest_memread(g->qts, addr + out_len, &in, sizeof(in));
    guest_free(&g->alloc, addr);
    return in;
}

static uint32_t create_session(RepairsGuest *g, uint32_t queue)
{
    struct {
        struct virtio_crypto_op_ctrl_req req;
        uint8_t key[KEY_BYTES];
    } out = {};
    struct virtio_crypto_cipher_session_para *para =
        &out.req.u.sym_create_session.u.cipher.para;

    out.req.header.opcode = cpu_to_le32(VIRTIO_CRYPTO_CIPHER_CREATE_SESSION);
    out.req.header.queue_id = cpu_to_le32(queue);
    out.req.u.sym_create_session.op_type =
        cpu_to_le32(VIRTIO_CRYPTO_SYM_OP_CIPHER);
    para->algo = cpu_to_le32(VIRTIO_CRYPTO_CIPHER_AES_CBC);
    para->keylen = cpu_to_le32(KEY_BYTES);
    para->op = cpu_to_le32(VIRTIO_CRYPTO_OP_ENCRYPT);
    return le32_to_cpu(control(g, &out, sizeof(out)).status);
}

static bool is_ready(RepairsGuest *g)
{
    return qvirtio_config_readl(&g->pci.vdev,
                                offsetof(struct virtio_crypto_config,
                                         status)) & VIRTIO_CRYPTO_S_HW_READY;
}

/* Where a process on x86 has programs, heaps and libraries. */
static bool is_like_address(uint64_t word)
{
    return word >> 40 >= 0x55 && word >> 40 <= 0x7f;
}

static void test_session_has_no_addresses(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_crypto, true);
    const VuMockMessage *msg;

    repairs_start(g);
    g_assert_cmpuint(create_session(g, 0), ==, VIRTIO_CRYPTO_OK);
    msg = vu_mock_last(g->mock, VU_MOCK_CREATE_CRYPTO_SESSION);
    for (unsigned i = 0; i + 8 <= msg->size; i += 8) {
        g_assert_false(is_like_address(ldq_he_p(msg->payload + i)));
    }
    repairs_free(g);
}

/* The end comes in the middle of the operation; then there is another one. */
static void test_dies_at_a_session(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_crypto, true);

    repairs_start(g);
    for (unsigned i = 0; i < 3; i++) {
        vu_mock_die_at(g->mock, VU_MOCK_CREATE_CRYPTO_SESSION);
        g_assert_cmpuint(create_session(g, 0), ==, VIRTIO_CRYPTO_ERR);
        vu_mock_wait_running(g->mock, 1);
    }
    g_assert_true(is_ready(g));
    g_assert_cmpuint(create_session(g, 0), ==, VIRTIO_CRYPTO_OK);
    repairs_free(g);
}

static void test_session_while_away(const void *setup)
{
    RepairsGuest *g = repairs_new(setup, &repairs_crypto, true);

    repairs_start(g);
    vu_mock_leave(g->mock);
    repairs_wait_away(g);
    g_assert_false(is_ready(g));
    g_assert_cmpuint(create_session(g, 0), ==, VIRTIO_CRYPTO_ERR);
    repairs_free(g);
}

static void test_session_of_a_queue_that_is_not_there(const void *setup)
{
    static const uint32_t queues[] = { 1, 2, 63, 64, 0x10000, UINT32_MAX };
    RepairsGuest *g = repairs_new(setup, &repairs_crypto, true);

    repairs_start(g);
    for (unsigned i = 0; i < G_N_ELEMENTS(queues); i++) {
        g_assert_cmpuint(create_session(g, queues[i]), ==, VIRTIO_CRYPTO_ERR);
    }
    g_assert_cmpuint(vu_mock_count(g->mock, VU_MOCK_CREATE_CRYPTO_SESSION),
                     ==, 0);
    repairs_free(g);
}

static const struct {
    const char *claim;
    void (*test)(const void *setup);
} tests[] = {
    { "session-has-no-addresses", test_session_has_no_addresses },
    { "dies-at-a-session", test_dies_at_a_session },
    { "session-while-away", test_session_while_away },
    { "session-of-a-queue-that-is-not-there",
      test_session_of_a_queue_that_is_not_there },
};

void repairs_add_crypto_tests(const RepairsSetup *setup)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("%s/crypto/%s", setup->prefix,
                                                tests[i].claim);

        qtest_add_data_func(path, setup, tests[i].test);
    }
}
