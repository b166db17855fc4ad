/*
 * A machine with one vhost-user device, its driver and its backend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_DEVICE_H
#define TESTS_QTEST_ISOLATION_DEVICE_H

#include "libqos/generic-pcihost.h"
#include "isolation-backend.h"
#include "isolation-driver.h"
#include "isolation-evidence.h"

/** Bytes of guest RAM. */
#define DEVICE_RAM (16 * MiB)

/** The root port, and what is behind it, as qpci_device_find() wants them. */
#define DEVICE_PORT QPCI_DEVFN(3, 0)
#define DEVICE_BEHIND_PORT (1 << 8)

/** Bytes that a model may use as it likes, at MockBackend.opaque. */
#define DEVICE_STATE 4096

/**
 * DeviceConfig - how the device and its two rings are
 * @name: for test paths
 * @isolated: it is, and RAM is private; else RAM is shared
 * @guest_packed: the guest's rings; @guest_event_idx: and their events
 * @backend_features: of bits 24 to 49, what the backend offers
 * @pins: properties that keep QEMU from some of that, or NULL
 * @pinned_off: from what
 * @iothread: queues run in an IOThread
 * @policy: of the VM, instead of the property, or NULL; RAM is shared then
 * @port: it sits behind a PCIe root port that can switch it off
 * @incoming: the machine waits for a migration stream
 * @dials: QEMU connects to the backend; further options of the chardev, or NULL
 */
typedef struct DeviceConfig {
    const char *name;
    bool isolated;
    bool guest_packed;
    bool guest_event_idx;
    uint64_t backend_features;
    const char *pins;
    uint64_t pinned_off;
    bool iothread;
    const char *policy;
    bool port;
    bool incoming;
    const char *dials;
} DeviceConfig;

typedef struct GuestDevice GuestDevice;

/**
 * DeviceKind - a type of device
 * @name: for test paths
 * @device: of "-device", and its further properties
 * @object: an option and its type, if that holds the connection and the
 *     properties of isolation, and @link is the device's property that names it
 * @model: what the backend does; its features are what the driver wants too
 * @num_others: queues behind the model's that QEMU serves
 * @no_version_1: QEMU does not tell the backend of VERSION_1, which a packed
 *     ring needs
 * @packed_if_shared: QEMU tells the backend of packed rings when the property
 *     is off
 * @reconnects: a backend may come back
 * @arm_only: QEMU has it for no other targets
 * @traffic: a request each way, data checked
 */
typedef struct DeviceKind {
    const char *name;
    const char *device;
    const char *object;
    const char *link;
    MockModel model;
    unsigned num_others;
    bool no_version_1;
    bool packed_if_shared;
    bool reconnects;
    bool arm_only;
    void (*traffic)(GuestDevice *d);
} DeviceKind;

extern const DeviceKind device_blk, device_crypto, device_fs, device_gpio,
                        device_i2c, device_input, device_net, device_rng,
                        device_scmi, device_scsi, device_snd, device_vsock;

/**
 * GuestDevice - the machine
 * @ram: guest address of its RAM, DEVICE_RAM bytes
 * @bus: its PCI bus; of a machine for Arm, that is in @arm_bus
 * @next_free: guest address of memory that is not used yet
 */
struct GuestDevice {
    const DeviceKind *kind;
    const DeviceConfig *config;
    char *dir;
    MockBackend *backend;
    uint8_t *state;
    QTestState *qts;
    uint64_t ram;
    QPCIBus *bus;
    QGenericPCIBus arm_bus;
    QVirtioPCIDevice pci;
    GuestPattern pattern;
    GuestQueue queues[MOCK_QUEUES_MAX];
    uint64_t next_free;
};

GuestDevice *device_new(const DeviceKind *kind, const DeviceConfig *config);
void device_free(GuestDevice *d);

/** Whether QEMU lacks it, and the case is skipped therefore. */
bool device_skip_if_missing(const DeviceKind *kind);

/** Take the device out of its slot, of a PC; its chardev stays. */
void device_unplug(GuestDevice *d);
/** Plug another one in, on the same chardev. */
void device_plug(GuestDevice *d);

/** As far as DRIVER_OK. */
void device_start_driver(GuestDevice *d);
/** The same, and until the backend's queues run. */
void device_start(GuestDevice *d);
/** Reset, and until they do not. */
void device_stop(GuestDevice *d);

/**
 * device_request() - one request, with its completion and interrupt
 * @out: @out_len bytes for the device, in as many as two buffers
 * @in: where @in_len bytes of the device go, likewise
 *
 * Returns: the length that the device reported.
 */
uint32_t device_request(GuestDevice *d, unsigned queue,
                        const void *out, size_t out_len,
                        void *in, size_t in_len);

/**
 * device_post() - offer @out_len bytes and @in_len bytes of room
 *
 * Returns: the guest address of the room.
 */
uint64_t device_post(GuestDevice *d, unsigned queue,
                     const void *out, size_t out_len, size_t in_len);
/** Wait for what was posted; @data is in it. */
void device_expect(GuestDevice *d, unsigned queue, uint64_t addr,
                   const void *data, size_t len);

/** post, deliver and expect @len bytes. */
void device_receive(GuestDevice *d, unsigned queue, const void *data,
                    size_t len);

/** @len bytes that no other call gives. */
void device_random(void *data, size_t len);

#endif /* TESTS_QTEST_ISOLATION_DEVICE_H */
