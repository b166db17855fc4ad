/*
 * A backend's connection, which a test makes and ends when it likes.
 *
 * One thread a connection: it receives, lets the backend answer, and goes when
 * the peer or the fuse ends the connection.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include "isolation-connection.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

enum { RETRY_US = 5000 };

/**
 * Connection - the connection
 * @thread: NULL: there is no connection, nor was one since the last close
 * @socket: open as long as there is a @thread
 * @received: messages on this connection.  Under the backend's lock, as is
 * @ended: the thread has seen the end
 */
struct Connection {
    MockBackend *backend;
    char *path;
    unsigned knows;
    ConnectionHook *hook;
    void *opaque;

    GThread *thread;
    int socket;
    unsigned fuse;
    unsigned received;
    bool ended;
};

static bool receive_exactly(int fd, void *data, size_t len)
{
    return len == 0 || recv(fd, data, len, MSG_WAITALL) == len;
}

/* Returns: false if the peer is gone. */
static bool receive(int fd, ConnectionMessage *m, int *fds, unsigned *num_fds)
{
    if (!mock_receive_header(fd, m, fds, num_fds)) {
        return false;
    }
    g_assert_cmpuint(m->size, <=, sizeof(m->payload));
    return receive_exactly(fd, m->payload, m->size);
}

static void drop(const int *fds, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        close(fds[i]);
    }
}

/* Returns: whether there is a reply. */
static bool handle(Connection *c, ConnectionMessage *m, const int *fds,
                   unsigned num_fds)
{
    bool known = m->request < c->knows;

    if (known) {
        g_assert_cmpuint(m->size, <=, sizeof(MockMessage) - MOCK_HEADER_SIZE);
        known = mock_backend_message(c->backend, (MockMessage *)m, fds,
                                     num_fds);
        if (!known) {
            return false;
        }
    } else {
        drop(fds, num_fds);
    }
    if (c->hook) {
        c->hook(c->opaque, m, known);
    }
    return m->flags == CONNECTION_REPLY;
}

static bool step(Connection *c)
{
    ConnectionMessage m = {};
    int fds[MOCK_REGIONS_MAX];
    unsigned num_fds;

    if (!receive(c->socket, &m, fds, &num_fds)) {
        return false;
    }
    c->received++;
    if (c->received == c->fuse) {
        drop(fds, num_fds);
        return false;
    }
    return !handle(c, &m, fds, num_fds) ||
           send(c->socket, &m, MOCK_HEADER_SIZE + m.size, MSG_NOSIGNAL) > 0;
}

/* What is not in the socket any more has been dealt with: see settle. */
static void *connection_thread(void *opaque)
{
    Connection *c = opaque;
    struct pollfd pollfd = { c->socket, POLLIN };
    bool open = true;

    while (open) {
        poll(&pollfd, 1, -1);
        g_mutex_lock(&c->backend->lock);
        open = step(c);
        g_mutex_unlock(&c->backend->lock);
    }
    shutdown(c->socket, SHUT_RDWR);
    g_mutex_lock(&c->backend->lock);
    mock_backend_disconnected(c->backend);
    c->ended = true;
    g_cond_broadcast(&c->backend->changed);
    g_mutex_unlock(&c->backend->lock);
    mock_backend_poke(c->backend);
    return NULL;
}

Connection *connection_new(MockBackend *b, const char *path, unsigned knows,
                           ConnectionHook *hook, void *opaque)
{
    Connection *c = g_new0(Connection, 1);

    g_assert_null(b->path);
    *c = (Connection) {
        .backend = b, .path = g_strdup(path), .knows = knows,
        .hook = hook, .opaque = opaque,
    };
    return c;
}

void connection_free(Connection *c)
{
    connection_close(c);
    g_free(c->path);
    g_free(c);
}

/* The peer listens, or will do so soon. */
void connection_open(Connection *c, unsigned fuse)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int64_t end = g_get_monotonic_time() + WAIT_US;

    connection_close(c);
    g_strlcpy(addr.sun_path, c->path, sizeof(addr.sun_path));
    c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(c->socket, >=, 0);
    while (connect(c->socket, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(RETRY_US);
    }
    g_mutex_lock(&c->backend->lock);
    c->backend->sessions++;
    g_mutex_unlock(&c->backend->lock);
    c->fuse = fuse;
    c->received = 0;
    c->ended = false;
    c->thread = g_thread_new("connection", connection_thread, c);
}

void connection_close(Connection *c)
{
    if (!c->thread) {
        return;
    }
    shutdown(c->socket, SHUT_RDWR);
    g_thread_join(g_steal_pointer(&c->thread));
    close(c->socket);
}

unsigned connection_received(Connection *c)
{
    unsigned received;

    g_mutex_lock(&c->backend->lock);
    received = c->received;
    g_mutex_unlock(&c->backend->lock);
    return received;
}

/* With the backend's lock held. */
static bool runs(MockBackend *b, unsigned num)
{
    unsigned running = 0;

    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        running += b->queues[n].running && b->queues[n].enabled;
    }
    return running == num;
}

static bool wait_until(Connection *c, bool with_queues, unsigned num)
{
    MockBackend *b = c->backend;
    int64_t end = g_get_monotonic_time() + WAIT_US;
    bool ended;

    g_mutex_lock(&b->lock);
    while (!c->ended && !(with_queues && runs(b, num))) {
        g_assert_true(g_cond_wait_until(&b->changed, &b->lock, end));
    }
    ended = c->ended;
    g_mutex_unlock(&b->lock);
    return !ended;
}

void connection_settle(Connection *c)
{
    int64_t end = g_get_monotonic_time() + WAIT_US;
    int bytes;

    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
        g_mutex_lock(&c->backend->lock);
        g_assert_cmpint(ioctl(c->socket, FIONREAD, &bytes), ==, 0);
        g_mutex_unlock(&c->backend->lock);
    } while (bytes);
}

void connection_wait_ended(Connection *c)
{
    wait_until(c, false, 0);
}

bool connection_wait_running(Connection *c, unsigned num)
{
    return wait_until(c, true, num);
}
