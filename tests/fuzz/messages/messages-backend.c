/*
 * Fuzzing messages: a backend that says what it likes.
 *
 * It moves when QEMU waits for it, and in between.  It can always give the
 * honest answer to the last request, which is what the lies are made of: one
 * field of it changed, a part of it, more than it, something else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/sockets.h"
#include "messages.h"

/* More says no more, and takes long. */
#define MOVES_MAX 400

/* Longest message of either side, and then some. */
#define BYTES_MAX 2048

typedef struct Message {
    VhostUserMessage header;
    uint8_t payload[BYTES_MAX];
} QEMU_PACKED Message;

/**
 * Backend
 * @fd: its end of the socket, -1: closed
 * @channel: its end of the channel, -1: none
 * @pipe: its end of the pipe for the device's state, -1: none
 * @pipe_out: it is the end that is written
 * @deaf: it reads nothing
 * @fd_in: came with what it has received last, -1: none
 * @in: what it has received of the next request
 * @have: bytes of @in
 * @asked: there was a request that wants an answer
 * @answer: the honest one to it
 * @said: bytes of @answer that were sent
 * @protocol_features: it offers
 * @features: it offers
 */
static struct {
    FuzzInput *input;
    unsigned moves;
    int fd;
    int channel;
    int pipe;
    bool pipe_out;
    bool deaf;
    int fd_in;
    Message in;
    size_t have;
    bool asked;
    Message answer;
    size_t said;
    uint64_t protocol_features;
    uint64_t features;
    uint8_t status;
} backend;

static void close_end(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Of the request at hand, if it is one that has any. */
static void take_fd(void)
{
    int *end = backend.in.header.request == FUZZ_SET_BACKEND_REQ_FD ?
                   &backend.channel :
               backend.in.header.request == FUZZ_SET_DEVICE_STATE_FD ?
                   &backend.pipe : NULL;

    if (end && backend.fd_in >= 0) {
        close_end(end);
        *end = backend.fd_in;
        backend.fd_in = -1;
    }
}

static uint64_t honest_number(const Message *request)
{
    switch (request->header.request) {
    case FUZZ_GET_FEATURES:
        return backend.features;
    case FUZZ_GET_PROTOCOL_FEATURES:
        return backend.protocol_features;
    case FUZZ_GET_QUEUE_NUM:
        return FUZZ_QUEUES;
    case FUZZ_GET_STATUS:
        return backend.status;
    case FUZZ_SET_DEVICE_STATE_FD:
        return 0x100;
    default:
        return 0;
    }
}

static bool wants_answer(const Message *request)
{
    switch (request->header.request) {
    case FUZZ_GET_FEATURES:
    case FUZZ_GET_VRING_BASE:
    case FUZZ_GET_PROTOCOL_FEATURES:
    case FUZZ_GET_QUEUE_NUM:
    case FUZZ_GET_CONFIG:
    case FUZZ_CREATE_CRYPTO_SESSION:
    case FUZZ_GET_STATUS:
    case FUZZ_SET_DEVICE_STATE_FD:
    case FUZZ_CHECK_DEVICE_STATE:
        return true;
    default:
        return request->header.flags & VHOST_USER_MESSAGE_WANTS_ANSWER;
    }
}

/* A request is complete. */
static void understand(void)
{
    const Message *request = &backend.in;
    uint64_t number = honest_number(request);

    backend.have = 0;
    if (!wants_answer(request)) {
        return;
    }
    backend.asked = true;
    backend.said = 0;
    backend.answer.header = request->header;
    backend.answer.header.flags = VHOST_USER_MESSAGE_VERSION |
                                  VHOST_USER_MESSAGE_ANSWER;
    switch (request->header.request) {
    case FUZZ_GET_VRING_BASE:
    case FUZZ_GET_CONFIG:
    case FUZZ_CREATE_CRYPTO_SESSION:
        memcpy(backend.answer.payload, request->payload,
               request->header.size);
        break;
    default:
        backend.answer.header.size = sizeof(number);
        memcpy(backend.answer.payload, &number, sizeof(number));
        break;
    }
}

/* Requests in @bytes, the last of which may not be whole. */
static void hear_bytes(const uint8_t *bytes, size_t size)
{
    while (size) {
        size_t all = sizeof(VhostUserMessage);
        size_t len;

        if (backend.have >= all) {
            g_assert_cmpuint(backend.in.header.size, <=, BYTES_MAX);
            all += backend.in.header.size;
        }
        len = MIN(size, all - backend.have);
        memcpy((uint8_t *)&backend.in + backend.have, bytes, len);
        backend.have += len;
        bytes += len;
        size -= len;
        if (backend.have >= sizeof(VhostUserMessage) &&
            backend.have == sizeof(VhostUserMessage) +
                            backend.in.header.size) {
            take_fd();
            understand();
        }
    }
}

/* What QEMU has sent until now.  Whatever it sends is honest. */
static void hear(void)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(FUZZ_FDS_MAX * sizeof(int))];
    } control;
    uint8_t bytes[2 * BYTES_MAX];
    struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t len;

    if (backend.fd < 0 || backend.deaf) {
        return;
    }
    do {
        msg.msg_controllen = sizeof(control);
        len = __real_recvmsg(backend.fd, &msg,
                             MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (len > 0 && CMSG_FIRSTHDR(&msg)) {
            close_end(&backend.fd_in);
            memcpy(&backend.fd_in, CMSG_DATA(&control.align), sizeof(int));
        }
        hear_bytes(bytes, MAX(len, 0));
        /* It stops behind a message with a descriptor. */
    } while (len > 0 && msg.msg_controllen);
    close_end(&backend.fd_in);
}

