/*
 * Fuzzing messages: a backend that says what it likes to a device of QEMU's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_MESSAGES_H
#define TESTS_FUZZ_MESSAGES_H

#include "hw/virtio/vhost-user-isolation-internal.h"
#include "../fuzz-input.h"

/* A device like a NIC with two pairs of queues: two vhost_devs. */
#define FUZZ_DEVS 2
#define FUZZ_DEV_QUEUES 2
#define FUZZ_QUEUES (FUZZ_DEVS * FUZZ_DEV_QUEUES)

/* memory-isolation-timeout-ms; time is not real here */
#define FUZZ_TIMEOUT_MS 5000

/* Of the vhost-user specification: what the backend looks at. */
#define FUZZ_GET_FEATURES 1
#define FUZZ_GET_VRING_BASE 11
#define FUZZ_GET_PROTOCOL_FEATURES 15
#define FUZZ_GET_QUEUE_NUM 17
#define FUZZ_SET_BACKEND_REQ_FD 21
#define FUZZ_GET_CONFIG 24
#define FUZZ_CREATE_CRYPTO_SESSION 26
#define FUZZ_GET_STATUS 40
#define FUZZ_SET_DEVICE_STATE_FD 42
#define FUZZ_CHECK_DEVICE_STATE 43

/* messages-world.c: time, threads and log of the code under test. */

/** world_begin() - time is 0; from now on nothing is real */
void world_begin(void);
/** world_end() - close what waits for it; all descriptors are closed */
void world_end(void);
/** world_now() - nanoseconds since the beginning */
int64_t world_now(void);
/** world_pass() - time goes by while nobody waits */
void world_pass(int64_t ns);
/** world_waited() - how long QEMU has waited for its backend in all */
int64_t world_waited(void);
/** world_close_some() - the closing thread runs, for @num descriptors */
void world_close_some(unsigned num);
/** world_turn() - one turn of the main loop */
void world_turn(void);
/** world_pipe() - QEMU will wait for a pipe */
void world_pipe(void);
/** world_connection() - what was not sent will not be sent */
void world_connection(void);
/** world_asked() - the guest or the user did something: that may be logged */
void world_asked(void);
/** world_check() - what must be true at any time */
void world_check(void);

/* messages-device.c: QEMU's side. */

/**
 * FuzzDevice - a device between realize and unplug
 * @chr: its chardev, which has the socket
 * @be: its end of @chr
 * @user: of all its vhost_devs
 * @vdev: has an id and nothing else
 * @guest: the guest's side is not fuzzed
 * @devs: of this connection
 * @vqs: of each of them
 * @queues: nothing
 * @num_devs: as many
 * @has_config: its configuration is the backend's
 * @connected: between the two events of its chardev
 * @busy: one of its calls is on the stack
 * @started: between start and stop
 */
typedef struct FuzzDevice {
    Chardev *chr;
    CharFrontend be;
    VhostUserState user;
    VirtIODevice vdev;
    VirtIOIsolation guest;
    struct vhost_dev devs[FUZZ_DEVS];
    struct vhost_virtqueue vqs[FUZZ_DEVS][FUZZ_DEV_QUEUES];
    IsolatedQueue *queues[FUZZ_QUEUES];
    unsigned num_devs;
    bool has_config;
    bool connected;
    bool busy;
    bool started;
} FuzzDevice;

/** device_realize() - the string says what it is like */
void device_realize(FuzzDevice *d, FuzzInput *in);
/** device_unplug() - and whatever it has goes with it */
void device_unplug(FuzzDevice *d);
/** device_plug_socket() - the chardev gets a connection, if it has none */
bool device_plug_socket(FuzzDevice *d, int take_fd);
/** device_move() - the guest or the user do something with it */
void device_move(FuzzDevice *d, unsigned which, FuzzInput *in);
/** device_check() - between moves */
void device_check(FuzzDevice *d);

/* messages-backend.c: the other side. */

/** backend_begin() - it takes its moves from @in */
void backend_begin(FuzzInput *in);
/** backend_end() - it is killed */
void backend_end(void);
/** backend_connect() - a new connection; the other end, or -1 */
int backend_connect(void);
/**
 * backend_move() - one move
 * @left_ns: how long QEMU would wait for it now; 0: it does not
 *
 * Returns: nanoseconds that it took.
 */
int64_t backend_move(int64_t left_ns);

/* messages-say.c: what it has to say it with. */

/* As many descriptors as a message can have. */
#define FUZZ_FDS_MAX 253

/* Those of the backend's own; the linker has put checks into the others. */
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);

/**
 * say() - send bytes to QEMU; what does not fit is not sent
 * @socket: -1: nothing happens
 * @fd: sent along @num_fds times; stays the caller's; -1: none
 */
void say(int socket, const void *bytes, size_t size, int fd, unsigned num_fds);
/**
 * open_any() - a descriptor that somebody might treat in another way, or -1
 * @own: the backend's socket, which is one of them
 */
int open_any(unsigned kind, int own);
/** any_number() - of descriptors, around the limits that somebody may have */
unsigned any_number(unsigned which);

#endif /* TESTS_FUZZ_MESSAGES_H */
