/*
 * An honest device: the other side of a shadow ring, as virtio 1.2, 2.7 and
 * 2.8 describe it.
 *
 * Written from the specification, for programs that prove something about the
 * ring files.  All its accesses to shared memory are atomics of qemu/atomic.h,
 * so the explorer can schedule them and threads can run them.
 *
 * It holds the driver to every rule that a device can see kept;
 * ring_device_fault(), which the program brings, is called for one that is not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_DEVICE_H
#define TESTS_EXPLORE_DEVICE_H

#include "hw/virtio/shadow-ring.h"

#define RING_DEVICE_BUFS 8

/**
 * RingDeviceRequest - what the driver made available
 * @id: its name in the ring
 * @num_descs: slots that it takes in a packed ring
 * @num_out: device-readable buffers, at the front of @bufs
 * @num_in: device-writable buffers
 * @bufs: all of them
 */
typedef struct RingDeviceRequest {
    uint16_t id;
    uint16_t num_descs;
    uint16_t num_out;
    uint16_t num_in;
    ShadowRingBuf bufs[RING_DEVICE_BUFS];
} RingDeviceRequest;

typedef struct RingDevice RingDevice;

typedef struct RingDeviceOps {
    bool (*fetch)(RingDevice *d, RingDeviceRequest *request);
    void (*use)(RingDevice *d, uint16_t id, uint16_t num_descs, uint32_t len);
    void (*publish)(RingDevice *d);
    bool (*should_call)(RingDevice *d);
    void (*suppress_kicks)(RingDevice *d);
    bool (*arm_kicks)(RingDevice *d);
} RingDeviceOps;

/**
 * RingDevice - a device and what it knows
 * @config: of the ring, as the driver has it
 * @tables: where indirect tables are
 * @tables_addr: address of @tables, as the driver gives it
 * @tables_bytes: their size
 * @halves: access the halves of a packed ring's event words one by one
 *
 * The rest is the formats'.  Plain memory, no pointers into itself.
 */
struct RingDevice {
    const RingDeviceOps *ops;
    ShadowRingConfig config;
    const uint8_t *tables;
    uint64_t tables_addr;
    uint64_t tables_bytes;
    bool halves;

    uint8_t *desc;
    uint8_t *driver;
    uint8_t *device;
    uint16_t next_avail;      /* split: index; packed: slot              */
    uint16_t next_used;
    bool avail_wrap;          /* packed: of next_avail                   */
    bool used_wrap;           /* packed: of next_used                    */
    uint16_t asked_used;      /* next_used when we last asked            */
    bool asked_wrap;          /* packed: of asked_used                   */
    bool has_batch;           /* used something, did not show it         */
    uint16_t batch_slot;      /* packed: first slot of it                */
    uint16_t batch_flags;     /* packed: flags that it will get          */
};

extern const RingDeviceOps ring_device_split_ops;
extern const RingDeviceOps ring_device_packed_ops;

/** ring_device_fault() - the driver broke a rule; does not return */
void G_NORETURN ring_device_fault(const char *rule);

/** ring_device_init() - begin with a ring that nobody has used */
void ring_device_init(RingDevice *d, const ShadowRingConfig *config);

/** ring_device_fetch() - take the next request; false if there is none */
static inline bool ring_device_fetch(RingDevice *d, RingDeviceRequest *request)
{
    return d->ops->fetch(d, request);
}

/** ring_device_use() - give a request back, not yet to be seen */
static inline void ring_device_use(RingDevice *d, uint16_t id,
                                   uint16_t num_descs, uint32_t len)
{
    d->ops->use(d, id, num_descs, len);
}

/** ring_device_publish() - show what was given back */
static inline void ring_device_publish(RingDevice *d)
{
    d->ops->publish(d);
}

/** ring_device_should_call() - does the driver want to hear of it? */
static inline bool ring_device_should_call(RingDevice *d)
{
    return d->ops->should_call(d);
}

/** ring_device_suppress_kicks() - ask the driver not to notify */
static inline void ring_device_suppress_kicks(RingDevice *d)
{
    d->ops->suppress_kicks(d);
}

/**
 * ring_device_arm_kicks() - ask the driver to notify
 *
 * Returns: true if there is something already.
 */
static inline bool ring_device_arm_kicks(RingDevice *d)
{
    return d->ops->arm_kicks(d);
}

/** ring_device_table() - check an indirect table; returns where it is */
const uint8_t *ring_device_table(const RingDevice *d, uint64_t addr,
                                 uint32_t len);

/** ring_device_add_buf() - one more buffer of @request */
void ring_device_add_buf(RingDeviceRequest *request, uint64_t addr,
                         uint32_t len, bool in);

#endif /* TESTS_EXPLORE_DEVICE_H */
