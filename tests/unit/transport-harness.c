/*
 * The transport of a backend that is not trusted, with time, log and close()
 * in the test's hands.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/sockets.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "chardev/char-socket.h"
#include "hw/qdev-core.h"
#include "transport-harness.h"
#include "transport-sources.h"

/* As many as a message can have. */
#define FDS_MAX 253

/* Written by the test's thread; behind @lock, by the one that closes too. */
static struct {
    int64_t now;
    int64_t waited;
    HarnessWaitFn *on_wait;
    void *opaque;
    QEMUTimer *timer;
    int64_t timer_ns;
    unsigned lines;
    char *last_line;
    unsigned closed_here;
    bool machine_ready;
    QemuThread test;
    QemuMutex lock;
    QemuCond changed;
    bool hold;
    unsigned pushed;
    unsigned closed;
} harness;

/* Time. */

int64_t harness_clock_get_ns(QEMUClockType type)
{
    return harness.now;
}

int64_t harness_clock_get_ms(QEMUClockType type)
{
    return harness.now / SCALE_MS;
}

void harness_on_wait(HarnessWaitFn *fn, void *opaque)
{
    harness.on_wait = fn;
    harness.opaque = opaque;
}

void harness_pass(int64_t ns)
{
    harness.now += ns;
    if (harness.timer && harness.timer_ns <= harness.now) {
        QEMUTimer *timer = harness.timer;

        harness.timer = NULL;
        timer->cb(timer->opaque);
    }
}

int64_t harness_waited(void)
{
    return harness.waited;
}

int harness_poll_ns(GPollFD *fds, guint nfds, int64_t timeout)
{
    int ready = qemu_poll_ns(fds, nfds, 0);

    if (!ready) {
        int64_t ns = harness.on_wait ? harness.on_wait(harness.opaque, timeout)
                                     : timeout;

        harness.waited += MIN(ns, timeout);
        harness_pass(MIN(ns, timeout));
        ready = qemu_poll_ns(fds, nfds, 0);
    }
    return ready;
}

/* There is one, of a channel. */
void harness_timer_mod(QEMUTimer *timer, int64_t expire)
{
    harness.timer = timer;
    harness.timer_ns = expire * timer->scale;
}

void harness_timer_del(QEMUTimer *timer)
{
    harness.timer = NULL;
}

/* The log. */

void harness_error_report(const char *fmt, ...)
{
    va_list ap;

    g_free(harness.last_line);
    va_start(ap, fmt);
    harness.last_line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    harness.lines++;
}

unsigned harness_lines(const char **last)
{
    if (last) {
        *last = harness.last_line;
    }
    return harness.lines;
}

/* Closing. */

int harness_close(int fd)
{
    if (qemu_thread_is_self(&harness.test)) {
        harness.closed_here++;
        return close(fd);
    }
    qemu_mutex_lock(&harness.lock);
    while (harness.hold) {
        qemu_cond_wait(&harness.changed, &harness.lock);
    }
    harness.closed++;
    qemu_cond_broadcast(&harness.changed);
    qemu_mutex_unlock(&harness.lock);
    return close(fd);
}

void harness_hold_closing(bool on)
{
    qemu_mutex_lock(&harness.lock);
    harness.hold = on;
    qemu_cond_broadcast(&harness.changed);
    qemu_mutex_unlock(&harness.lock);
}

void harness_wait_closed(unsigned num)
{
    qemu_mutex_lock(&harness.lock);
    while (harness.closed < num) {
        qemu_cond_wait(&harness.changed, &harness.lock);
    }
    g_assert_cmpuint(harness.closed, ==, num);
    qemu_mutex_unlock(&harness.lock);
}

void harness_push(void)
{
    qemu_mutex_lock(&harness.lock);
    harness.pushed++;
    qemu_mutex_unlock(&harness.lock);
}

void harness_settle(void)
{
    qemu_mutex_lock(&harness.lock);
    while (harness.closed < harness.pushed) {
        qemu_cond_wait(&harness.changed, &harness.lock);
    }
    qemu_mutex_unlock(&harness.lock);
}

unsigned harness_closed_here(void)
{
    return harness.closed_here;
}

/* The machine. */

bool phase_check(MachineInitPhase phase)
{
    return harness.machine_ready;
}

void harness_machine_ready(bool on)
{
    harness.machine_ready = on;
}

/* Events come before the bottom halves that they schedule, and watches last. */
void harness_turn(void)
{
    for (unsigned i = 0; i < 4; i++) {
        main_loop_wait(true);
    }
}

void harness_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);
    qemu_mutex_init(&harness.lock);
    qemu_cond_init(&harness.changed);
    qemu_thread_get_self(&harness.test);
}

