/*
 * The transport of a backend that is not trusted, with time, log and close()
 * in the test's hands.  Sockets, chardev and main loop are real.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_TRANSPORT_HARNESS_H
#define TESTS_UNIT_TRANSPORT_HARNESS_H

#include "hw/virtio/vhost-user-transport.h"

/* What an answer may take, in time that is not real. */
#define RIG_LIMIT_MS 1000
#define RIG_LIMIT_NS (RIG_LIMIT_MS * (int64_t)SCALE_MS)

/**
 * HarnessWaitFn - the backend moves, since QEMU waits for it
 * @left_ns: as long
 *
 * Returns: nanoseconds that it took.
 */
typedef int64_t HarnessWaitFn(void *opaque, int64_t left_ns);

/** harness_init() - once */
void harness_init(void);
/** harness_reset() - no time has passed, nothing was logged or closed */
void harness_reset(void);
/** harness_on_wait() - without, a backend sleeps for ever */
void harness_on_wait(HarnessWaitFn *fn, void *opaque);
/** harness_pass() - time goes by, and timers end */
void harness_pass(int64_t ns);
/** harness_waited() - nanoseconds that QEMU has waited in all */
int64_t harness_waited(void);
/** harness_lines() - of the log; @last: the last one */
unsigned harness_lines(const char **last);
/** harness_hold_closing() - let close() in another thread wait */
void harness_hold_closing(bool on);
/** harness_wait_closed() - until so many descriptors are closed elsewhere */
void harness_wait_closed(unsigned num);
/** harness_settle() - until all that is to be closed is closed */
void harness_settle(void);
/** harness_closed_here() - descriptors that this thread has closed */
unsigned harness_closed_here(void);
/** harness_machine_ready() - does the machine run? */
void harness_machine_ready(bool on);
/** harness_turn() - what the main loop would do now */
void harness_turn(void);

/**
 * Rig - a transport and its backend
 * @peer: the backend's end of the socket; -1: none
 * @num_closed: times that the device was told that its socket is closed
 */
typedef struct Rig {
    Chardev *chr;
    CharFrontend be;
    VhostUserTransport *t;
    int peer;
    unsigned num_closed;
} Rig;

/** rig_up() - connected */
void rig_up(Rig *rig);
/** rig_connect() - another connection; the last one has gone */
void rig_connect(Rig *rig);
/** rig_plug() - another socket for the chardev, and nobody is told */
void rig_plug(Rig *rig);
/** rig_free() - all that it has will be closed */
void rig_free(Rig *rig);
/** rig_down() - and is */
void rig_down(Rig *rig);
/**
 * rig_assert_refused() - its backend was, for this reason
 *
 * Nothing is sent, believed or waited for any more.
 */
void rig_assert_refused(Rig *rig, const char *reason);
/** rig_ask() - send a message without a payload */
int rig_ask(Rig *rig, uint32_t request);
/** rig_answer() - the backend sends @size bytes of @bytes, and descriptors */
void rig_answer(Rig *rig, const void *bytes, size_t size, unsigned num_fds);
/** rig_read() - QEMU waits for a number */
int rig_read(Rig *rig, uint64_t *number);

/** RigNumber - an answer */
typedef struct QEMU_PACKED RigNumber {
    VhostUserMessage header;
    uint64_t number;
} RigNumber;

/** rig_number() - the honest one */
RigNumber rig_number(uint32_t request, uint64_t number);
/** rig_say() - bytes and descriptors (of /dev/null) into a socket */
void rig_say(int socket, const void *bytes, size_t size, unsigned num_fds);

#endif /* TESTS_UNIT_TRANSPORT_HARNESS_H */