/* The rest of the honest answer, or the first @max bytes of it. */
static bool answer(size_t max, int fd, unsigned num_fds)
{
    size_t size = sizeof(VhostUserMessage) + backend.answer.header.size -
                  backend.said;

    if (!backend.asked || backend.fd < 0) {
        return false;
    }
    size = MIN(size, max);
    say(backend.fd, (uint8_t *)&backend.answer + backend.said, size, fd,
        num_fds);
    backend.said += size;
    backend.asked = backend.said <
                    sizeof(VhostUserMessage) + backend.answer.header.size;
    return true;
}

/* All of it again, and one thing is different. */
static void lie(FuzzInput *in)
{
    Message lie = backend.answer;
    uint8_t which = fuzz_u8(in);
    uint32_t value = which & 0x80 ? fuzz_u32(in) : fuzz_u8(in);

    switch (which & 7) {
    case 0:
        lie.header.request = value;
        break;
    case 1:
        lie.header.flags = value;
        break;
    case 2:
        lie.header.size = value;
        break;
    case 3:
        lie.header.size += (int8_t)value;
        break;
    default:
        memcpy(lie.payload + (which >> 3 & 7), &value, sizeof(value));
        break;
    }
    say(backend.fd, &lie, sizeof(VhostUserMessage) +
                          MIN(lie.header.size, BYTES_MAX), -1, 0);
    backend.asked = false;
}

static void say_bytes(FuzzInput *in, int socket)
{
    uint8_t bytes[256];
    uint8_t size = fuzz_u8(in);

    for (unsigned i = 0; i < size; i++) {
        bytes[i] = fuzz_u8(in);
    }
    say(socket, bytes, size, -1, 0);
}

static void answer_with_fds(FuzzInput *in)
{
    uint8_t which = fuzz_u8(in);
    int fd = open_any(which, backend.fd);

    if (!answer(SIZE_MAX, fd, any_number(which >> 3)) && fd >= 0) {
        say(backend.fd, "", 1, fd, any_number(which >> 3));
    }
    close_end(&fd);
}

/* Messages of its own: a flood of them, or one that is odd. */
static void say_on_channel(FuzzInput *in)
{
    uint8_t which = fuzz_u8(in);
    uint8_t payload = which & 0x40 ? fuzz_u8(in) : 0;
    Message msg = {
        .header.request = which & 0x80 ? fuzz_u32(in) : 2,
        .header.flags = which & 1 ? fuzz_u32(in) : VHOST_USER_MESSAGE_VERSION,
        .header.size = which & 2 ? fuzz_u32(in) : payload,
    };
    unsigned times = 1 + (which >> 3 & 7) * (which >> 3 & 7);

    if (which & 4) {
        msg.header.flags |= VHOST_USER_MESSAGE_WANTS_ANSWER;
    }
    while (times--) {
        say(backend.channel, &msg, sizeof(msg.header) + payload, -1, 0);
    }
}

