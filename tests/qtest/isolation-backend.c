/*
 * A vhost-user backend in a thread of the test.
 *
 * The thread connects, waits for messages and kicks, and serves requests as
 * its model says.  Rings run under the same lock as messages, so a queue that
 * has been stopped is not served any more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/un.h>
#include "libqtest.h"
#include "isolation-backend.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

/* Between two attempts to connect. */
#define CONNECT_MS 5

/*
 * A backend answers GET_VRING_BASE with what it has fetched, so that what it
 * keeps is its own until the end of the connection.
 */
void mock_backend_disconnected(MockBackend *b)
{
    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        MockQueue *q = &b->queues[n];

        mock_queue_stop(b, n);
        g_queue_clear_full(&q->kept, g_free);
        q->base = 0;
        q->addressed = q->enabled = false;
    }
    for (unsigned i = 0; i < b->mappings->len; i++) {
        MockMapping *m = &g_array_index(b->mappings, MockMapping, i);

        munmap(m->map, m->bytes);
    }
    g_array_set_size(b->mappings, 0);
    b->features = b->protocol_features = 0;
    b->num_regions = b->table_fds = 0;
    g_cond_broadcast(&b->changed);
}

/* What tests do */

void mock_backend_wait_kept(MockBackend *b, unsigned queue, unsigned num)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    g_mutex_lock(&b->lock);
    while (g_queue_get_length(&b->queues[queue].kept) != num) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    g_mutex_unlock(&b->lock);
}

static unsigned backend_num_running(MockBackend *b)
{
    unsigned num = 0;

    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        num += b->queues[n].running && b->queues[n].enabled;
    }
    return num;
}

void mock_backend_wait_running(MockBackend *b, unsigned num)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    g_mutex_lock(&b->lock);
    while (backend_num_running(b) != num) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    g_mutex_unlock(&b->lock);
}

void mock_backend_wait_session(MockBackend *b, unsigned num)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;

    g_mutex_lock(&b->lock);
    while (b->sessions < num) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    g_mutex_unlock(&b->lock);
}

unsigned mock_backend_served(MockBackend *b, unsigned queue)
{
    unsigned num;

    g_mutex_lock(&b->lock);
    num = b->queues[queue].served;
    g_mutex_unlock(&b->lock);
    return num;
}

unsigned mock_backend_messages(MockBackend *b, MockRequest request)
{
    unsigned num;

    g_mutex_lock(&b->lock);
    num = b->messages[request];
    g_mutex_unlock(&b->lock);
    return num;
}

/* The thread */

void mock_backend_poke(MockBackend *b)
{
    uint8_t byte = 0;

    g_assert_cmpint(write(b->wake[1], &byte, 1), ==, 1);
}

void mock_backend_hang_up(MockBackend *b)
{
    g_mutex_lock(&b->lock);
    if (b->socket >= 0) {
        shutdown(b->socket, SHUT_RDWR);
    }
    g_mutex_unlock(&b->lock);
}

static void receive_exactly(int fd, void *data, size_t len)
{
    g_assert_cmpint(recv(fd, data, len, MSG_WAITALL), ==, len);
}

bool mock_receive_header(int fd, void *header, int *fds, unsigned *num_fds)
{
    struct iovec iov = { header, MOCK_HEADER_SIZE };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MOCK_REGIONS_MAX * sizeof(int))];
    } control = {};
    struct msghdr hdr = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof(control),
    };
    struct cmsghdr *cmsg;

    if (recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC | MSG_WAITALL) !=
        MOCK_HEADER_SIZE) {
        return false;
    }
    g_assert_cmphex(hdr.msg_flags & MSG_CTRUNC, ==, 0);
    cmsg = CMSG_FIRSTHDR(&hdr);
    *num_fds = cmsg ? (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    if (*num_fds) {
        memcpy(fds, CMSG_DATA(cmsg), *num_fds * sizeof(int));
    }
    return true;
}

/* Returns: false if the peer is gone. */
static bool backend_receive(MockBackend *b)
{
    MockMessage message = {};
    int fds[MOCK_REGIONS_MAX];
    unsigned num_fds;

    if (!mock_receive_header(b->socket, &message, fds, &num_fds)) {
        return false;
    }
    g_assert_cmpuint(message.size, <=, sizeof(message) - MOCK_HEADER_SIZE);
    if (message.size) {
        receive_exactly(b->socket, &message.u64, message.size);
    }
    if (mock_backend_message(b, &message, fds, num_fds)) {
        size_t len = MOCK_HEADER_SIZE + message.size;

        return send(b->socket, &message, len, MSG_NOSIGNAL) == len;
    }
    return true;
}

static void backend_connection(MockBackend *b, short events)
{
    if (events && !backend_receive(b)) {
        close(b->socket);
        b->socket = -1;
        mock_backend_disconnected(b);
    }
}

