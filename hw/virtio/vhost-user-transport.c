/*
 * vhost-user transport: the socket of a backend that is not trusted.
 *
 * Whatever such a backend says, or does not say, comes through here: answers,
 * messages of its own (vhost-user-channel.c reads through here), descriptors,
 * the pipe of a device's state, and the log lines that any of it costs.
 *
 * Time.  The main loop waits for an answer, so there is a limit for each, from
 * the first byte sent to the last byte received: one byte a second does not
 * help.  And since a backend can use the limit up again and again, also over
 * reconnects, there is a budget of time over a window, which belongs to the
 * device and not to the connection.
 *
 * Order.  An answer has the number of the request that was sent last.  After
 * the first thing that is wrong nothing is believed any more: the connection
 * has ended, each later call fails at once, and what the backend had is sent
 * to the next one.
 *
 * Descriptors.  Nobody asks this backend for any.  One that comes is an error;
 * it is still taken, for what the kernel cannot deliver it closes in the
 * thread that reads, and closing can last as long as the backend likes (a TCP
 * socket that lingers, a file of its own file system).  So each is closed in a
 * thread of this device, and so is the socket itself, with whatever was not
 * read from it: the transport holds a second descriptor of it, which is the
 * last one to be closed.
 *
 * Stack.  Disconnecting a chardev runs the handler of the device, which must
 * not happen below vhost's frames; it is done by a bottom half.
 *
 * Not here: what messages mean.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "chardev/char-socket.h"
#include "vhost-user-transport.h"
#include "trace.h"

/* As many as one message can have (SCM_MAX_FD of Linux). */
#define MAX_FDS 253

/* Connections that wait to be closed before no new one is served. */
#define MAX_CLOSING 64

/* Log lines at once; one comes back in so many nanoseconds. */
#define REPORT_BURST 8
#define REPORT_EVERY_NS (2 * NANOSECONDS_PER_SECOND)

/**
 * struct VhostUserTransport
 * @chr: chardev of the socket
 * @name: what messages call the device
 * @limit_ns: of one answer
 * @budget: of all answers
 * @lines: of the log
 * @lines_left_out: since the last one that was printed
 * @closer: one thread that closes, as long as there is something to close
 * @fd: the connection's socket, a descriptor of our own; -1: none
 * @closing_fd: the same, from the end of the connection to its disconnect
 * @sioc: the same as the chardev has it, to know it again
 * @disconnect: transport_disconnect()
 * @why: what was wrong the last time
 * @request: number of the message that was sent last
 * @deadline: of its answer
 */
struct VhostUserTransport {
    CharFrontend *chr;
    char *name;
    int64_t limit_ns;
    WaitBudget budget;
    WaitBudget lines;
    unsigned lines_left_out;
    GThreadPool *closer;
    int fd;
    int closing_fd;
    QIOChannelSocket *sioc;
    QEMUBH *disconnect;
    char *why;
    uint32_t request;
    int64_t deadline;
};

/* Descriptors that QEMU sends with a message at most. */
#define SEND_FDS 8

static const char closed_socket[] = "it has closed the socket";

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

void vhost_user_transport_report(VhostUserTransport *t, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    /* A line costs its interval; what is spent comes back as time goes by. */
    if (wait_budget_left(&t->lines) < REPORT_EVERY_NS) {
        t->lines_left_out++;
        return;
    }
    wait_budget_spend(&t->lines, REPORT_EVERY_NS);
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (t->lines_left_out) {
        error_report("%s: memory-isolation: %u message(s) left out", t->name,
                     t->lines_left_out);
        t->lines_left_out = 0;
    }
    error_report("%s: memory-isolation: %s", t->name, text);
}

/* In a thread of its own: may take as long as the backend likes. */
static void close_one(gpointer data, gpointer user_data)
{
    close(GPOINTER_TO_INT(data) - 1);
}

