/*
 * Fuzzing messages: what the code under test finds around itself.
 *
 * Sockets, chardev and main loop are real.  Not real are
 *
 * - time: it goes by only where the string says so.  Whenever QEMU would wait
 *   for its backend, the backend moves instead;
 * - the thread that closes descriptors: it runs when the string says so, or
 *   each string would mean something else each time;
 * - the log, which is counted.
 *
 * The linker sends calls of __wrap_x() here instead of to x().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "hw/qdev-core.h"
#include "messages.h"

/* Descriptors that there can be. */
#define FDS_MAX 1024

/* What may wait to be closed: see MAX_CLOSING and MAX_FDS of the transport. */
#define CLOSING_MAX (64 + 2 * FUZZ_FDS_MAX + 8)

/* Of the log: see REPORT_BURST and REPORT_EVERY_NS of the transport. */
#define LINES_BURST 8
#define LINES_EVERY_NS (2 * NANOSECONDS_PER_SECOND)

/* Waits that are remembered: more than a window has. */
#define WAITS_MAX 4096

typedef struct Wait {
    int64_t end;
    int64_t ns;
} Wait;

/**
 * World - of one string
 * @on: time is not real
 * @now: nanoseconds
 * @waits: for the backend, the oldest first
 * @exchange: when the first byte of the last message was sent
 * @unsent: bytes of it that are not sent
 * @pipe: the transport waits for one, and not for the socket
 * @closing: descriptors that wait to be closed, + 1
 * @foreign: descriptors that somebody else has sent
 * @in_closer: the closing thread runs
 * @lines: of the log
 * @asked: times that somebody other than the backend may have had one written
 */
static struct {
    bool on;
    int64_t now;
    int64_t waited;
    Wait waits[WAITS_MAX];
    unsigned num_waits;
    int64_t exchange;
    size_t unsent;
    bool pipe;
    GQueue closing;
    GFunc close_one;
    bool foreign[FDS_MAX];
    bool in_closer;
    unsigned lines;
    unsigned asked;
} world;

static bool fds_before[FDS_MAX];

/* Time. */

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

/* Only one clock is QEMU's; libFuzzer looks at another. */
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    if (!world.on || id != CLOCK_MONOTONIC) {
        return __real_clock_gettime(id, ts);
    }
    *ts = (struct timespec) {
        .tv_sec = 1000 + world.now / NANOSECONDS_PER_SECOND,
        .tv_nsec = world.now % NANOSECONDS_PER_SECOND,
    };
    return 0;
}

int64_t world_now(void)
{
    return world.now;
}

void world_pass(int64_t ns)
{
    world.now += ns;
}

int64_t world_waited(void)
{
    return world.waited;
}

/* Waits of the last minute, which end now. */
static int64_t waited_lately(void)
{
    int64_t begin = world.now - VHOST_USER_TRANSPORT_WINDOW_S *
                                NANOSECONDS_PER_SECOND;
    int64_t sum = 0;

    for (unsigned i = world.num_waits; i-- && world.waits[i].end > begin; ) {
        sum += MIN(world.waits[i].ns, world.waits[i].end - begin);
    }
    return sum;
}

void world_pipe(void)
{
    world.exchange = world.now;
    world.pipe = true;
}

void world_connection(void)
{
    world.unsent = 0;
}

static void remember_wait(int64_t ns)
{
    const int64_t limit = FUZZ_TIMEOUT_MS * (int64_t)SCALE_MS;

    world.now += ns;
    world.waited += ns;
    g_assert_cmpuint(world.num_waits, <, WAITS_MAX);
    world.waits[world.num_waits++] = (Wait) { .end = world.now, .ns = ns };
    /* One answer, and all of them. */
    g_assert_cmpint(world.now - world.exchange, <=, limit);
    g_assert_cmpint(waited_lately(), <=,
                    2 * VHOST_USER_TRANSPORT_LATE * limit);
}

int __real_qemu_poll_ns(GPollFD *fds, guint nfds, int64_t timeout);
int __wrap_qemu_poll_ns(GPollFD *fds, guint nfds, int64_t timeout);

int __wrap_qemu_poll_ns(GPollFD *fds, guint nfds, int64_t timeout)
{
    int64_t ns;

    if (!timeout) {
        return __real_qemu_poll_ns(fds, nfds, 0);
    }
    /* Nobody but the transport waits, and it waits for one. */
    g_assert_cmpuint(nfds, ==, 1);
    if (world.pipe && __real_qemu_poll_ns(fds, nfds, 0) > 0) {
        return 1;
    }
    /* It has looked whether its socket is ready. */
    ns = backend_move(timeout);
    if (ns) {
        remember_wait(MIN(ns, timeout));
    }
    return __real_qemu_poll_ns(fds, nfds, 0);
}

/* Messages and their descriptors. */

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t len;

    g_assert_true(flags & MSG_DONTWAIT);
    if (!world.unsent) {
        world.exchange = world.now;
    }
    world.pipe = false;
    world.unsent = msg->msg_iov[0].iov_len;
    len = __real_sendmsg(fd, msg, flags);
    if (len > 0) {
        world.unsent -= len;
    } else if (len < 0 && errno != EAGAIN) {
        /* There will be no more of it. */
        world.unsent = 0;
    }
    return len;
}

