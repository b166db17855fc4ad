/*
 * A machine with a cryptodev, and its backend, which comes and goes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_CRYPTO_H
#define TESTS_QTEST_ISOLATION_CRYPTO_H

#include "isolation-connection.h"
#include "isolation-device.h"

/** Where the device is on its bus. */
#define CRYPTO_SLOT 4

/**
 * CryptoTest - the machine, and how its backend answers
 * @queue_num: to GET_QUEUE_NUM
 * @session: to CREATE_CRYPTO_SESSION
 * @created: sessions, @closed: the last that was closed
 * @leaks: words of session messages that look like addresses of QEMU's
 */
typedef struct CryptoTest {
    GuestDevice *d;
    Connection *c;
    char *socket;

    unsigned queue_num;
    int64_t session;
    unsigned created;
    uint64_t closed;
    unsigned leaks;
} CryptoTest;

/** The device is there, the backend is not. */
CryptoTest *crypto_new(const DeviceConfig *config);
void crypto_free(CryptoTest *t);

/** Another device, after the one before is gone. */
void crypto_replug(CryptoTest *t);

/** All of RAM, for crypto_assert_isolated(); before the driver starts. */
void crypto_fill_ram(CryptoTest *t);
/** As long as the backend is there. */
void crypto_assert_isolated(CryptoTest *t);

/** The driver's half of a start; the backend's follows when it is there. */
void crypto_start_away(CryptoTest *t);
/** The backend comes, and serves the device; @fuse: see connection_open(). */
void crypto_come(CryptoTest *t, unsigned fuse);
/** Wait until it does, within a limit. */
void crypto_wait_served(CryptoTest *t);
/** It comes, and goes.  Returns: how many messages a start has. */
unsigned crypto_come_and_go(CryptoTest *t);

/** Is there a backend, by the device's configuration space? */
bool crypto_hw_ready(CryptoTest *t);
/** Wait until it says so, within a limit. */
void crypto_wait_ready(CryptoTest *t, bool ready);
/** Wait for its interrupt, within a limit; then it says so. */
void crypto_wait_told(CryptoTest *t, bool ready);

/** While the backend is away QEMU has the queue, and can do nothing. */
void crypto_assert_refused(CryptoTest *t);

/**
 * crypto_create() - ask for a session
 * @queue: for which data queue; there is only 0
 * @id: the session's number
 *
 * Returns: the device's status.
 */
uint32_t crypto_create(CryptoTest *t, uint32_t queue, uint64_t *id);
/** Returns: the device's status. */
uint8_t crypto_close(CryptoTest *t, uint32_t queue, uint64_t id);
/** Wait until the backend has heard of it, within a limit. */
void crypto_wait_closed(CryptoTest *t, uint64_t id);

#endif /* TESTS_QTEST_ISOLATION_CRYPTO_H */