void vhost_user_transport_close_later(VhostUserTransport *t, int take_fd)
{
    if (take_fd >= 0) {
        /* Not 0, which is no data. */
        g_thread_pool_push(t->closer, GINT_TO_POINTER(take_fd + 1), NULL);
    }
}

/* Not if it has lost this one already, and has another. */
static void transport_disconnect(void *opaque)
{
    VhostUserTransport *t = opaque;
    SocketChardev *s = vhost_user_chardev(t->chr);

    if (t->sioc && s && s->sioc == t->sioc) {
        qemu_chr_fe_disconnect(t->chr);
    }
    g_clear_pointer(&t->sioc, object_unref);
    /* Behind the chardev's, so that this is the one that closes. */
    vhost_user_transport_close_later(t, t->closing_fd);
    t->closing_fd = -1;
}

void vhost_user_transport_end(VhostUserTransport *t)
{
    if (t->fd < 0) {
        return;
    }
    shutdown(t->fd, SHUT_RDWR);
    t->closing_fd = t->fd;
    t->fd = -1;
    qemu_bh_schedule(t->disconnect);
}

/* The first thing that is wrong is the last that is said. */
int vhost_user_transport_fail(VhostUserTransport *t, int error,
                              const char *what)
{
    if (t->fd >= 0) {
        g_free(t->why);
        t->why = g_strdup_printf("the backend is disconnected: %s (message "
                                 "%u)", what, t->request);
        trace_vhost_user_transport_failed(t->name, t->request, what);
        vhost_user_transport_report(t, "%s", t->why);
        vhost_user_transport_end(t);
    }
    return error;
}

bool vhost_user_transport_alive(const VhostUserTransport *t)
{
    return t->fd >= 0 && qemu_chr_fe_backend_open(t->chr);
}

const char *vhost_user_transport_why(const VhostUserTransport *t)
{
    return t->why;
}

void vhost_user_transport_set_why(VhostUserTransport *t, const char *why)
{
    g_free(t->why);
    t->why = g_strdup(why);
}

VhostUserTransport *vhost_user_transport_new(CharFrontend *chr,
                                             uint32_t timeout_ms)
{
    VhostUserTransport *t = g_new0(VhostUserTransport, 1);
    int64_t limit = timeout_ms * (int64_t)SCALE_MS;

    t->chr = chr;
    t->name = g_strdup(qemu_chr_fe_get_driver(chr)->label);
    t->limit_ns = limit;
    t->fd = t->closing_fd = -1;
    t->closer = g_thread_pool_new(close_one, NULL, 1, false, NULL);
    t->disconnect = qemu_bh_new(transport_disconnect, t);
    wait_budget_init(&t->budget, limit * VHOST_USER_TRANSPORT_LATE,
                     VHOST_USER_TRANSPORT_WINDOW_S * NANOSECONDS_PER_SECOND);
    wait_budget_init(&t->lines, REPORT_BURST * REPORT_EVERY_NS,
                     REPORT_BURST * REPORT_EVERY_NS);
    return t;
}

void vhost_user_transport_free(VhostUserTransport *t)
{
    if (!t) {
        return;
    }
    vhost_user_transport_end(t);
    transport_disconnect(t);
    qemu_bh_delete(t->disconnect);
    /* It frees itself when all is closed. */
    g_thread_pool_free(t->closer, false, false);
    g_free(t->why);
    g_free(t->name);
    g_free(t);
}

void vhost_user_transport_set_name(VhostUserTransport *t, const char *name)
{
    g_free(t->name);
    t->name = g_strdup(name);
}

const char *vhost_user_transport_name(const VhostUserTransport *t)
{
    return t->name;
}

uint64_t vhost_user_transport_waited(const VhostUserTransport *t)
{
    return t->budget.total_ns;
}

