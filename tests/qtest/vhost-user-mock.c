/*
 * A vhost-user backend in a thread of the test.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/un.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_config.h"
#include "vhost-user-mock.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum {
    CONNECT_MS = 5,             /* between two attempts */
    FDS_MAX = 8,
    F_PROTOCOL_FEATURES = 30,
    PROTOCOL_MQ = 0,
    PROTOCOL_REPLY_ACK = 3,
    PROTOCOL_BACKEND_REQ = 5,
    PROTOCOL_CONFIG = 9,
};

/**
 * VuMock - the backend
 * @lock: for everything below
 * @fatal: the request at which it dies, or 0
 * @died: and whether it did
 * @space: configuration space
 * @running: a bit for each ring
 * @enabled: the same
 * @late_calls: notifiers for interrupts of rings that were enabled already
 * @last: of each request, the last message that came
 */
struct VuMock {
    const VuMockConfig *config;
    char *path;
    GThread *thread;
    int wake[2];

    GMutex lock;
    GCond changed;
    int socket;
    int channel;
    bool quit;
    bool away;
    unsigned fatal;
    bool died;
    uint8_t space[VU_MOCK_PAYLOAD_MAX];
    uint64_t running;
    uint64_t enabled;
    unsigned late_calls;
    unsigned count[VU_MOCK_REQUESTS];
    VuMockMessage *last[VU_MOCK_REQUESTS];
};

/* Messages */

static void answer_u64(VuMockMessage *msg, uint64_t value)
{
    stq_he_p(msg->payload, value);
    msg->size = sizeof(value);
    msg->flags |= VU_MOCK_REPLY;
}

static uint64_t offered_features(const VuMockConfig *c)
{
    return c->features | BIT_ULL(VIRTIO_F_VERSION_1) |
           BIT_ULL(F_PROTOCOL_FEATURES);
}

static uint64_t offered_protocol_features(const VuMockConfig *c)
{
    return c->protocol_features | BIT_ULL(PROTOCOL_MQ) |
           BIT_ULL(PROTOCOL_REPLY_ACK) | BIT_ULL(PROTOCOL_BACKEND_REQ) |
           (c->config_size ? BIT_ULL(PROTOCOL_CONFIG) : 0);
}

static void take_channel(VuMock *m, const int *fds, unsigned num)
{
    g_assert_cmpuint(num, ==, 1);
    if (m->channel >= 0) {
        close(m->channel);
    }
    m->channel = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
    g_assert_cmpint(m->channel, >=, 0);
}

/* The message has offset, size and flags, and then the bytes. */
static void copy_space(VuMock *m, VuMockMessage *msg, bool set)
{
    uint32_t offset = ldl_he_p(msg->payload);
    uint32_t size = msg->size - 12;

    g_assert_cmpuint((uint64_t)offset + size, <=, sizeof(m->space));
    if (set) {
        memcpy(m->space + offset, msg->payload + 12, size);
    } else {
        memcpy(msg->payload + 12, m->space + offset, size);
    }
}

/* Those that have an answer of their own, and those that say how rings are. */
static void handle(VuMock *m, VuMockMessage *msg, const int *fds, unsigned num)
{
    unsigned ring = ldl_he_p(msg->payload) & 0xff;

    switch (msg->request) {
    case VU_MOCK_GET_FEATURES:
        return answer_u64(msg, offered_features(m->config));
    case VU_MOCK_GET_PROTOCOL_FEATURES:
        return answer_u64(msg, offered_protocol_features(m->config));
    case VU_MOCK_GET_QUEUE_NUM:
        return answer_u64(msg, m->config->num_queues);
    case VU_MOCK_GET_STATUS:
        return answer_u64(msg, 0);
    case VU_MOCK_SET_BACKEND_REQ_FD:
        return take_channel(m, fds, num);
    case VU_MOCK_SET_VRING_KICK:
        m->running |= BIT_ULL(ring);
        return;
    case VU_MOCK_SET_VRING_ENABLE:
        m->enabled = deposit64(m->enabled, ring, 1,
                               ldl_he_p(msg->payload + 4));
        return;
    case VU_MOCK_SET_VRING_CALL:
        m->late_calls += extract64(m->enabled, ring, 1);
        return;
    case VU_MOCK_GET_VRING_BASE:
        m->running &= ~BIT_ULL(ring);
        stl_he_p(msg->payload + 4, 0);
        msg->flags |= VU_MOCK_REPLY;
        return;
    case VU_MOCK_GET_CONFIG:
        copy_space(m, msg, false);
        msg->flags |= VU_MOCK_REPLY;
        return;
    case VU_MOCK_SET_CONFIG:
        return copy_space(m, msg, true);
    case VU_MOCK_CREATE_CRYPTO_SESSION:
        stq_he_p(msg->payload + msg->size - 8, 1);
        msg->flags |= VU_MOCK_REPLY;
        return;
    case VU_MOCK_GET_SHARED_OBJECT:
        msg->flags |= VU_MOCK_REPLY;
        return;
    }
}

