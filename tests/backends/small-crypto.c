/*
 * A crypto device that enciphers with AES in CBC mode:
 *
 *     small-crypto SOCKET NOTES
 *
 * Keys come as messages of the socket, which libvhost-user does not know and
 * has no room for; data comes through the queue.  Every result is appended to
 * the file NOTES, so that it can be compared with what the guest got.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <nettle/aes.h>
#include <nettle/cbc.h>
#include <sys/socket.h>
#include <linux/virtio_config.h>
#include <linux/virtio_crypto.h>

#include "small.h"

#define SESSIONS_MAX 64
#define PAYLOAD_MAX 4096
#define DATA_MAX (256 * 1024)

/* What QEMU sends: its own structure, in the layout of this machine. */
typedef struct Session {
    uint64_t op_code;
    uint32_t cipher;
    uint32_t key_bytes;
    uint32_t hash, hash_bytes, auth_key_bytes, aad_bytes;
    uint8_t op_type, direction, hash_mode, order;
    uint64_t pointers[2];
    uint8_t key[64];
} Session;

typedef struct Message {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
    uint8_t payload[PAYLOAD_MAX];
} Message;

/* id 0: not in use */
typedef struct Key {
    int64_t id;
    bool encrypts;
    nettle_cipher_func *cipher;
    union {
        struct aes128_ctx aes128;
        struct aes192_ctx aes192;
        struct aes256_ctx aes256;
    } context;
} Key;

static Key keys[SESSIONS_MAX];
static int64_t next_id = 1000;
static FILE *notes;

static Key *find_key(int64_t id)
{
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (keys[i].id == id) {
            return &keys[i];
        }
    }
    return NULL;
}

/* Sessions */

static void set_cipher(Key *key, const Session *session)
{
    const uint8_t *bytes = session->key;
    bool encrypts = key->encrypts;

    switch (session->key_bytes) {
    case AES128_KEY_SIZE:
        (encrypts ? aes128_set_encrypt_key : aes128_set_decrypt_key)(
            &key->context.aes128, bytes);
        key->cipher = encrypts ? (nettle_cipher_func *)aes128_encrypt
                               : (nettle_cipher_func *)aes128_decrypt;
        break;
    case AES192_KEY_SIZE:
        (encrypts ? aes192_set_encrypt_key : aes192_set_decrypt_key)(
            &key->context.aes192, bytes);
        key->cipher = encrypts ? (nettle_cipher_func *)aes192_encrypt
                               : (nettle_cipher_func *)aes192_decrypt;
        break;
    case AES256_KEY_SIZE:
        (encrypts ? aes256_set_encrypt_key : aes256_set_decrypt_key)(
            &key->context.aes256, bytes);
        key->cipher = encrypts ? (nettle_cipher_func *)aes256_encrypt
                               : (nettle_cipher_func *)aes256_decrypt;
        break;
    default:
        small_fail("a key of %u bytes", session->key_bytes);
    }
}

static int64_t create_session(const Session *session)
{
    Key *key = find_key(0);

    if (session->op_code != VIRTIO_CRYPTO_CIPHER_CREATE_SESSION ||
        session->op_type != VIRTIO_CRYPTO_SYM_OP_CIPHER ||
        session->cipher != VIRTIO_CRYPTO_CIPHER_AES_CBC) {
        small_fail("a session that was not offered");
    }
    if (session->pointers[0] || session->pointers[1]) {
        small_fail("addresses of QEMU in a message");
    }
    if (!key) {
        return -1;
    }
    key->encrypts = session->direction == VIRTIO_CRYPTO_OP_ENCRYPT;
    set_cipher(key, session);
    key->id = next_id++;
    return key->id;
}

static void close_session(int64_t id)
{
    Key *key = id > 0 ? find_key(id) : NULL;

    if (!key) {
        small_fail("no session %jd to close", (intmax_t)id);
    }
    key->id = 0;
}

static void receive(int fd, void *data, size_t size)
{
    if (recv(fd, data, size, MSG_WAITALL) != (ssize_t)size) {
        small_fail("a message that ends in the middle");
    }
}