bool vhost_user_transport_begin(VhostUserTransport *t, Error **errp)
{
    SocketChardev *s = vhost_user_chardev(t->chr);

    vhost_user_transport_end(t);
    transport_disconnect(t);
    if (!s) {
        error_setg(errp, "%s: memory-isolation=on needs a chardev of the type "
                   "socket", t->name);
        return false;
    }
    if (!s->sioc || !qemu_chr_fe_backend_open(t->chr)) {
        error_setg(errp, "%s: the backend is not connected", t->name);
        return false;
    }
    if (g_thread_pool_unprocessed(t->closer) > MAX_CLOSING) {
        error_setg(errp, "%s: memory-isolation: the backend keeps QEMU from "
                   "closing descriptors that it sent", t->name);
        return false;
    }
    t->fd = fcntl(s->sioc->fd, F_DUPFD_CLOEXEC, 0);
    if (t->fd < 0) {
        error_setg_errno(errp, errno, "%s: no descriptor of the socket",
                         t->name);
        return false;
    }
    t->sioc = s->sioc;
    object_ref(OBJECT(t->sioc));
    t->request = 0;
    return true;
}

/* Until @t->deadline, which each exchange sets once. */
static bool transport_wait(VhostUserTransport *t, int fd, int events)
{
    GPollFD poll = { .fd = fd, .events = events };
    int64_t begun = now_ns();
    int64_t now = begun;
    bool ready = false;

    while (!ready && now < t->deadline) {
        ready = qemu_poll_ns(&poll, 1, t->deadline - now) > 0;
        now = now_ns();
    }
    wait_budget_spend(&t->budget, now - begun);
    return ready;
}

static void transport_begin_exchange(VhostUserTransport *t)
{
    t->deadline = now_ns() + MIN(t->limit_ns, wait_budget_left(&t->budget));
}

static const char *transport_late(VhostUserTransport *t)
{
    return wait_budget_left(&t->budget) > t->limit_ns / 100 ?
           "it did not answer within memory-isolation-timeout-ms" :
           "it has made QEMU wait too often, see memory-isolation-timeout-ms";
}

/* Once the descriptors are sent they are not sent again. */
static ssize_t send_some(int socket, const uint8_t *buf, size_t size,
                         const int *fds, unsigned num_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(SEND_FDS * sizeof(int))];
    } control = { };
    struct iovec iov = { .iov_base = (void *)buf, .iov_len = size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    assert(num_fds <= SEND_FDS);
    if (num_fds) {
        struct cmsghdr *c;

        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
    }
    return RETRY_ON_EINTR(sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int vhost_user_transport_write(VhostUserTransport *t, const void *msg,
                               size_t size, const int *fds, unsigned num_fds)
{
    const uint8_t *next = msg;
    const uint8_t *end = next + size;

    if (!vhost_user_transport_alive(t)) {
        return -ENOTCONN;
    }
    t->request = ((const VhostUserMessage *)msg)->request;
    transport_begin_exchange(t);
    while (next < end) {
        ssize_t len = send_some(t->fd, next, end - next, fds, num_fds);

        if (len > 0) {
            next += len;
            num_fds = 0;
        } else if (errno != EAGAIN) {
            return vhost_user_transport_fail(t, -EPIPE, closed_socket);
        } else if (!transport_wait(t, t->fd, G_IO_OUT)) {
            return vhost_user_transport_fail(t, -ETIMEDOUT, transport_late(t));
        }
    }
    return 0;
}

/*
 * Room for as many descriptors as the kernel lets a message have, or it would
 * close the rest here and now.
 */
ssize_t vhost_user_transport_receive(VhostUserTransport *t, int socket,
                                     void *buf, size_t size,
                                     bool *descriptors)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = buf, .iov_len = size };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = sizeof(control.buf),
    };
    ssize_t len = RETRY_ON_EINTR(recvmsg(socket, &msg, MSG_DONTWAIT |
                                         MSG_CMSG_CLOEXEC));

    *descriptors = false;
    if (len < 0) {
        return -errno;
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        const uint8_t *data = CMSG_DATA(c);
        size_t bytes = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        *descriptors = true;
        for (size_t at = 0; at < bytes; at += sizeof(int)) {
            int fd;

            memcpy(&fd, data + at, sizeof(fd));
            vhost_user_transport_close_later(t, fd);
        }
    }
    return len;
}

