/*
 * A backend's connection, which a test makes and ends when it likes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_CONNECTION_H
#define TESTS_QTEST_ISOLATION_CONNECTION_H

#include "isolation-backend.h"

/** Bytes of a message's payload, at the most. */
#define CONNECTION_PAYLOAD_MAX 4096

/**
 * ConnectionMessage - a message with whatever payload
 *
 * Begins like a MockMessage.
 */
typedef struct QEMU_PACKED ConnectionMessage {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
    uint8_t payload[CONNECTION_PAYLOAD_MAX];
} ConnectionMessage;

/** What a message's flags are in a reply. */
#define CONNECTION_REPLY 5

typedef struct Connection Connection;

/**
 * ConnectionHook - the test's say in an answer
 * @opaque: the test's
 * @m: became the reply, if @known; else what came
 * @known: the backend knows this message
 *
 * Called in the connection's thread with the backend's lock held.  A message
 * that is answered gets CONNECTION_REPLY.
 */
typedef void ConnectionHook(void *opaque, ConnectionMessage *m, bool known);

/**
 * connection_new() - no connection yet
 * @b: without a path of its own; outlives this
 * @path: of the socket to connect to
 * @knows: messages below this number go to @b
 * @hook: and what it is given, or NULL
 */
Connection *connection_new(MockBackend *b, const char *path, unsigned knows,
                           ConnectionHook *hook, void *opaque);
void connection_free(Connection *c);

/**
 * connection_open() - connect
 * @fuse: the connection ends when message number @fuse has come, before it is
 *     answered; 0: never
 */
void connection_open(Connection *c, unsigned fuse);
/** Hang up, and stay away. */
void connection_close(Connection *c);
/** Messages on this connection. */
unsigned connection_received(Connection *c);
/** Wait until all that the peer has sent is dealt with, within a limit. */
void connection_settle(Connection *c);
/** Wait until the connection has ended by itself, within a limit. */
void connection_wait_ended(Connection *c);

/**
 * connection_wait_running() - wait for queues to run, or for the end
 * @num: queues
 *
 * Returns: whether they do.
 */
bool connection_wait_running(Connection *c, unsigned num);

#endif /* TESTS_QTEST_ISOLATION_CONNECTION_H */
