/*
 * vhost-user channel: messages that a backend sends by itself.
 *
 * A backend that is not trusted has one thing to say: its configuration has
 * changed.  All other messages are for backends with a part in guest memory;
 * they are read to their end and refused.
 *
 * Nothing here waits.  A message is put together from what is there each time,
 * an answer that does not fit into the socket ends the connection, and after a
 * burst of messages nobody listens for a while, so that the backend waits and
 * not QEMU.  Changes that come together are one.
 *
 * What a change leads to (a question to the backend, an interrupt, whatever
 * the guest has put behind its vector) happens in a bottom half with nothing
 * of ours on the stack: it may end the device, and the channel with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "vhost-user-transport.h"
#include "trace.h"

/* Requests of the vhost-user specification. */
#define SET_BACKEND_REQ_FD 21
#define BACKEND_CONFIG_CHANGE 2

/* No message that a backend may know is longer. */
#define MAX_PAYLOAD 1024

/* So many messages at once, then a rest. */
#define BURST 16
#define REST_MS 100

/**
 * struct VhostUserChannel
 * @t: its connection
 * @fd: our end; -1: closed
 * @changed: a BH
 * @rest: ends a rest
 * @burst: messages since the last one
 * @have: bytes of @header and the payload that were read
 */
struct VhostUserChannel {
    VhostUserTransport *t;
    int fd;
    QEMUBH *changed;
    QEMUTimer rest;
    unsigned burst;
    size_t have;
    VhostUserMessage header;
};

static void channel_read(void *opaque);

static void channel_close(VhostUserChannel *ch)
{
    if (ch->fd >= 0) {
        qemu_set_fd_handler(ch->fd, NULL, NULL, NULL);
        /* What nobody has read may be descriptors. */
        vhost_user_transport_close_later(ch->t, ch->fd);
        ch->fd = -1;
    }
}

static void channel_fail(VhostUserChannel *ch, const char *what)
{
    channel_close(ch);
    vhost_user_transport_fail(ch->t, -EPROTO, what);
}

static void channel_end_rest(void *opaque)
{
    VhostUserChannel *ch = opaque;

    ch->burst = 0;
    if (ch->fd >= 0) {
        qemu_set_fd_handler(ch->fd, channel_read, NULL, ch);
    }
}

/* Nobody else writes to it, so a whole answer fits or none of it is read. */
static bool channel_answer(VhostUserChannel *ch, bool refused)
{
    struct QEMU_PACKED {
        VhostUserMessage header;
        uint64_t refused;
    } answer = {
        .header.request = ch->header.request,
        .header.flags = VHOST_USER_MESSAGE_VERSION | VHOST_USER_MESSAGE_ANSWER,
        .header.size = sizeof(answer.refused),
        .refused = refused,
    };
    ssize_t len = RETRY_ON_EINTR(send(ch->fd, &answer, sizeof(answer),
                                      MSG_DONTWAIT | MSG_NOSIGNAL));

    if (len == sizeof(answer)) {
        return true;
    }
    if (len < 0 && errno != EAGAIN) {
        /* It has closed its end, and what it said still holds. */
        channel_close(ch);
    } else {
        channel_fail(ch, "it does not read the answers to its own messages");
    }
    return false;
}

/* A whole message is there. */
static void channel_handle(VhostUserChannel *ch)
{
    bool refused = ch->header.request != BACKEND_CONFIG_CHANGE;

    trace_vhost_user_channel_message(vhost_user_transport_name(ch->t),
                                     ch->header.request, refused);
    ch->have = 0;
    if (refused) {
        vhost_user_transport_report(ch->t, "the backend's message %u is "
                                    "refused", ch->header.request);
    } else {
        qemu_bh_schedule(ch->changed);
    }
    if (ch->header.flags & VHOST_USER_MESSAGE_WANTS_ANSWER &&
        !channel_answer(ch, refused)) {
        return;
    }
    if (++ch->burst == BURST) {
        qemu_set_fd_handler(ch->fd, NULL, NULL, NULL);
        timer_mod(&ch->rest, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + REST_MS);
    }
}

/* Bytes of the message at hand that are still to come. */
static size_t channel_missing(const VhostUserChannel *ch)
{
    size_t all = sizeof(ch->header);

    if (ch->have >= all) {
        all += ch->header.size;
    }
    return all - ch->have;
}

static void channel_read(void *opaque)
{
    VhostUserChannel *ch = opaque;
    uint8_t payload[MAX_PAYLOAD];
    bool in_header = ch->have < sizeof(ch->header);
    void *buf = in_header ? (uint8_t *)&ch->header + ch->have : payload;
    bool descriptors;
    ssize_t len;

    if (!vhost_user_transport_alive(ch->t)) {
        channel_close(ch);
        return;
    }
    len = vhost_user_transport_receive(ch->t, ch->fd, buf,
                                       channel_missing(ch), &descriptors);
    if (descriptors) {
        channel_fail(ch, "it sent descriptors that nobody asked for");
    } else if (len == 0 || (len < 0 && len != -EAGAIN)) {
        channel_close(ch);
    } else if (len > 0) {
        ch->have += len;
        if (in_header && ch->have == sizeof(ch->header) &&
            ch->header.size > MAX_PAYLOAD) {
            channel_fail(ch, "a message of its own is too long");
        } else if (!channel_missing(ch)) {
            channel_handle(ch);
        }
    }
}

VhostUserChannel *vhost_user_channel_new(VhostUserTransport *t, bool ack,
                                         VhostUserChangedFn *changed,
                                         void *opaque)
{
    VhostUserChannel *ch;
    int fds[2];
    int ret;

    if (qemu_socketpair(PF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        vhost_user_transport_fail(t, -errno, "no socket could be had for it");
        return NULL;
    }
    ret = vhost_user_transport_request(t, SET_BACKEND_REQ_FD, NULL, 0, fds[1],
                                       ack);
    close(fds[1]);
    if (ret < 0) {
        vhost_user_transport_fail(t, ret, "it refused the channel for its own "
                                  "messages");
        vhost_user_transport_close_later(t, fds[0]);
        return NULL;
    }
    ch = g_new0(VhostUserChannel, 1);
    ch->t = t;
    ch->fd = fds[0];
    ch->changed = qemu_bh_new(changed, opaque);
    timer_init_ms(&ch->rest, QEMU_CLOCK_REALTIME, channel_end_rest, ch);
    qemu_set_fd_handler(ch->fd, channel_read, NULL, ch);
    return ch;
}

void vhost_user_channel_free(VhostUserChannel *ch)
{
    if (ch) {
        channel_close(ch);
        timer_del(&ch->rest);
        qemu_bh_delete(ch->changed);
        g_free(ch);
    }
}
