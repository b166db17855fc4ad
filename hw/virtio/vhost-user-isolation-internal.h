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

/** Descriptors of a shadow ring at most: as many as a guest's ring has. */
#define ISOLATION_RING_SIZE VIRTQUEUE_MAX_SIZE

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
 * @iso: the connection's side, or NULL: netdevs can go before their device
 * @iothread: where the data path runs; a reference of ours
 * @num_queues: queues of the device that a backend serves, from 0 on
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
    VhostUserIsolation *iso;
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
 * @user: what it hangs off
 * @iothread: where the data path runs; a reference of ours
 * @guest: the guest's side, or NULL: netdevs are there before their device
 * @num_queues: see VirtIOIsolation
 * @devs: this connection's vhost_devs, by their first queue
 * @offered: features that the backend of this connection offered
 * @ring_bits: those of them that the shadow rings use
 * @rings_chosen: so they are, for as long as the connection lives
 * @region: what this connection's backend can map; NULL before its first start
 * @table_sent: the backend has it
 * @spent: it had one, and its vhost_devs are gone
 * @lost: nobody knows what the backend has fetched
 * @links: by queue index; NULL before its first start
 * @prepared: queues whose rings the backend was told, not started yet
 * @stopping: queues whose GET_VRING_BASE is still to come
 */
struct VhostUserIsolation {
    VhostUserState *user;
    IOThread *iothread;
    VirtIOIsolation *guest;
    unsigned num_queues;
    struct vhost_dev *devs[VIRTIO_QUEUE_MAX];
    uint64_t offered;
    uint64_t ring_bits;
    bool rings_chosen;
    BounceRegion *region;
    bool table_sent;
    bool spent;
    bool lost;
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

/**
 * isolation_guest_out() - requests that a backend still has
 * @parked: count those too that wait for an event, maybe for ever
 */
unsigned isolation_guest_out(VirtIOIsolation *guest, bool parked);

/** isolation_guest_faulted() - report what broke; a QEMUBHFunc */
void isolation_guest_faulted(void *opaque);

/** isolation_guest_vm_state() - a VMChangeStateHandler */
void isolation_guest_vm_state(void *opaque, bool running, RunState state);

/* vhost-user-isolation-link.c: region and links of a connection.  BQL held. */

/**
 * isolation_region_get() - this connection's region, made if need be
 *
 * Returns: NULL and *@errp on failure.
 */
BounceRegion *isolation_region_get(VhostUserIsolation *iso, Error **errp);

/**
 * isolation_link_renew() - queue @n's ring anew, empty, at base 0
 *
 * The backend has stopped it, and nobody waits for what was in it any more.
 */
void isolation_link_renew(VhostUserIsolation *iso, unsigned n);

/** isolation_link_get() - queue @n's link; the region is there */
IsolatedLink *isolation_link_get(VhostUserIsolation *iso, unsigned n,
                                 Error **errp);

/** isolation_link_layout() - queue @n's ring, from the region's start */
ShadowRingLayout isolation_link_layout(const VhostUserIsolation *iso,
                                       unsigned n);

/** isolation_connected() - can the backend still answer? */
bool isolation_connected(const VhostUserIsolation *iso);

/** isolation_disconnect() - close the socket, if it is open */
void isolation_disconnect(VhostUserIsolation *iso);

/** isolation_connection_drop() - the connection is gone, and all it had */
void isolation_connection_drop(VhostUserIsolation *iso);

/**
 * isolation_guest_leave() - part the guest's side from the connection's
 *
 * The connection goes on if it is none the worse for it.
 */
void isolation_guest_leave(VirtIOIsolation *guest);

/** isolation_check_size() - is the configured size enough for @num_queues? */
bool isolation_check_size(const VhostUserIsolationConfig *config,
                          unsigned num_queues, Error **errp);

/* vhost-user-isolation.c */

/**
 * isolation_release_devs() - let vhost_devs go that will be cleaned up later
 *
 * Net cleans up those of the connection before when it has made the new ones,
 * and of a netdev that goes, all but the first after its VhostUserState.
 * There is nothing left of them that isolation would have to clean up.
 */
void isolation_release_devs(VhostUserIsolation *iso);

/* vhost-user-isolation-realize.c */

/** isolation_check_config() - can @config be had, for @num_queues? */
bool isolation_check_config(const VhostUserIsolationConfig *config,
                            unsigned num_queues, Error **errp);

/* vhost-user-isolation-features.c: pure. */

/** isolation_guest_features() - what the guest may be offered */
uint64_t isolation_guest_features(uint64_t offered);

/**
 * isolation_device_features() - see vhost_user_isolation_features()
 * @wanted: what the device's properties ask for
 * @features: what device and backend have
 */
uint64_t isolation_device_features(uint64_t wanted, uint64_t features);

/**
 * isolation_check_pins() - does the backend have what the user pins?
 * @config: what the user asked for
 * @offered: what the backend offered
 */
bool isolation_check_pins(const VhostUserIsolationConfig *config,
                          uint64_t offered, Error **errp);

/**
 * isolation_ring_features() - what the shadow rings use
 * @config: what the user asked for
 * @device_id: virtio device type
 * @offered: what the backend offered
 * @version_1: whether the backend is told VERSION_1, without which there are
 *     no packed rings
 */
uint64_t isolation_ring_features(const VhostUserIsolationConfig *config,
                                 uint16_t device_id, uint64_t offered,
                                 bool version_1);

/**
 * isolation_payload_features() - what the backend is told about the payload
 * @device_id: virtio device type
 * @acked: what the guest acknowledged
 * @offered: what the backend offered
 */
uint64_t isolation_payload_features(uint16_t device_id, uint64_t acked,
                                    uint64_t offered);

/** isolation_refused() - why a device type cannot be isolated, or NULL */
const char *isolation_refused(uint16_t device_id);

/** isolation_queue_merges() - does a completion consist of several requests? */
bool isolation_queue_merges(uint16_t device_id, unsigned n);

/** isolation_queue_parks() - do its requests stay out by design? */
bool isolation_queue_parks(uint16_t device_id, unsigned n);

/** isolation_lengths_lie() - do backends of this type report too little? */
bool isolation_lengths_lie(uint16_t device_id);

/* vhost-user-isolation-query.c */

/** isolation_add_stats() - the property memory-isolation-stats of @guest */
void isolation_add_stats(VirtIOIsolation *guest);

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H */