static void keep(VuMock *m, const VuMockMessage *msg)
{
    g_assert_cmpuint(msg->request, <, VU_MOCK_REQUESTS);
    m->count[msg->request]++;
    g_free(m->last[msg->request]);
    m->last[msg->request] = g_memdup2(msg, sizeof(*msg));
}

/* Returns: false if the peer is gone. */
static bool receive_header(int fd, VuMockMessage *msg, int *fds, unsigned *num)
{
    struct iovec iov = { msg, VU_MOCK_HEADER };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {};
    struct msghdr hdr = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof(control),
    };
    struct cmsghdr *cmsg;

    if (recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC | MSG_WAITALL) != VU_MOCK_HEADER) {
        return false;
    }
    cmsg = CMSG_FIRSTHDR(&hdr);
    *num = cmsg ? (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    if (*num) {
        memcpy(fds, CMSG_DATA(cmsg), *num * sizeof(int));
    }
    return true;
}

static bool receive(VuMock *m, VuMockMessage *msg)
{
    int fds[FDS_MAX];
    unsigned num;

    if (!receive_header(m->socket, msg, fds, &num)) {
        return false;
    }
    g_assert_cmpuint(msg->size, <=, sizeof(msg->payload));
    if (msg->size &&
        recv(m->socket, msg->payload, msg->size, MSG_WAITALL) != msg->size) {
        return false;
    }
    keep(m, msg);
    if (msg->request != m->fatal) {
        handle(m, msg, fds, num);
    }
    for (unsigned i = 0; i < num; i++) {
        close(fds[i]);
    }
    return true;
}

/* Returns: false if this connection is to end. */
static bool serve(VuMock *m)
{
    VuMockMessage msg = {};
    size_t len;

    if (!receive(m, &msg)) {
        return false;
    }
    if (msg.request == m->fatal) {
        m->fatal = 0;
        m->died = true;
        return false;
    }
    if (!(msg.flags & VU_MOCK_REPLY) && msg.flags & VU_MOCK_NEED_REPLY) {
        answer_u64(&msg, 0);
    }
    if (!(msg.flags & VU_MOCK_REPLY)) {
        return true;
    }
    msg.flags &= ~VU_MOCK_NEED_REPLY;
    len = VU_MOCK_HEADER + msg.size;
    return send(m->socket, &msg, len, MSG_NOSIGNAL) == len;
}

/* The connection */

static void forget_channel(VuMock *m)
{
    if (m->channel >= 0) {
        close(m->channel);
        m->channel = -1;
    }
}

static void end_connection(VuMock *m)
{
    if (m->socket >= 0) {
        close(m->socket);
        m->socket = -1;
    }
    m->running = m->enabled = 0;
}