static void channel_odd(FuzzInput *in)
{
    uint8_t which = fuzz_u8(in);
    char buf[4096];
    int fd;

    switch (which & 3) {
    case 0:
        close_end(&backend.channel);
        break;
    case 1:
        while (backend.channel >= 0 &&
               recv(backend.channel, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
        }
        break;
    case 2:
        fd = open_any(which >> 2, backend.fd);
        say(backend.channel, &backend.answer, 1 + (which >> 5), fd,
            any_number(which >> 2));
        close_end(&fd);
        break;
    default:
        say_bytes(in, backend.channel);
        break;
    }
}

static void move_pipe(uint8_t which)
{
    char buf[4096] = { };

    if (backend.pipe < 0 || which & 0x80) {
        close_end(&backend.pipe);
    } else if (backend.pipe_out) {
        fcntl(backend.pipe, F_SETFL, O_NONBLOCK);
        backend.pipe_out = write(backend.pipe, buf, 1 + which * 32) > 0;
    } else {
        fcntl(backend.pipe, F_SETFL, O_NONBLOCK);
        if (read(backend.pipe, buf, sizeof(buf)) <= 0) {
            close_end(&backend.pipe);
        }
    }
}

static void go_away(uint8_t how)
{
    if (backend.fd >= 0 && how & 3) {
        shutdown(backend.fd, how & 1 ? SHUT_WR : SHUT_RD);
    } else {
        close_end(&backend.fd);
        if (how & 4) {
            close_end(&backend.channel);
        }
    }
}

int64_t backend_move(int64_t left_ns)
{
    FuzzInput *in = backend.input;
    uint8_t code = backend.moves++ < MOVES_MAX ? fuzz_u8(in) : 15;

    hear();
    switch (code & 15) {
    case 2:
        answer(1 + fuzz_u8(in) % 32, -1, 0);
        break;
    case 3:
    case 4:
        lie(in);
        break;
    case 5:
        say_bytes(in, backend.fd);
        break;
    case 6:
        answer_with_fds(in);
        break;
    case 7:
        return left_ns / 256 * (1 + fuzz_u8(in));
    case 8:
        go_away(code >> 4);
        break;
    case 9:
        backend.deaf = !backend.deaf;
        break;
    case 10:
    case 11:
        say_on_channel(in);
        break;
    case 12:
        channel_odd(in);
        break;
    case 13:
        move_pipe(fuzz_u8(in));
        break;
    case 15:
        return left_ns;
    default:
        /* Nothing to answer: it sleeps. */
        return answer(SIZE_MAX, -1, 0) ? 0 : left_ns;
    }
    return 0;
}

int backend_connect(void)
{
    int small = 1;
    int fds[2];

    close_end(&backend.fd);
    close_end(&backend.channel);
    close_end(&backend.pipe);
    if (qemu_socketpair(PF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        return -1;
    }
    /* What QEMU sends must fill it soon. */
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    backend.fd = fds[0];
    backend.have = 0;
    backend.asked = false;
    backend.deaf = false;
    world_connection();
    return fds[1];
}

void backend_begin(FuzzInput *in)
{
    uint32_t bits = fuzz_u32(in);

    memset(&backend, 0, sizeof(backend));
    backend.input = in;
    backend.fd = backend.channel = backend.pipe = backend.fd_in = -1;
    /* Without these bits of those that QEMU knows, or any. */
    backend.protocol_features = bits & BIT(22) ? fuzz_u32(in) :
                                                 0xfffff & ~bits;
    backend.features = BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(30) |
                       (uint64_t)(bits >> 20 & 3) << 33 |
                       BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    backend.status = bits >> 24;
}

void backend_end(void)
{
    close_end(&backend.fd);
    close_end(&backend.channel);
    close_end(&backend.pipe);
}