void harness_reset(void)
{
    harness.now = 1000 * NANOSECONDS_PER_SECOND;
    harness.waited = 0;
    harness.on_wait = NULL;
    harness.timer = NULL;
    harness.lines = 0;
    harness.closed_here = 0;
    harness.machine_ready = true;
    g_clear_pointer(&harness.last_line, g_free);
    qemu_mutex_lock(&harness.lock);
    g_assert_cmpuint(harness.closed, >=, harness.pushed);
    harness.pushed = harness.closed = 0;
    qemu_mutex_unlock(&harness.lock);
}

/* Rig. */

static void rig_event(void *opaque, QEMUChrEvent event)
{
    Rig *rig = opaque;

    rig->num_closed += event == CHR_EVENT_CLOSED;
}

void rig_plug(Rig *rig)
{
    int small = 1;
    int fds[2];

    if (rig->peer >= 0) {
        close(rig->peer);
    }
    g_assert_cmpint(qemu_socketpair(PF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    g_assert_cmpint(qemu_chr_add_client(rig->chr, fds[1]), ==, 0);
    rig->peer = fds[0];
}

void rig_connect(Rig *rig)
{
    harness_turn();
    rig_plug(rig);
    g_assert_true(vhost_user_transport_begin(rig->t, &error_abort));
}

void rig_up(Rig *rig)
{
    *rig = (Rig) { .peer = -1 };
    harness_reset();
    rig->chr = CHARDEV(object_new(TYPE_CHARDEV_SOCKET));
    rig->chr->label = g_strdup("rig");
    qemu_chr_fe_init(&rig->be, rig->chr, &error_abort);
    qemu_chr_fe_set_handlers(&rig->be, NULL, NULL, rig_event, NULL, rig, NULL,
                             true);
    rig->t = vhost_user_transport_new(&rig->be, RIG_LIMIT_MS);
    rig_connect(rig);
}

void rig_free(Rig *rig)
{
    qemu_chr_fe_set_handlers(&rig->be, NULL, NULL, NULL, NULL, NULL, NULL,
                             false);
    vhost_user_transport_free(rig->t);
    qemu_chr_fe_deinit(&rig->be, true);
    close(rig->peer);
    harness_turn();
}

void rig_down(Rig *rig)
{
    rig_free(rig);
    harness_settle();
}

int rig_ask(Rig *rig, uint32_t request)
{
    VhostUserMessage msg = {
        .request = request,
        .flags = VHOST_USER_MESSAGE_VERSION,
    };

    return vhost_user_transport_write(rig->t, &msg, sizeof(msg), NULL, 0);
}

RigNumber rig_number(uint32_t request, uint64_t number)
{
    return (RigNumber) {
        .header.request = request,
        .header.flags = VHOST_USER_MESSAGE_VERSION |
                        VHOST_USER_MESSAGE_ANSWER,
        .header.size = sizeof(number),
        .number = number,
    };
}

void rig_say(int socket, const void *bytes, size_t size, unsigned num_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = { };
    struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    int fd = open("/dev/null", O_RDONLY);

    g_assert_cmpuint(num_fds, <=, FDS_MAX);
    if (num_fds) {
        struct cmsghdr *c = &control.align;
        int fds[FDS_MAX];

        for (unsigned i = 0; i < num_fds; i++) {
            fds[i] = fd;
        }
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
    }
    g_assert_cmpint(sendmsg(socket, &msg, MSG_NOSIGNAL), ==, size);
    close(fd);
}

void rig_answer(Rig *rig, const void *bytes, size_t size, unsigned num_fds)
{
    rig_say(rig->peer, bytes, size, num_fds);
}

int rig_read(Rig *rig, uint64_t *number)
{
    RigNumber answer;
    int ret = vhost_user_transport_read(rig->t, &answer, sizeof(answer));

    if (number) {
        *number = answer.number;
    }
    return ret;
}

static const char *rig_why(const Rig *rig)
{
    return vhost_user_transport_why(rig->t) ?: "";
}

void rig_assert_refused(Rig *rig, const char *reason)
{
    int64_t waited = harness_waited();
    uint8_t bytes[65536];

    g_assert_nonnull(strstr(rig_why(rig), reason));
    g_assert_false(vhost_user_transport_alive(rig->t));
    /* What came before. */
    recv(rig->peer, bytes, sizeof(bytes), MSG_DONTWAIT);
    g_assert_cmpint(rig_ask(rig, 0), ==, -ENOTCONN);
    g_assert_cmpint(rig_read(rig, NULL), ==, -ENOTCONN);
    g_assert_cmpint(recv(rig->peer, bytes, 1, MSG_DONTWAIT), ==, 0);
    g_assert_cmpint(harness_waited(), ==, waited);
}