/* Returns: the socket, or -1. */
static int make_connection(VuMock *m)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(addr.sun_path, m->path, sizeof(addr.sun_path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The next connection is in the queue before this one ends. */
static void end_or_die(VuMock *m)
{
    int next = m->died ? make_connection(m) : -1;

    end_connection(m);
    m->socket = next;
    m->died = false;
}

static void turn(VuMock *m)
{
    struct pollfd fds[] = {
        { m->wake[0], POLLIN },
        { m->socket, POLLIN },
    };
    int timeout = m->socket < 0 && !m->away ? CONNECT_MS : -1;
    uint8_t byte;

    g_mutex_unlock(&m->lock);
    poll(fds, G_N_ELEMENTS(fds), timeout);
    g_mutex_lock(&m->lock);
    if (fds[0].revents) {
        g_assert_cmpint(read(m->wake[0], &byte, 1), ==, 1);
    }
    if (m->away) {
        end_connection(m);
    } else if (m->socket < 0) {
        m->socket = make_connection(m);
    } else if (fds[1].revents && !serve(m)) {
        end_or_die(m);
    }
    g_cond_broadcast(&m->changed);
}

static void *thread(void *opaque)
{
    VuMock *m = opaque;

    g_mutex_lock(&m->lock);
    while (!m->quit) {
        turn(m);
    }
    end_connection(m);
    g_mutex_unlock(&m->lock);
    return NULL;
}

static void wake(VuMock *m)
{
    uint8_t byte = 0;

    g_assert_cmpint(write(m->wake[1], &byte, 1), ==, 1);
}

VuMock *vu_mock_new(const VuMockConfig *config, const char *path)
{
    VuMock *m = g_new0(VuMock, 1);

    m->config = config;
    m->path = g_strdup(path);
    m->socket = m->channel = -1;
    g_mutex_init(&m->lock);
    g_cond_init(&m->changed);
    g_assert_cmpint(pipe(m->wake), ==, 0);
    m->thread = g_thread_new("vhost-user mock", thread, m);
    return m;
}

void vu_mock_free(VuMock *m)
{
    g_mutex_lock(&m->lock);
    m->quit = true;
    g_mutex_unlock(&m->lock);
    wake(m);
    g_thread_join(m->thread);
    forget_channel(m);
    for (unsigned i = 0; i < VU_MOCK_REQUESTS; i++) {
        g_free(m->last[i]);
    }
    close(m->wake[0]);
    close(m->wake[1]);
    g_cond_clear(&m->changed);
    g_mutex_clear(&m->lock);
    g_free(m->path);
    g_free(m);
}

/* What tests do */

void vu_mock_change(VuMock *m, const VuMockConfig *config)
{
    g_mutex_lock(&m->lock);
    m->config = config;
    g_mutex_unlock(&m->lock);
}

void vu_mock_set_space(VuMock *m, unsigned offset, const void *bytes,
                       size_t size)
{
    g_mutex_lock(&m->lock);
    memcpy(m->space + offset, bytes, size);
    g_mutex_unlock(&m->lock);
}

void vu_mock_leave(VuMock *m)
{
    g_mutex_lock(&m->lock);
    m->away = true;
    /* At once, though the thread may be polling it. */
    if (m->socket >= 0) {
        shutdown(m->socket, SHUT_RDWR);
    }
    end_connection(m);
    g_mutex_unlock(&m->lock);
    wake(m);
}

void vu_mock_come_back(VuMock *m)
{
    g_mutex_lock(&m->lock);
    m->away = false;
    g_mutex_unlock(&m->lock);
    wake(m);
}

void vu_mock_die_at(VuMock *m, unsigned request)
{
    g_mutex_lock(&m->lock);
    m->fatal = request;
    g_mutex_unlock(&m->lock);
}

static bool is_running(VuMock *m, unsigned num, unsigned b)
{
    return ctpop64(m->running) == num;
}

static bool has_come(VuMock *m, unsigned request, unsigned num)
{
    return m->count[request] >= num;
}

static bool has_channel(VuMock *m, unsigned a, unsigned b)
{
    return m->channel >= 0;
}

static void wait_for(VuMock *m, bool (*test)(VuMock *, unsigned, unsigned),
                     unsigned a, unsigned b)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    g_mutex_lock(&m->lock);
    while (!test(m, a, b)) {
        g_assert_true(g_cond_wait_until(&m->changed, &m->lock, end));
    }
    g_mutex_unlock(&m->lock);
}

void vu_mock_wait_running(VuMock *m, unsigned num)
{
    wait_for(m, is_running, num, 0);
}

void vu_mock_wait_count(VuMock *m, unsigned request, unsigned num)
{
    wait_for(m, has_come, request, num);
}

unsigned vu_mock_count(VuMock *m, unsigned request)
{
    unsigned num;

    g_mutex_lock(&m->lock);
    num = m->count[request];
    g_mutex_unlock(&m->lock);
    return num;
}

unsigned vu_mock_late_calls(VuMock *m)
{
    unsigned num;

    g_mutex_lock(&m->lock);
    num = m->late_calls;
    g_mutex_unlock(&m->lock);
    return num;
}

const VuMockMessage *vu_mock_last(VuMock *m, unsigned request)
{
    const VuMockMessage *msg;

    g_mutex_lock(&m->lock);
    msg = m->last[request];
    g_mutex_unlock(&m->lock);
    return msg;
}

/* The channel: only the test's own thread uses it. */

void vu_mock_send(VuMock *m, unsigned request, uint32_t flags,
                  const void *payload, size_t size)
{
    VuMockMessage msg = { request, VU_MOCK_VERSION | flags, size };
    size_t len = VU_MOCK_HEADER + size;

    wait_for(m, has_channel, 0, 0);
    if (size) {
        memcpy(msg.payload, payload, size);
    }
    g_assert_cmpint(send(m->channel, &msg, len, MSG_NOSIGNAL), ==, len);
}

int64_t vu_mock_receive(VuMock *m)
{
    VuMockMessage msg = {};
    size_t len = VU_MOCK_HEADER + 8;

    if (recv(m->channel, &msg, len, MSG_WAITALL) != len) {
        return -1;
    }
    g_assert_cmphex(msg.flags & VU_MOCK_REPLY, !=, 0);
    return ldq_he_p(msg.payload);
}

void vu_mock_close_channel(VuMock *m)
{
    g_mutex_lock(&m->lock);
    forget_channel(m);
    g_mutex_unlock(&m->lock);
}
