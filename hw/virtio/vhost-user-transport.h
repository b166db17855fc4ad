/*
 * vhost-user transport: the socket of a backend that is not trusted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_TRANSPORT_H
#define HW_VIRTIO_VHOST_USER_TRANSPORT_H

#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "chardev/char-socket.h"
#include "vhost-user-compat.h"

/** Seconds over which a backend's time is counted */
#define VHOST_USER_TRANSPORT_WINDOW_S 60

/** Answers that a backend may be late with in that time */
#define VHOST_USER_TRANSPORT_LATE 2

/**
 * VhostUserMessage - what each message begins with, on either socket
 * @request: number of the request
 * @flags: version, and whether it is an answer or wants one
 * @size: bytes of the payload that follows
 */
typedef struct QEMU_PACKED VhostUserMessage {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} VhostUserMessage;

/** Of VhostUserMessage.flags */
#define VHOST_USER_MESSAGE_VERSION 0x1
#define VHOST_USER_MESSAGE_ANSWER 0x4
#define VHOST_USER_MESSAGE_WANTS_ANSWER 0x8

/**
 * WaitBudget - time that somebody else may take from a thread of QEMU's
 * @capacity_ns: at once; it comes back within @window_ns
 * @total_ns: ever spent
 *
 * Over any window it is twice the capacity at most.  No lock: BQL.
 */
typedef struct WaitBudget {
    int64_t capacity_ns;
    int64_t window_ns;
    int64_t spent_ns;
    int64_t counted_at;
    uint64_t total_ns;
} WaitBudget;

/** wait_budget_init() - all of it is left */
static inline void wait_budget_init(WaitBudget *budget, int64_t capacity_ns,
                                    int64_t window_ns)
{
    *budget = (WaitBudget) {
        .capacity_ns = capacity_ns,
        .window_ns = window_ns,
        .counted_at = qemu_clock_get_ns(QEMU_CLOCK_REALTIME),
    };
}

/** wait_budget_left() - nanoseconds that may be spent now */
static inline int64_t wait_budget_left(WaitBudget *budget)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    int64_t back = muldiv64(now - budget->counted_at,
                            budget->capacity_ns / SCALE_MS,
                            budget->window_ns / SCALE_MS);

    budget->spent_ns -= MIN(budget->spent_ns, back);
    budget->counted_at = now;
    return MAX(budget->capacity_ns - budget->spent_ns, 0);
}

/** wait_budget_spend() - @ns were spent; more than was left is possible */
static inline void wait_budget_spend(WaitBudget *budget, int64_t ns)
{
    budget->spent_ns += ns;
    budget->total_ns += ns;
}

/** vhost_user_chardev() - @be's chardev, or NULL: it is gone, or no socket */
static inline SocketChardev *vhost_user_chardev(CharFrontend *be)
{
    Chardev *chr = qemu_chr_fe_get_driver(be);

    return chr ? (SocketChardev *)object_dynamic_cast(OBJECT(chr),
                                                      TYPE_CHARDEV_SOCKET)
               : NULL;
}

typedef struct VhostUserTransport VhostUserTransport;

/**
 * vhost_user_transport_new() - for all connections of one device, one by one
 * @chr: of the socket; borrowed, and may lose its chardev earlier
 * @timeout_ms: how long one answer may take
 *
 * All functions are called with the BQL held.
 */
VhostUserTransport *vhost_user_transport_new(CharFrontend *chr,
                                             uint32_t timeout_ms);

/**
 * vhost_user_transport_free() - end the connection, at once
 * @t: nobody listens to its chardev any more; may be NULL
 */
void vhost_user_transport_free(VhostUserTransport *t);

/** vhost_user_transport_set_name() - what messages call the device; copied */
void vhost_user_transport_set_name(VhostUserTransport *t, const char *name);

/** vhost_user_transport_name() - what messages call the device */
const char *vhost_user_transport_name(const VhostUserTransport *t);

/** vhost_user_transport_waited() - nanoseconds that backends made QEMU wait */
uint64_t vhost_user_transport_waited(const VhostUserTransport *t);

/**
 * vhost_user_transport_begin() - go on with the socket that the chardev has now
 * @t: an earlier connection ends
 * @errp: set on failure; names the way out
 */
bool vhost_user_transport_begin(VhostUserTransport *t, Error **errp);

/**
 * vhost_user_transport_end() - no more of this connection
 * @t: any; nothing happens without a connection
 *
 * Returns at once.  The chardev is disconnected by a bottom half, since its
 * event is handled by code that may be on the stack now.
 */
void vhost_user_transport_end(VhostUserTransport *t);

/** vhost_user_transport_alive() - can the backend still answer? */
bool vhost_user_transport_alive(const VhostUserTransport *t);

/**
 * vhost_user_transport_write() - send a message
 * @t: any
 * @msg: begins with a VhostUserMessage
 * @size: bytes in all
 * @fds: sent along; stay the caller's
 * @num_fds: of them
 *
 * Returns: 0 or a negative error code; then the connection ends.
 */
int vhost_user_transport_write(VhostUserTransport *t, const void *msg,
                               size_t size, const int *fds, unsigned num_fds);

/**
 * vhost_user_transport_read() - receive the answer to what was sent last
 * @t: any
 * @msg: set; begins with a VhostUserMessage
 * @max: bytes that fit there
 *
 * Returns: 0 or a negative error code; then the connection ends.
 */
int vhost_user_transport_read(VhostUserTransport *t, void *msg, size_t max);

