/*
 * Devices that a shadow ring is run against at full speed.
 *
 * Includes nothing of QEMU: one device is compiled with Linux's headers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_PEER_PEER_H
#define TESTS_PEER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#define PEER_BUFS 8

/**
 * PeerRing - the ring, as the device gets it
 * @packed: format
 * @event_idx: negotiated
 * @indirect: negotiated
 * @size: descriptors
 * @desc: descriptor area
 * @driver: driver area
 * @device: device area
 * @mem: what all of them lie in
 */
typedef struct PeerRing {
    bool packed;
    bool event_idx;
    bool indirect;
    uint16_t size;
    void *desc;
    void *driver;
    void *device;
    void *mem;
} PeerRing;

/**
 * PeerRequest - what a device has fetched
 * @id: its name in the ring
 * @num_descs: slots that it takes, for the device's own use
 * @num_out: device-readable buffers, at the front of @buf
 * @num_in: device-writable ones
 * @buf: where they are, and how many bytes long
 */
typedef struct PeerRequest {
    uint16_t id;
    uint16_t num_descs;
    unsigned num_out;
    unsigned num_in;
    struct {
        void *base;
        uint64_t len;
    } buf[PEER_BUFS];
} PeerRequest;

/**
 * PeerOps - a device; addresses are pointers of this process
 * @new: for a ring that nobody has used; NULL if there is no such device
 * @free: forget it
 * @fetch: the next request; 0 for none, negative for a fault of the driver
 * @use: give one back; whether it is visible before @publish is its business
 * @publish: what was given back becomes visible
 * @should_call: whether the driver wants to hear of it
 * @suppress_kicks: ask not to be notified
 * @arm_kicks: ask to be notified; true if there is something already
 */
typedef struct PeerOps {
    void *(*new)(const PeerRing *ring);
    void (*free)(void *peer);
    int (*fetch)(void *peer, PeerRequest *request);
    void (*use)(void *peer, const PeerRequest *request, uint32_t len);
    void (*publish)(void *peer);
    bool (*should_call)(void *peer);
    void (*suppress_kicks)(void *peer);
    bool (*arm_kicks)(void *peer);
} PeerOps;

/** Exactly one device is linked into a program. */
extern const PeerOps peer_ops;

#endif /* TESTS_PEER_PEER_H */
