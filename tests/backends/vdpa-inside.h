/*
 * Two vDPA network devices inside QEMU's own process, for tests of vhost-vdpa
 * with what VDUSE cannot have: what their files share.
 *
 *   vdpa-inside.c            descriptors, and the thread
 *   vdpa-inside-requests.c   requests of vhost-vdpa
 *   vdpa-inside-queue.c      memory as the device sees it, rings
 *   vdpa-inside-net.c        control commands, their state, the cable
 *
 * A lock is held by whoever touches a device: QEMU's main loop in a request, or
 * the thread that is the hardware.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_BACKENDS_VDPA_INSIDE_H
#define TESTS_BACKENDS_VDPA_INSIDE_H

#include <linux/vhost.h>
#include "qemu/bitmap.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_net.h"
#include "mock-device.h"

#define PAIRS_MAX 4
#define QUEUES_MAX (2 * PAIRS_MAX + 1)
#define RING_MAX 1024

#define VLANS 4096
#define MACS_MAX 64

/** Data queues are one group, the control queue is another. */
enum { GROUP_DATA, GROUP_CONTROL, GROUPS };

/** As many address spaces, and a reset puts all groups into the first. */
#define SPACES GROUPS

/**
 * Queue - what it was told, and its ring
 * @num, @base, @addr, @kick, @call, @enabled: until the next reset; the two
 *     descriptors are ours, -1 if there is none
 * @on: it has a ring
 * @look: something may be in the ring; a device looks for no other reason
 * @moved: requests since it is on
 */
typedef struct Queue {
    uint16_t num;
    uint32_t base;
    struct vhost_vring_addr addr;
    int kick;
    int call;
    bool enabled;
    bool on;
    bool look;
    MockDevice ring;
    uint64_t moved;
} Queue;

/**
 * Macs - one half of the filter table
 */
typedef struct Macs {
    unsigned num;
    uint8_t mac[MACS_MAX][6];
} Macs;

/**
 * NetState - all that control commands set
 * @pairs: of data queues that carry frames
 * @rx: by command of class VIRTIO_NET_CTRL_RX
 */
typedef struct NetState {
    uint8_t mac[6];
    uint16_t pairs;
    uint8_t rx[VIRTIO_NET_CTRL_RX_NOBCAST + 1];
    Macs unicast;
    Macs multicast;
    DECLARE_BITMAP(vlans, VLANS);
    uint64_t offloads;
} NetState;

/**
 * Device - one of them
 * @maps: of an address space: vhost_iotlb_msg, which do not overlap
 * @in_batch, @batch_space: of messages about memory
 */
typedef struct Device {
    unsigned number;
    uint64_t offered;
    uint64_t features;
    uint64_t backend_features;
    uint8_t status;
    bool suspended;
    struct virtio_net_config config;
    unsigned pairs_max;
    unsigned space[GROUPS];
    GArray *maps[SPACES];
    bool in_batch;
    unsigned batch_space;
    Queue queue[QUEUES_MAX];
    NetState net;
} Device;

/** A line in the log. */
void device_log(const Device *d, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static inline bool has_feature(const Device *d, unsigned bit)
{
    return d->features & BIT_ULL(bit);
}

static inline unsigned num_queues(const Device *d)
{
    return 2 * d->pairs_max + 1;
}

/** Behind all data queues that the driver knows of. */
static inline unsigned control_queue(const Device *d)
{
    return has_feature(d, VIRTIO_NET_F_MQ) ? 2 * d->pairs_max : 2;
}

/* vdpa-inside-requests.c: each returns as the call of libc does */

int serve_request(Device *d, uint32_t request, void *arg);
ssize_t serve_message(Device *d, const void *bytes, size_t size);

/* vdpa-inside-queue.c */

/** Returns: 0, or -1 with errno set and @d as before. */
int memory_message(Device *d, unsigned space, const struct vhost_iotlb_msg *m);

unsigned queue_group(const Device *d, unsigned index);

/** Copy between @bytes and the driver's buffers; aborts if one is not there. */
void read_buffers(Device *d, unsigned index, const MockRequest *request,
                  void *bytes, size_t size, size_t *done);
void write_buffers(Device *d, unsigned index, const MockRequest *request,
                   const void *bytes, size_t size);

/** Close @fd, unless it is -1, which it is afterwards. */
void close_fd(int *fd);

/** Turn on all queues that can be, after any request. */
void queues_look(Device *d);
void queue_off(Device *d, unsigned index);
void queues_reset(Device *d);

/** The ring, which must be where the driver has said. */
MockDevice *queue_ring(Device *d, unsigned index);

/** Show what was used, and call the driver if it wants that. */
void queue_call(Device *d, unsigned index);

/* vdpa-inside-net.c */

void net_init(Device *d, unsigned pairs, uint64_t ring_features);
void net_reset(Device *d);

/** Do all there is to do on queues that were kicked. */
void net_serve(Device *devices);

#endif /* TESTS_BACKENDS_VDPA_INSIDE_H */