/**
 * vhost_user_transport_request() - send a message that has no other answer
 * @t: any
 * @request: its number
 * @payload: its payload
 * @size: bytes of it
 * @fd: sent along; stays the caller's; -1: none
 * @ack: wait until the backend has done it (REPLY_ACK was negotiated)
 *
 * Returns: 0 or a negative error code.
 */
int vhost_user_transport_request(VhostUserTransport *t, uint32_t request,
                                 const void *payload, uint32_t size, int fd,
                                 bool ack);

/**
 * vhost_user_transport_wait() - wait for a pipe whose other end the backend has
 * @t: any
 * @fd: the pipe
 * @events: G_IO_IN or G_IO_OUT
 * @begun_ns: when the whole transfer began, QEMU_CLOCK_REALTIME
 * @errp: set on failure
 *
 * No longer than for an answer, and for all of the transfer no longer than the
 * backend may take in all.
 */
bool vhost_user_transport_wait(VhostUserTransport *t, int fd, int events,
                               int64_t begun_ns, Error **errp);

/**
 * vhost_user_transport_why() - what was wrong the last time, or NULL
 *
 * A sentence without the name of the device; the transport's.
 */
const char *vhost_user_transport_why(const VhostUserTransport *t);

/** vhost_user_transport_set_why() - something else was wrong with it; copied */
void vhost_user_transport_set_why(VhostUserTransport *t, const char *why);

/**
 * vhost_user_transport_report() - report what a backend has caused
 * @t: any
 * @fmt: the sentence
 *
 * A few in some seconds; the others are counted.
 */
void G_GNUC_PRINTF(2, 3)
vhost_user_transport_report(VhostUserTransport *t, const char *fmt, ...);

/**
 * vhost_user_transport_fail() - end the connection, for a reason
 * @t: any; nothing is said if it has ended already
 * @error: negative error code
 * @what: what the backend did, with "it"
 *
 * Returns: @error.
 */
int vhost_user_transport_fail(VhostUserTransport *t, int error,
                              const char *what);

/**
 * vhost_user_transport_receive() - read what is there from a backend's socket
 * @t: closes the descriptors that come with it
 * @socket: this one
 * @buf: set
 * @size: bytes that fit there
 * @descriptors: set: some came
 *
 * Returns: bytes, 0 if the other end is closed, or a negative error code;
 * -EAGAIN if there is nothing.
 */
ssize_t vhost_user_transport_receive(VhostUserTransport *t, int socket,
                                     void *buf, size_t size,
                                     bool *descriptors);

/**
 * vhost_user_transport_close_later() - close what may take long to close
 * @t: any
 * @take_fd: taken; may be -1
 */
void vhost_user_transport_close_later(VhostUserTransport *t, int take_fd);

/* vhost-user-channel.c */

typedef struct VhostUserChannel VhostUserChannel;

/** VhostUserChangedFn - the backend says that its configuration has changed */
typedef void VhostUserChangedFn(void *opaque);

/**
 * vhost_user_channel_new() - let the backend send messages of its own
 * @t: connected, outlives the channel
 * @ack: see vhost_user_transport_request()
 * @changed: called from a bottom half of its own, with nothing on the stack; it
 *     may free the channel
 * @opaque: for @changed
 *
 * Any message but that one is refused.  BQL held.
 *
 * Returns: NULL after a message; then the connection ends.
 */
VhostUserChannel *vhost_user_channel_new(VhostUserTransport *t, bool ack,
                                         VhostUserChangedFn *changed,
                                         void *opaque);

/** vhost_user_channel_free() - @ch may be NULL.  BQL held. */
void vhost_user_channel_free(VhostUserChannel *ch);

/* vhost-user-dial.c */

/**
 * vhost_user_dials_again() - can @be connect again when its backend is gone?
 */
bool vhost_user_dials_again(CharFrontend *be);

/**
 * vhost_user_peer() - which process is at the other end of @be's socket?
 *
 * The one that opened that end, which may have handed it on.  BQL held.
 *
 * Returns: its process id, or 0 if that is not known, or is QEMU itself.
 */
pid_t vhost_user_peer(CharFrontend *be);

/**
 * vhost_user_dial() - connect a device that is being made to its backend
 * @be: its chardev; nothing happens if it is connected
 * @timeout_ms: how long a machine that runs may be kept waiting
 * @errp: set on failure; names the way out
 *
 * BQL held.
 */
bool vhost_user_dial(CharFrontend *be, uint32_t timeout_ms, Error **errp);

typedef struct VhostUserPace VhostUserPace;

/**
 * vhost_user_pace_new() - of the connections of one device
 * @be: its chardev; borrowed, and may lose its chardev earlier
 *
 * BQL held for all of these.
 */
VhostUserPace *vhost_user_pace_new(CharFrontend *be);

/** vhost_user_pace_free() - what rests is closed: its device knows of none */
void vhost_user_pace_free(VhostUserPace *pace);

/**
 * vhost_user_pace_rests() - there is a connection: does it have to rest?
 *
 * True: the device does nothing; CHR_EVENT_OPENED comes again, if the chardev
 * is open then.  False: it is counted.  Nothing rests before the machine runs.
 */
bool vhost_user_pace_rests(VhostUserPace *pace);

/**
 * vhost_user_pace_wait() - wait until one would not have to
 *
 * For a machine that does not run yet.
 */
void vhost_user_pace_wait(VhostUserPace *pace);

#endif /* HW_VIRTIO_VHOST_USER_TRANSPORT_H */
