/*
 * The guest's end of a crypto device:
 *
 *     crypto-ops DRIVER ROUNDS FILE
 *
 * Data goes through the kernel's cipher DRIVER and through its software, which
 * must agree; decrypted it must be what it was.  All that DRIVER gave is
 * written to FILE, in its order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <linux/if_alg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "random.h"

#define SOFTWARE "cbc(aes-generic)"
#define BLOCK 16
#define KEY_MAX 32
#define SHORT_MAX 32
/* What the kernel takes at once: 16 pages. */
#define BLOCKS_MAX (15 * 4096 / BLOCK)

typedef struct Text {
    uint8_t key[KEY_MAX];
    unsigned key_bytes;
    uint8_t iv[BLOCK];
    uint8_t data[BLOCKS_MAX * BLOCK];
    size_t bytes;
} Text;

static uint64_t state = 1;
static FILE *output;

static int open_cipher(const char *driver)
{
    struct sockaddr_alg address = {
        .salg_family = AF_ALG, .salg_type = "skcipher",
    };
    int cipher = must(socket(AF_ALG, SOCK_SEQPACKET, 0), "AF_ALG");

    snprintf((char *)address.salg_name, sizeof(address.salg_name), "%s",
             driver);
    must(bind(cipher, (struct sockaddr *)&address, sizeof(address)), driver);
    return cipher;
}

/* The operation and its vector, in the form that sendmsg() wants. */
static void set_control(struct msghdr *message, uint32_t operation,
                        const uint8_t *iv)
{
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    struct af_alg_iv *vector;

    *part = (struct cmsghdr) {
        CMSG_LEN(sizeof(operation)), SOL_ALG, ALG_SET_OP
    };
    memcpy(CMSG_DATA(part), &operation, sizeof(operation));
    part = CMSG_NXTHDR(message, part);
    *part = (struct cmsghdr) {
        CMSG_LEN(sizeof(*vector) + BLOCK), SOL_ALG, ALG_SET_IV
    };
    vector = (struct af_alg_iv *)CMSG_DATA(part);
    vector->ivlen = BLOCK;
    memcpy(vector->iv, iv, BLOCK);
}

static void crypt_text(const char *driver, const Text *text,
                       uint32_t operation, const uint8_t *from, uint8_t *to)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(operation)) +
                      CMSG_SPACE(sizeof(struct af_alg_iv) + BLOCK)];
    } control = {};
    struct iovec iov = { (void *)from, text->bytes };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof(control),
    };
    int cipher = open_cipher(driver);
    int call;

    must(setsockopt(cipher, SOL_ALG, ALG_SET_KEY, text->key, text->key_bytes),
         "setting a key");
    call = must(accept(cipher, NULL, NULL), "accept");
    set_control(&message, operation, text->iv);
    if (must(sendmsg(call, &message, 0), "sendmsg") != (long)text->bytes ||
        must(read(call, to, text->bytes), "read") != (long)text->bytes) {
        die("%s takes or gives a part only", driver);
    }
    close(call);
    close(cipher);
}

static void draw_text(Text *text)
{
    size_t most = draw(&state, 4) ? SHORT_MAX : BLOCKS_MAX;

    text->key_bytes = 16 + 8 * draw(&state, 3);
    text->bytes = BLOCK * (1 + draw(&state, most));
    fill_from(text->key, sizeof(text->key), draw(&state, UINT64_MAX));
    fill_from(text->iv, sizeof(text->iv), draw(&state, UINT64_MAX));
    fill_from(text->data, text->bytes, draw(&state, UINT64_MAX));
}

static void note(const uint8_t *data, size_t size)
{
    if (fwrite(data, 1, size, output) != size) {
        die("the results cannot be written");
    }
}

static void check(const char *driver, const Text *text)
{
    static uint8_t secret[sizeof(text->data)];
    static uint8_t other[sizeof(text->data)];

    crypt_text(driver, text, ALG_OP_ENCRYPT, text->data, secret);
    note(secret, text->bytes);
    crypt_text(SOFTWARE, text, ALG_OP_ENCRYPT, text->data, other);
    if (memcmp(secret, other, text->bytes)) {
        die("%zu bytes are not encrypted as by %s", text->bytes, SOFTWARE);
    }
    crypt_text(driver, text, ALG_OP_DECRYPT, secret, other);
    note(other, text->bytes);
    if (memcmp(text->data, other, text->bytes)) {
        die("%zu bytes are not what they were", text->bytes);
    }
}

int main(int argc, char **argv)
{
    static Text text;

    if (argc != 4) {
        die("usage: crypto-ops DRIVER ROUNDS FILE");
    }
    output = fopen(argv[3], "w");
    if (!output) {
        die("%s", argv[3]);
    }
    for (unsigned round = 0; round < strtoul(argv[2], NULL, 0); round++) {
        draw_text(&text);
        check(argv[1], &text);
    }
    if (fclose(output)) {
        die("%s", argv[3]);
    }
    printf("CRYPTO checked\n");
    return 0;
}
