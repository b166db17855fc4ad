/*
 * vhost-user memory isolation: what the control files share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H
#define HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H

#include "qemu/bitmap.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-user.h"
#include "hw/virtio/vhost-user-isolation.h"
#include "isolated-queue.h"

/** Descriptors of a shadow ring, whatever size the guest's ring has. */
#define ISOLATION_RING_SIZE 1024

/** Bytes of a queue's share if the user does not say; sparse. */
#define ISOLATION_DEFAULT_SHARE (64 * MiB)

/**
 * Bytes that a queue's share has at least: one request as Linux makes it by
 * default (1280 KiB), with its header and an indirect table.
 */
#define ISOLATION_MIN_SHARE (1536 * KiB)

/** Largest region. */
#define ISOLATION_MAX_SIZE (32 * GiB)

/**
 * VirtIOIsolation - the guest's side of an isolated device
 *
 * Hangs off VirtIODevice: reset and VM state changes reach only that, also
 * while the backend is away.  BQL.
 *
 * @name: what messages call the device: its id, or its QOM path
 * @user: the connection's side, which is there as long as this
 * @num_queues: queues of the device, from 0 on
 * @queues: one each
 * @started: queues that the device is using: between vhost_dev_start() and
 *     vhost_dev_stop()
 * @reported: queues whose fault was reported
 * @memory: pauses the data path while memory changes under it
 * @memory_watched: @memory is registered
 * @suspended: between @memory's begin and commit
 * @vm_state: a device can be started while the VM is paused
 * @vm_stopped: since then guest memory may not change
 * @faulted: reports what broke
 */
struct VirtIOIsolation {
    VirtIODevice *vdev;
    char *name;
    VhostUserState *user;
    IOThread *iothread;
    unsigned num_queues;
    IsolatedQueue **queues;
    DECLARE_BITMAP(started, VIRTIO_QUEUE_MAX);
    DECLARE_BITMAP(reported, VIRTIO_QUEUE_MAX);
    MemoryListener memory;
    bool memory_watched;
    bool suspended;
    VMChangeStateEntry *vm_state;
    bool vm_stopped;
    QEMUBH *faulted;
};

/**
 * VhostUserIsolation - the connection's side of an isolated device
 *
 * Hangs off VhostUserState: all vhost_devs of a multiqueue device share it.
 * BQL.
 *
 * @guest: the guest's side
 * @num_devs: vhost_devs of the device that are initialized
 * @offered: features that the backend of this connection offered
 * @region: what this connection's backend can map; NULL before its first start
 * @table_sent: the backend has it
 * @links: by queue index; NULL before its first start
 * @prepared: queues whose rings the backend was told, not started yet
 * @stopping: queues whose GET_VRING_BASE is still to come
 */
struct VhostUserIsolation {
    VirtIOIsolation *guest;
    unsigned num_devs;
    uint64_t offered;
    BounceRegion *region;
    bool table_sent;
    IsolatedLink *links[VIRTIO_QUEUE_MAX];
    DECLARE_BITMAP(prepared, VIRTIO_QUEUE_MAX);
    DECLARE_BITMAP(stopping, VIRTIO_QUEUE_MAX);
};

/* vhost-user-isolation-guest.c: ownership of the queues.  BQL held. */

/** isolation_guest_start() - queue @n goes through @link; it may run now */
void isolation_guest_start(VirtIOIsolation *guest, unsigned n,
                           IsolatedLink *link);

/** isolation_guest_run() - attach what is started, if the VM runs */
void isolation_guest_run(VirtIOIsolation *guest);

/** isolation_guest_pause() - detach everything; owners are gone afterwards */
void isolation_guest_pause(VirtIOIsolation *guest);

/** isolation_guest_drain() - wait for the backend, @ms at most in all */
void isolation_guest_drain(VirtIOIsolation *guest, uint32_t ms);

/** isolation_guest_out() - requests that a backend still has */
unsigned isolation_guest_out(VirtIOIsolation *guest);

/* vhost-user-isolation-link.c: region and links of a connection.  BQL held. */

/**
 * isolation_region_get() - this connection's region, made if need be
 *
 * Returns: NULL and *@errp on failure.
 */
BounceRegion *isolation_region_get(VhostUserIsolation *iso, Error **errp);

/** isolation_link_get() - queue @n's link; the region is there */
IsolatedLink *isolation_link_get(VhostUserIsolation *iso, unsigned n,
                                 Error **errp);

/** isolation_link_layout() - queue @n's ring, from the region's start */
ShadowRingLayout isolation_link_layout(unsigned n);

/** isolation_connection_drop() - the connection is gone, and all it had */
void isolation_connection_drop(VhostUserIsolation *iso);

/** isolation_check_size() - is the configured size enough for @num_queues? */
bool isolation_check_size(const VhostUserIsolationConfig *config,
                          unsigned num_queues, Error **errp);

/* vhost-user-isolation-features.c: pure. */

/** isolation_guest_features() - what the guest may be offered */
uint64_t isolation_guest_features(uint64_t offered);

/**
 * isolation_backend_features() - what the backend is told
 * @device_id: virtio device type
 * @acked: what the guest acknowledged
 * @offered: what the backend offered
 */
uint64_t isolation_backend_features(uint16_t device_id, uint64_t acked,
                                    uint64_t offered);

/** isolation_refused() - why a device type cannot be isolated, or NULL */
const char *isolation_refused(uint16_t device_id);

/* vhost-user-isolation-query.c */

/** isolation_add_stats() - the property memory-isolation-stats of @guest */
void isolation_add_stats(VirtIOIsolation *guest);

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H */