static bool take_message(VuDev *dev, uint32_t request)
{
    const size_t header = offsetof(Message, payload);
    static Message m;
    int64_t id;

    if (request != VHOST_USER_CREATE_CRYPTO_SESSION &&
        request != VHOST_USER_CLOSE_CRYPTO_SESSION) {
        return false;
    }
    receive(dev->sock, &m, header);
    if (m.size > sizeof(m.payload)) {
        small_fail("a message of %u bytes", m.size);
    }
    receive(dev->sock, m.payload, m.size);
    if (request == VHOST_USER_CLOSE_CRYPTO_SESSION) {
        memcpy(&id, m.payload, sizeof(id));
        close_session(id);
        return true;
    }
    if (m.size < sizeof(Session) + sizeof(id)) {
        small_fail("a session of %u bytes", m.size);
    }
    id = create_session((const Session *)m.payload);
    memcpy(m.payload + m.size - sizeof(id), &id, sizeof(id));
    m.flags = 1 | VHOST_USER_REPLY_MASK;
    if (send(dev->sock, &m, header + m.size, MSG_NOSIGNAL) < 0) {
        small_fail("the answer was not sent");
    }
    return true;
}

/* What QEMU tells no crypto backend, and libvhost-user insists on. */
static int complete_features(VuDev *dev, VhostUserMsg *message, int *reply)
{
    (void)dev, (void)reply;
    if (message->request == VHOST_USER_SET_FEATURES) {
        message->payload.u64 |= 1ULL << VIRTIO_F_VERSION_1;
    }
    return 0;
}

/* Data */

static void crypt_data(const Key *key, uint8_t *iv, uint8_t *data, size_t size)
{
    static uint8_t from[DATA_MAX];

    memcpy(from, data, size);
    (key->encrypts ? cbc_encrypt : cbc_decrypt)(
        &key->context, key->cipher, AES_BLOCK_SIZE, iv, size, data, from);
    if (small_damage() && size > 1000) {
        data[size - 7] ^= 1;
    }
    if (fwrite(data, 1, size, notes) != size || fflush(notes)) {
        small_fail("NOTES cannot be written");
    }
}

/*
 * Linux may offer more than it wants to have done; the status is at the end.
 *
 * Returns: bytes of the answer.
 */
static size_t serve(const VuVirtqElement *element)
{
    struct virtio_crypto_op_data_req request;
    const struct virtio_crypto_cipher_para *para =
        &request.u.sym_req.u.cipher.para;
    static uint8_t data[DATA_MAX];
    uint8_t iv[AES_BLOCK_SIZE], status = VIRTIO_CRYPTO_OK;
    size_t out = small_bytes(element->out_sg, element->out_num);
    size_t in = small_bytes(element->in_sg, element->in_num);
    const Key *key;
    size_t size;

    if (small_read(element->out_sg, element->out_num, 0, &request,
                   sizeof(request)) != sizeof(request)) {
        small_fail("a request of %zu bytes", out);
    }
    size = para->src_data_len;
    if (request.u.sym_req.op_type != VIRTIO_CRYPTO_SYM_OP_CIPHER ||
        para->iv_len != sizeof(iv) || size != para->dst_data_len ||
        size % sizeof(iv) || size > sizeof(data) ||
        out < sizeof(request) + sizeof(iv) + size || in < size + 1) {
        small_fail("no request of a driver: %zu bytes out, %zu in", out, in);
    }
    key = request.header.session_id ? find_key(request.header.session_id)
                                    : NULL;
    if (!key || key->encrypts != (request.header.opcode ==
                                  VIRTIO_CRYPTO_CIPHER_ENCRYPT)) {
        small_fail("no session %ju", (uintmax_t)request.header.session_id);
    }
    small_read(element->out_sg, element->out_num, sizeof(request), iv,
               sizeof(iv));
    small_read(element->out_sg, element->out_num, sizeof(request) + sizeof(iv),
               data, size);
    crypt_data(key, iv, data, size);
    small_write(element->in_sg, element->in_num, 0, data, size);
    small_write(element->in_sg, element->in_num, in - 1, &status, 1);
    return in;
}

static void kicked(VuDev *dev, int queue)
{
    VuVirtqElement *element;

    while ((element = small_pop(dev, queue))) {
        small_push(dev, queue, element, serve(element));
    }
    small_notify(dev, queue);
}

int main(int argc, char **argv)
{
    static const SmallDevice device = {
        .queues = 1,
        .kicked = kicked,
        .protocol_features = 1ULL << VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
        .take_message = take_message,
        .process_message = complete_features,
    };

    if (argc != 3) {
        small_fail("usage: small-crypto SOCKET NOTES");
    }
    notes = fopen(argv[2], "w");
    if (!notes) {
        small_fail("%s cannot be written", argv[2]);
    }
    small_run(&device, argv[1]);
}
