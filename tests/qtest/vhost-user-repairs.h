/*
 * A machine with one vhost-user device, for tests of what must not end QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_VHOST_USER_REPAIRS_H
#define TESTS_QTEST_VHOST_USER_REPAIRS_H

#include "libqtest.h"
#include "libqos/libqos-malloc.h"
#include "libqos/virtio-pci.h"
#include "vhost-user-mock.h"

/**
 * RepairsSetup - how devices are made in a run of all tests
 * @prefix: of test paths
 * @options: of each vhost-user device, netdev and object
 * @private_ram: it needs no RAM that can be shared
 */
typedef struct RepairsSetup {
    const char *prefix;
    const char *options;
    bool private_ram;
} RepairsSetup;

/**
 * RepairsKind - a type of device
 * @name: for test paths
 * @device: driver and its properties
 * @backend: the "-netdev" or "-object" that has the connection, or NULL
 * @num_rings: that the backend gets
 * @num_others: rings behind those, which QEMU serves
 * @driver_features: that the driver takes, besides VERSION_1
 */
typedef struct RepairsKind {
    const char *name;
    const char *device;
    const char *backend;
    VuMockConfig mock;
    unsigned num_rings;
    unsigned num_others;
    uint64_t driver_features;
} RepairsKind;

extern const RepairsKind repairs_blk, repairs_blk_wce, repairs_scsi,
                         repairs_fs, repairs_vsock, repairs_rng, repairs_gpio,
                         repairs_input, repairs_net, repairs_crypto;

#define REPAIRS_RINGS 8

/**
 * RepairsGuest - the machine
 * @rings: those that the driver has set up
 */
typedef struct RepairsGuest {
    const RepairsKind *kind;
    const RepairsSetup *setup;
    char *dir;
    VuMock *mock;
    QTestState *qts;
    QPCIBus *bus;
    QGuestAllocator alloc;
    QVirtioPCIDevice pci;
    QVirtQueue *rings[REPAIRS_RINGS];
} RepairsGuest;

/** The machine; if @plugged, with the device behind a root port. */
RepairsGuest *repairs_new(const RepairsSetup *setup, const RepairsKind *kind,
                          bool plugged);
/** Find out that QEMU is alive, and end it. */
void repairs_free(RepairsGuest *g);

/** Plug the device in; returns QEMU's answer. */
QDict *repairs_plug(RepairsGuest *g);
/** Find the device on the bus. */
void repairs_find(RepairsGuest *g);
/** The driver's part: features, @num rings. */
void repairs_set_up(RepairsGuest *g, unsigned num);
/** The same and DRIVER_OK. */
void repairs_start_driver(RepairsGuest *g, unsigned num);
/** All rings; then wait for the backend. */
void repairs_start(RepairsGuest *g);
void repairs_set_up_ring(RepairsGuest *g, unsigned n);

/** The guest switches the slot off; waits until the device is gone. */
void repairs_unplug(RepairsGuest *g);
/** Wait until somebody has done so; then QEMU must answer. */
void repairs_wait_unplugged(RepairsGuest *g);
/** The vector of configuration changes does the same. */
void repairs_lead_vector_to_port(RepairsGuest *g);

/** QEMU stands still, and sees afterwards what has happened meanwhile. */
void repairs_freeze(RepairsGuest *g);
void repairs_thaw(RepairsGuest *g);

/** Wait until QEMU has seen the end of the connection, and is done with it. */
void repairs_wait_away(RepairsGuest *g);
/** Wait until QEMU has taken the next connection. */
void repairs_wait_back(RepairsGuest *g);
void repairs_write_config(RepairsGuest *g, unsigned offset, unsigned size,
                          uint32_t value);

/** Add all tests with this setup; it stays. */
void repairs_add_tests(const RepairsSetup *setup);
void repairs_add_leave_tests(const RepairsSetup *setup);
void repairs_add_crypto_tests(const RepairsSetup *setup);

#endif /* TESTS_QTEST_VHOST_USER_REPAIRS_H */
