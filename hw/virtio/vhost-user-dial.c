/*
 * vhost-user: when a backend is connected.
 *
 * A chardev with reconnect-ms connects in the background, and one whose device
 * was unplugged is not connected any more; so a device waits for its backend
 * when it is realized.  Before the machine runs that may take as long as it
 * takes.  Later the monitor waits too, and a socket whose owner lets others
 * wait in its queue must not stop a running machine: connect() is called in a
 * thread that can be left behind.
 *
 * Later a backend can come back as often as it likes, and QEMU has lines for
 * its log whenever one cannot be used.  Those are the devices', of vhost.c and
 * of others, which know of no limit; so it is connections that are limited.
 * One that comes too early rests: it is open, and the device is told so later.
 * Refusing it would be one more thing that happens as often as it comes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/sockets.h"
#include "qemu/thread.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-sockets.h"
#include "chardev/char-socket.h"
#include "hw/qdev-core.h"
#include "vhost-user-transport.h"

/* Connections at once; one comes back in so many nanoseconds. */
#define PACE_BURST 16
#define PACE_EVERY_NS (NANOSECONDS_PER_SECOND / 2)

/**
 * struct VhostUserPace
 * @be: chardev of the device
 * @connections: that its backend may have
 * @again: pace_again()
 * @resting: it will be there
 */
struct VhostUserPace {
    CharFrontend *be;
    WaitBudget connections;
    QEMUTimer *again;
    bool resting;
};

/**
 * Dial - one attempt
 * @refs: the thread's, and that of who waits
 * @addr: where to
 * @fd: socket; -1: none
 * @err: why not
 * @done: posted once
 */
typedef struct Dial {
    int refs;
    SocketAddress *addr;
    int fd;
    Error *err;
    QemuSemaphore done;
} Dial;

static void dial_unref(Dial *dial)
{
    if (qatomic_fetch_dec(&dial->refs) > 1) {
        return;
    }
    if (dial->fd >= 0) {
        close(dial->fd);
    }
    error_free(dial->err);
    qapi_free_SocketAddress(dial->addr);
    qemu_sem_destroy(&dial->done);
    g_free(dial);
}

static void *dial_thread(void *opaque)
{
    Dial *dial = opaque;

    dial->fd = socket_connect(dial->addr, &dial->err);
    qemu_sem_post(&dial->done);
    dial_unref(dial);
    return NULL;
}

static Dial *dial_start(const SocketAddress *addr)
{
    Dial *dial = g_new0(Dial, 1);
    QemuThread thread;

    dial->refs = 2;
    dial->addr = QAPI_CLONE(SocketAddress, addr);
    dial->fd = -1;
    qemu_sem_init(&dial->done, 0);
    qemu_thread_create(&thread, "vhost-user-dial", dial_thread, dial,
                       QEMU_THREAD_DETACHED);
    return dial;
}

static bool dial_in_time(Chardev *chr, uint32_t timeout_ms, Error **errp)
{
    Dial *dial = dial_start(SOCKET_CHARDEV(chr)->addr);
    bool ok = false;

    if (qemu_sem_timedwait(&dial->done, timeout_ms) < 0) {
        error_setg(errp, "chardev '%s': the backend did not take the "
                   "connection within memory-isolation-timeout-ms",
                   chr->label);
    } else if (dial->fd < 0) {
        error_propagate(errp, g_steal_pointer(&dial->err));
    } else if (qemu_chr_add_client(chr, dial->fd) < 0) {
        error_setg(errp, "chardev '%s' is just connecting; try again",
                   chr->label);
    } else {
        dial->fd = -1;
        ok = true;
    }
    dial_unref(dial);
    return ok;
}

bool vhost_user_dials_again(CharFrontend *be)
{
    const SocketChardev *s = vhost_user_chardev(be);

    return s && (s->is_listen || s->reconnect_time_ms);
}

pid_t vhost_user_peer(CharFrontend *be)
{
#ifdef SO_PEERCRED
    const SocketChardev *s = vhost_user_chardev(be);
    struct ucred peer = { };
    socklen_t len = sizeof(peer);

    /* A pair of sockets that QEMU has made, as for passt: it is both ends. */
    if (s && s->sioc &&
        getsockopt(s->sioc->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
        peer.pid != getpid()) {
        return peer.pid;
    }
#endif
    return 0;
}

bool vhost_user_dial(CharFrontend *be, uint32_t timeout_ms, Error **errp)
{
    Chardev *chr = qemu_chr_fe_get_driver(be);
    SocketChardev *s;

    if (!object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET)) {
        error_setg(errp, "memory-isolation=on needs a chardev of the type "
                   "socket, which '%s' is not", chr->label);
        return false;
    }
    s = SOCKET_CHARDEV(chr);
    if (s->state == TCP_CHARDEV_STATE_CONNECTED) {
        return true;
    }
    if (!phase_check(PHASE_MACHINE_READY)) {
        return qemu_chr_fe_wait_connected(be, errp) >= 0;
    }
    if (s->is_listen) {
        error_setg(errp, "chardev '%s': no backend is connected; start it "
                   "before the device is added", chr->label);
        return false;
    }
    return dial_in_time(chr, timeout_ms, errp);
}

/* Whatever the device makes of it, it may be another connection by now. */
static void pace_again(void *opaque)
{
    VhostUserPace *pace = opaque;

    pace->resting = false;
    if (qemu_chr_fe_backend_open(pace->be)) {
        qemu_chr_be_event(qemu_chr_fe_get_driver(pace->be), CHR_EVENT_OPENED);
    }
}

VhostUserPace *vhost_user_pace_new(CharFrontend *be)
{
    VhostUserPace *pace = g_new0(VhostUserPace, 1);

    pace->be = be;
    wait_budget_init(&pace->connections, PACE_BURST * PACE_EVERY_NS,
                     PACE_BURST * PACE_EVERY_NS);
    pace->again = timer_new_ns(QEMU_CLOCK_REALTIME, pace_again, pace);
    return pace;
}

void vhost_user_pace_free(VhostUserPace *pace)
{
    /* The device was not told of it, so it does not close it. */
    if (pace->resting && qemu_chr_fe_backend_open(pace->be)) {
        qemu_chr_fe_disconnect(pace->be);
    }
    timer_free(pace->again);
    g_free(pace);
}

static int64_t pace_rest_ns(VhostUserPace *pace)
{
    return MAX(PACE_EVERY_NS - wait_budget_left(&pace->connections), 0);
}

bool vhost_user_pace_rests(VhostUserPace *pace)
{
    int64_t rest = pace_rest_ns(pace);

    if (pace->resting) {
        return true;
    }
    if (rest && phase_check(PHASE_MACHINE_READY)) {
        timer_mod(pace->again, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + rest);
        pace->resting = true;
        return true;
    }
    wait_budget_spend(&pace->connections, PACE_EVERY_NS);
    return false;
}

void vhost_user_pace_wait(VhostUserPace *pace)
{
    g_usleep(pace_rest_ns(pace) / SCALE_US);
}