/* The peer listens, or will do so soon.  Returns: the socket, or -1. */
static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void backend_connect(MockBackend *b)
{
    b->socket = b->listener >= 0 ?
                accept4(b->listener, NULL, NULL, SOCK_CLOEXEC) :
                connect_to(b->path);
    if (b->socket >= 0) {
        b->sessions++;
        g_cond_broadcast(&b->changed);
    }
}

enum { POLL_WAKE, POLL_SOCKET, POLL_KICKS };

static void backend_fill_poll(MockBackend *b, struct pollfd *fds)
{
    fds[POLL_WAKE] = (struct pollfd) { b->wake[0], POLLIN };
    fds[POLL_SOCKET] = (struct pollfd) { b->socket, POLLIN };
    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        fds[POLL_KICKS + n] = (struct pollfd) { b->queues[n].kick, POLLIN };
    }
}

static void backend_kicked(MockBackend *b, const struct pollfd *fds)
{
    uint64_t count;

    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        int kick = b->queues[n].kick;

        if (fds[POLL_KICKS + n].revents && kick >= 0 &&
            read(kick, &count, sizeof(count)) == sizeof(count)) {
            mock_queue_run(b, n);
        }
    }
}

/*
 * Messages first: what QEMU sent before a kick may be the eventfd to call on.
 * One may close what was polled, so kicks wait for the next turn then.
 */
static void backend_dispatch(MockBackend *b, const struct pollfd *fds)
{
    uint8_t byte;

    if (fds[POLL_WAKE].revents) {
        g_assert_cmpint(read(b->wake[0], &byte, 1), ==, 1);
    }
    if (b->socket >= 0 && fds[POLL_SOCKET].revents) {
        backend_connection(b, fds[POLL_SOCKET].revents);
    } else {
        backend_kicked(b, fds);
        if (b->socket < 0 && b->path) {
            backend_connect(b);
        }
    }
}

static void *backend_thread(void *opaque)
{
    MockBackend *b = opaque;
    struct pollfd fds[POLL_KICKS + MOCK_QUEUES_MAX];

    g_mutex_lock(&b->lock);
    while (!b->quit) {
        int timeout = b->path && b->socket < 0 ? CONNECT_MS : -1;

        backend_fill_poll(b, fds);
        g_mutex_unlock(&b->lock);
        poll(fds, G_N_ELEMENTS(fds), timeout);
        g_mutex_lock(&b->lock);
        backend_dispatch(b, fds);
    }
    g_mutex_unlock(&b->lock);
    return NULL;
}

static MockBackend *backend_new(const MockModel *model, uint64_t ring_features,
                                void *opaque, const char *path, int listener)
{
    MockBackend *b = g_new0(MockBackend, 1);

    g_assert_cmpuint(model->num_queues, <=, MOCK_QUEUES_MAX);
    g_assert_cmpuint(model->config_size, <=, MOCK_CONFIG_MAX);
    b->model = model;
    b->opaque = opaque;
    b->ring_features = ring_features;
    b->path = g_strdup(path);
    b->socket = -1;
    b->listener = listener;
    if (model->config_size) {
        memcpy(b->config, model->config, model->config_size);
    }
    b->mappings = g_array_new(false, false, sizeof(MockMapping));
    b->received = g_array_new(false, false, sizeof(MockReceived));
    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        b->queues[n].kick = b->queues[n].call = -1;
        g_queue_init(&b->queues[n].kept);
    }
    g_mutex_init(&b->lock);
    g_cond_init(&b->changed);
    g_assert_cmpint(pipe2(b->wake, O_CLOEXEC), ==, 0);
    b->thread = g_thread_new("mock-backend", backend_thread, b);
    return b;
}

MockBackend *mock_backend_new(const MockModel *model, uint64_t ring_features,
                              void *opaque, const char *path)
{
    return backend_new(model, ring_features, opaque, path, -1);
}

MockBackend *mock_backend_new_listening(const MockModel *model,
                                        uint64_t ring_features, void *opaque,
                                        const char *path)
{
    int listener = qtest_socket_server(path);

    g_assert_cmpint(fcntl(listener, F_SETFL, O_NONBLOCK), ==, 0);
    return backend_new(model, ring_features, opaque, path, listener);
}

void mock_backend_free(MockBackend *b)
{
    g_mutex_lock(&b->lock);
    b->quit = true;
    mock_backend_poke(b);
    g_mutex_unlock(&b->lock);
    g_thread_join(b->thread);

    mock_backend_disconnected(b);
    for (unsigned i = 0; i < b->received->len; i++) {
        close(g_array_index(b->received, MockReceived, i).fd);
    }
    for (int i = 0; i < 2; i++) {
        close(b->wake[i]);
    }
    if (b->socket >= 0) {
        close(b->socket);
    }
    if (b->listener >= 0) {
        close(b->listener);
    }
    g_free(b->path);
    g_array_free(b->received, true);
    g_array_free(b->mappings, true);
    g_mutex_clear(&b->lock);
    g_cond_clear(&b->changed);
    g_free(b);
}