static void remember_foreign(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len;
             at += sizeof(int)) {
            int fd;

            memcpy(&fd, (uint8_t *)c + at, sizeof(fd));
            g_assert_true(fd >= 0 && fd < FDS_MAX);
            world.foreign[fd] = true;
        }
    }
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t len;

    g_assert_true(flags & MSG_DONTWAIT);
    /* What has no room the kernel would close here. */
    g_assert_cmpuint(msg->msg_controllen, >=,
                     CMSG_SPACE(FUZZ_FDS_MAX * sizeof(int)));
    len = __real_recvmsg(fd, msg, flags);
    if (len >= 0) {
        remember_foreign(msg);
    }
    return len;
}

int __real_close(int fd);
int __wrap_close(int fd);

/* Closing what somebody else has sent can take long. */
int __wrap_close(int fd)
{
    if (world.on && fd >= 0 && fd < FDS_MAX) {
        g_assert_true(!world.foreign[fd] || world.in_closer);
        world.foreign[fd] = false;
    }
    return __real_close(fd);
}

/* The thread that closes. */

GThreadPool *__wrap_g_thread_pool_new(GFunc func, gpointer user_data,
                                      gint max_threads, gboolean exclusive,
                                      GError **error);
gboolean __wrap_g_thread_pool_push(GThreadPool *pool, gpointer data,
                                   GError **error);
guint __wrap_g_thread_pool_unprocessed(GThreadPool *pool);
void __wrap_g_thread_pool_free(GThreadPool *pool, gboolean immediate,
                               gboolean wait);

GThreadPool *__wrap_g_thread_pool_new(GFunc func, gpointer user_data,
                                      gint max_threads, gboolean exclusive,
                                      GError **error)
{
    world.close_one = func;
    return g_new0(GThreadPool, 1);
}

gboolean __wrap_g_thread_pool_push(GThreadPool *pool, gpointer data,
                                   GError **error)
{
    g_queue_push_tail(&world.closing, data);
    g_assert_cmpuint(world.closing.length, <=, CLOSING_MAX);
    return true;
}

guint __wrap_g_thread_pool_unprocessed(GThreadPool *pool)
{
    return world.closing.length;
}

/* What it has not done yet it does later. */
void __wrap_g_thread_pool_free(GThreadPool *pool, gboolean immediate,
                               gboolean wait)
{
    g_assert_false(immediate || wait);
    g_free(pool);
}

void world_close_some(unsigned num)
{
    world.in_closer = true;
    while (num-- && world.closing.length) {
        world.close_one(g_queue_pop_head(&world.closing), NULL);
    }
    world.in_closer = false;
}

/* The log. */

void __wrap_error_report(const char *fmt, ...);
void __wrap_warn_report(const char *fmt, ...);
void __wrap_error_report_err(Error *err);

static void count_line(const char *fmt, va_list ap)
{
    g_autofree char *line = g_strdup_vprintf(fmt, ap);

    world.lines++;
    if (getenv("FUZZ_LOG")) {
        fprintf(stderr, "%" PRId64 " ms: %s\n", world.now / SCALE_MS, line);
    }
}

void __wrap_error_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    count_line(fmt, ap);
    va_end(ap);
}

void __wrap_warn_report(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    count_line(fmt, ap);
    va_end(ap);
}

void __wrap_error_report_err(Error *err)
{
    __wrap_error_report("%s", error_get_pretty(err));
    error_free(err);
}

void world_asked(void)
{
    world.asked++;
}

/* The rest. */

bool phase_check(MachineInitPhase phase)
{
    return true;
}

void world_turn(void)
{
    main_loop_wait(true);
}

void world_check(void)
{
    /*
     * Each of the transport's can have one before it about those that were
     * left out; what was asked for can fail at two places.
     */
    g_assert_cmpuint(world.lines, <=, 2 * world.asked +
                     2 * (LINES_BURST + world.now / LINES_EVERY_NS + 1));
}

/* Which descriptors are open. */
static void look_at_fds(bool *open)
{
    static struct pollfd fds[FDS_MAX];

    for (unsigned i = 0; i < FDS_MAX; i++) {
        fds[i] = (struct pollfd) { .fd = i };
    }
    g_assert_cmpint(poll(fds, FDS_MAX, 0), >=, 0);
    for (unsigned i = 0; i < FDS_MAX; i++) {
        open[i] = !(fds[i].revents & POLLNVAL);
    }
}

static void report_leak(unsigned fd)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%u", fd);
    g_autofree char *what = g_file_read_link(name, NULL);

    fprintf(stderr, "descriptor %u has leaked: %s\n", fd, what ?: "closed");
    abort();
}

void world_begin(void)
{
    /* Each time: libFuzzer opens some in between. */
    look_at_fds(fds_before);
    world.on = true;
    world.now = 0;
    world.waited = 0;
    world.num_waits = 0;
    world.exchange = 0;
    world.unsent = 0;
    world.pipe = false;
    world.lines = 0;
    world.asked = 0;
    memset(world.foreign, 0, sizeof(world.foreign));
}

void world_end(void)
{
    static bool first = true;
    bool fds[FDS_MAX];

    world_close_some(UINT_MAX);
    world_turn();
    /* Bottom halves that were deleted are freed when one runs: none may. */
    aio_bh_poll(qemu_get_aio_context());
    world.on = false;
    look_at_fds(fds);
    for (unsigned i = 0; !first && i < FDS_MAX; i++) {
        if (fds[i] != fds_before[i]) {
            report_leak(i);
        }
    }
    /* The first string opens what stays open. */
    first = false;
}