static int transport_read_all(VhostUserTransport *t, void *buf, size_t size)
{
    uint8_t *next = buf;
    uint8_t *end = next + size;

    while (next < end) {
        bool descriptors;
        ssize_t len = vhost_user_transport_receive(t, t->fd, next, end - next,
                                                   &descriptors);

        if (descriptors) {
            return vhost_user_transport_fail(t, -EPROTO, "it sent descriptors "
                                             "that nobody asked for");
        } else if (len > 0) {
            next += len;
        } else if (len != -EAGAIN) {
            return vhost_user_transport_fail(t, -EPIPE, closed_socket);
        } else if (!transport_wait(t, t->fd, G_IO_IN)) {
            return vhost_user_transport_fail(t, -ETIMEDOUT, transport_late(t));
        }
    }
    return 0;
}

int vhost_user_transport_read(VhostUserTransport *t, void *msg, size_t max)
{
    VhostUserMessage *header = msg;
    int ret;

    assert(max >= sizeof(*header));
    if (!vhost_user_transport_alive(t)) {
        return -ENOTCONN;
    }
    ret = transport_read_all(t, header, sizeof(*header));
    if (ret < 0) {
        return ret;
    }
    if (header->flags != (VHOST_USER_MESSAGE_VERSION |
                          VHOST_USER_MESSAGE_ANSWER)) {
        return vhost_user_transport_fail(t, -EPROTO, "its answer has unknown "
                                         "flags");
    }
    if (header->request != t->request) {
        return vhost_user_transport_fail(t, -EPROTO, "it answered another "
                                         "message");
    }
    if (header->size > max - sizeof(*header)) {
        return vhost_user_transport_fail(t, -EPROTO, "its answer is too long");
    }
    return transport_read_all(t, header + 1, header->size);
}

int vhost_user_transport_request(VhostUserTransport *t, uint32_t request,
                                 const void *payload, uint32_t size, int fd,
                                 bool ack)
{
    g_autofree VhostUserMessage *msg = g_malloc(sizeof(*msg) + size);
    struct QEMU_PACKED {
        VhostUserMessage header;
        uint64_t error;
    } answer = { };
    int ret;

    *msg = (VhostUserMessage) {
        .request = request,
        .flags = VHOST_USER_MESSAGE_VERSION |
                 (ack ? VHOST_USER_MESSAGE_WANTS_ANSWER : 0),
        .size = size,
    };
    if (size) {
        memcpy(msg + 1, payload, size);
    }
    ret = vhost_user_transport_write(t, msg, sizeof(*msg) + size, &fd,
                                     fd >= 0);
    if (ret < 0 || !ack) {
        return ret;
    }
    ret = vhost_user_transport_read(t, &answer, sizeof(answer));
    if (ret < 0) {
        return ret;
    }
    return answer.error || answer.header.size != sizeof(answer.error) ? -EIO
                                                                      : 0;
}

bool vhost_user_transport_wait(VhostUserTransport *t, int fd, int events,
                               int64_t begun_ns, Error **errp)
{
    int64_t end = begun_ns + t->budget.capacity_ns;

    transport_begin_exchange(t);
    t->deadline = MIN(t->deadline, end);
    if (t->fd >= 0 && now_ns() < end && transport_wait(t, fd, events)) {
        return true;
    }
    vhost_user_transport_fail(t, -ETIMEDOUT, transport_late(t));
    error_setg(errp, "%s: memory-isolation: the backend did not transfer its "
               "state within memory-isolation-timeout-ms", t->name);
    return false;
}
