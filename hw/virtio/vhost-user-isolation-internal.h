/*
 * vhost-user memory isolation: what the control files share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H
#define HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H

#include "qemu/bitmap.h"
#include "qapi/qapi-types-virtio.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-user.h"
#include "hw/virtio/vhost-user-isolation.h"
#include "isolated-queue.h"
#include "vhost-user-isolation-features.h"
#include "vhost-user-transport.h"

/** Descriptors of a shadow ring at most: as many as a guest's ring has. */
#define ISOLATION_RING_MAX VIRTQUEUE_MAX_SIZE

/** ... and at least, when a backend refuses more */
#define ISOLATION_RING_MIN 16

/** Queues at most: SET_VRING_KICK and _CALL have eight bits for one. */
#define ISOLATION_MAX_QUEUES 256

/** Bytes of a queue's share if the user does not say; sparse. */
#define ISOLATION_DEFAULT_SHARE (64 * MiB)

/**
 * Bytes that a queue's share has at least: one request as Linux makes it by
 * default (1280 KiB), with its header and an indirect table.
 */
#define ISOLATION_MIN_SHARE (1536 * KiB)

/** Longest time that a backend may be given for one answer. */
#define ISOLATION_MAX_TIMEOUT_MS (10 * 60 * 1000)

/** Largest region. */
#define ISOLATION_MAX_SIZE (32 * GiB)

typedef struct IsolationIommu IsolationIommu;

/**
 * VirtIOIsolation - the guest's side of an isolated device
 *
 * Hangs off VirtIODevice: reset and VM state changes reach only that, also
 * while the backend is away.  BQL.
 *
 * @name: what messages call the device: its id, or its QOM path
 * @iso: the connection's side, or NULL: netdevs can go before their device
 * @iothreads: by queue index: where its data path runs, a reference of ours;
 *     NULL: in the main loop
 * @num_queues: queues of the device that a backend serves, from 0 on
 * @queues: one each
 * @started: queues that the device is using: between vhost_dev_start() and
 *     vhost_dev_stop()
 * @reported: queues whose fault was reported
 * @memory: pauses the data path while memory changes under it
 * @memory_watched: @memory is registered
 * @suspended: between @memory's begin and commit
 * @iotlb: what the device's IOMMU has said; NULL: the device has none
 * @iommus: those in its address space
 * @stale: the driver started the device before the IOMMU was there
 * @vm_state: a device can be started while the VM is paused
 * @vm_stopped: since then guest memory may not change
 * @faulted: reports what broke
 * @starved: makes room where requests of an earlier driver have it
 * @blocker: why the VM can be neither saved nor migrated, or NULL
 */
struct VirtIOIsolation {
    VirtIODevice *vdev;
    char *name;
    VhostUserIsolation *iso;
    IOThread **iothreads;
    unsigned num_queues;
    IsolatedQueue **queues;
    DECLARE_BITMAP(started, VIRTIO_QUEUE_MAX);
    DECLARE_BITMAP(reported, VIRTIO_QUEUE_MAX);
    MemoryListener memory;
    bool memory_watched;
    bool suspended;
    GuestIotlb *iotlb;
    QLIST_HEAD(, IsolationIommu) iommus;
    bool stale;
    VMChangeStateEntry *vm_state;
    bool vm_stopped;
    QEMUBH *faulted;
    QEMUBH *starved;
    Error *blocker;
};

/**
 * IsolationConnectionState - what a backend knows, and what can be asked of it
 *
 * NONE     no vhost_dev.  There may be a socket that nobody has used.
 *              isolation_connection_begin() -> GREETED
 * GREETED  its first vhost_dev is being made, or is there.  Features may be
 *          asked for again, also when there is no guest yet.
 *              isolation_connection_choose() -> CHOSEN
 * CHOSEN   the shadow rings' format and features are fixed, whatever guest
 *          comes.
 *              isolation_connection_share() -> SHARED
 * SHARED   the backend has the region.  Rings can be started and stopped.
 * LOST     nobody knows what the backend has fetched, or it has broken a ring
 *          or a rule.  Nothing is sent any more; the socket closes as soon as
 *          the stack is unwound.
 *
 * From each but NONE: isolation_connection_lose() -> LOST (and LOST stays),
 * isolation_connection_end() -> NONE, when the last vhost_dev goes or the next
 * connection begins.  All with the BQL held.
 */
typedef enum IsolationConnectionState {
    ISOLATION_CONNECTION_NONE,
    ISOLATION_CONNECTION_GREETED,
    ISOLATION_CONNECTION_CHOSEN,
    ISOLATION_CONNECTION_SHARED,
    ISOLATION_CONNECTION_LOST,
    ISOLATION_CONNECTION__MAX
} IsolationConnectionState;

/**
 * IsolationRingState - what the backend was told of one ring
 *
 * IDLE      nothing since it last stopped.
 *               op_set_vring_kick() -> TOLD
 * TOLD      size, base, place, and both notifiers.
 *               isolation_connection_ring_started() -> STARTED
 *               op_get_vring_base() -> IDLE
 * STARTED   its queue was handed to its owner.
 *               op_dev_start() -> STOPPING
 * STOPPING  the owner is gone; GET_VRING_BASE is still to come.
 *               op_get_vring_base() -> IDLE
 *
 * The end of the connection and a reset of a device that was not stopped make
 * them IDLE.
 */
typedef enum IsolationRingState {
    ISOLATION_RING_IDLE,
    ISOLATION_RING_TOLD,
    ISOLATION_RING_STARTED,
    ISOLATION_RING_STOPPING,
} IsolationRingState;

/**
 * VhostUserIsolation - the connection's side of an isolated device
 *
 * Hangs off VhostUserState: all vhost_devs of a multiqueue device share it.
 * BQL.
 *
 * @user: what it hangs off
 * @iothreads: see VirtIOIsolation; references of its own
 * @guest: the guest's side, or NULL: netdevs are there before their device
 * @num_queues: see VirtIOIsolation
 * @transport: of all connections
 * @pace: of them
 * @ring_limit: descriptors of a ring that backends have not refused
 * @ring_taken: descriptors of a ring that one has started with
 * @ring_told: descriptors of a ring that this one was told, 0: none yet
 * @refused: a backend lacked what the user asked for
 * @seen: features that any backend has offered
 * @state: of this connection
 * @asked: what vhost-user has sent last
 * @channel: for the backend's own messages, or NULL
 * @config_changed: it says so, and was not asked since
 * @devs: this connection's vhost_devs, by their first queue
 * @offered: features that the backend of this connection offered
 * @ring_bits: those of them that the shadow rings use; from CHOSEN on
 * @region: what this connection's backend can map; NULL before its first start
 * @links: by queue index; NULL before its first start
 * @rings: by queue index
 */
struct VhostUserIsolation {
    VhostUserState *user;
    IOThread **iothreads;
    VirtIOIsolation *guest;
    unsigned num_queues;
    VhostUserTransport *transport;
    VhostUserPace *pace;
    uint16_t ring_limit;
    uint16_t ring_taken;
    uint16_t ring_told;
    bool refused;
    uint64_t seen;

    IsolationConnectionState state;
    VhostUserMessage asked;
    VhostUserChannel *channel;
    bool config_changed;
    struct vhost_dev *devs[ISOLATION_MAX_QUEUES];
    uint64_t offered;
    uint64_t ring_bits;
    BounceRegion *region;
    IsolatedLink *links[ISOLATION_MAX_QUEUES];
    IsolationRingState rings[ISOLATION_MAX_QUEUES];
};

/* vhost-user-isolation-policy.c.  BQL held. */

/** isolation_unregister() - @user goes; it may have gone before */
void isolation_unregister(VhostUserState *user);

/** isolation_next_state() - the one before @user, the newest first; NULL: none */
VhostUserState *isolation_next_state(VhostUserState *user);

/** isolation_note_device() - @vdev, which is being realized, uses @user */
void isolation_note_device(VhostUserState *user, VirtIODevice *vdev);

/** isolation_policy_iothread() - for devices that name none, or NULL */
IOThread *isolation_policy_iothread(void);

/* vhost-user-isolation-guest.c: ownership of the queues.  BQL held. */

/** isolation_guest_new() - the guest's side of @vdev, not started */
VirtIOIsolation *isolation_guest_new(VhostUserIsolation *iso,
                                     VirtIODevice *vdev);

/** isolation_guest_free() - @guest has no connection any more */
void isolation_guest_free(VirtIOIsolation *guest);

/**
 * isolation_iommu_watch() - before @guest->memory is registered
 * @guest: the device, plugged
 * @user: who looks at the guest, called with @guest
 */
void isolation_iommu_watch(VirtIOIsolation *guest, const GuestIotlbUser *user);

/** isolation_iommu_region_add() - for @memory of VirtIOIsolation */
void isolation_iommu_region_add(MemoryListener *listener,
                                MemoryRegionSection *section);

/** isolation_iommu_region_del() - for @memory of VirtIOIsolation */
void isolation_iommu_region_del(MemoryListener *listener,
                                MemoryRegionSection *section);

/**
 * isolation_iommu_changed() - guest memory has changed, or an IOMMU came or went
 * @guest: paused
 *
 * What was known is forgotten.  Where an IOMMU came, the addresses of a driver
 * that has started before may mean nothing now: firmware leaves devices so.
 * Queues are @stale then, until the driver kicks or starts anew.
 */
void isolation_iommu_changed(VirtIOIsolation *guest);

/**
 * isolation_iommu_stopped() - nothing is waited for
 * @guest: paused; what it has @started still tells what that was
 */
void isolation_iommu_stopped(VirtIOIsolation *guest);

/**
 * isolation_iommu_check_rings() - may the queues that do not run wait to do so?
 * @guest: the device
 *
 * Breaks those whose ring no IOMMU lets them reach.  The others have asked.
 */
void isolation_iommu_check_rings(VirtIOIsolation *guest);

/** isolation_guest_start() - queue @n goes through @link; it may run now */
void isolation_guest_start(VirtIOIsolation *guest, unsigned n,
                           IsolatedLink *link);

/** isolation_guest_run() - attach what is started, if the VM runs */
void isolation_guest_run(VirtIOIsolation *guest);

/** isolation_guest_pause() - detach everything; owners are gone afterwards */
void isolation_guest_pause(VirtIOIsolation *guest);

/**
 * isolation_guest_stop() - the device does not use its queues any more
 *
 * Waits for the backend, but not longer than a stop may take; all devices that
 * stop together share one such time.
 */
void isolation_guest_stop(VirtIOIsolation *guest);

/** isolation_guest_disconnect() - the links go; what is out is kept */
void isolation_guest_disconnect(VirtIOIsolation *guest);

/**
 * isolation_guest_out() - requests that a backend still has
 * @parked: count those too that wait for an event, maybe for ever
 */
unsigned isolation_guest_out(VirtIOIsolation *guest, bool parked);

/**
 * isolation_block_saving() - unless its chardev can connect again
 * @guest: new
 * @errp: set if QEMU runs with -only-migratable
 */
bool isolation_block_saving(VirtIOIsolation *guest, Error **errp);

/**
 * isolation_guest_save() - VirtIORingUserOps.save: leave what is out
 * @vdev: stopped
 * @errp: set if something would be lost
 *
 * If anything is out, its backend is disconnected first.
 */
bool isolation_guest_save(VirtIODevice *vdev, Error **errp);

/**
 * isolation_guest_load() - VirtIORingUserOps.load: take what was out
 * @vdev: its rings are loaded
 * @errp: set, and nothing is out, if that cannot be
 */
bool isolation_guest_load(VirtIODevice *vdev, Error **errp);

/** isolation_guest_crowded() - do orphans hold room that requests need? */
bool isolation_guest_crowded(VirtIOIsolation *guest);

/** isolation_guest_make_room() - renew the connection, which drops them */
void isolation_guest_make_room(VirtIOIsolation *guest);

/* vhost-user-isolation-fault.c */

/**
 * isolation_device_id() - what the user calls @vdev, or NULL
 *
 * With virtio-mmio that is its own id, else that of the device around it.
 */
const char *isolation_device_id(VirtIODevice *vdev);

/** isolation_queue_fault() - what QAPI calls it; not NONE */
VhostUserQueueFault isolation_queue_fault(IsolatedQueueFault fault);

/** isolation_guest_faulted() - report the next fault.  Bottom half. */
void isolation_guest_faulted(void *opaque);

/**
 * isolation_guest_report_late() - faults found while the driver resets
 */
void isolation_guest_report_late(VirtIOIsolation *guest);

/* vhost-user-isolation-connection.c.  BQL held. */

/**
 * isolation_connection_begin() - a backend is connected, and nothing is known
 * @iso: no vhost_dev of an earlier connection is left
 * @errp: set on failure
 */
bool isolation_connection_begin(VhostUserIsolation *iso, Error **errp);

/**
 * isolation_connection_choose() - fix what the shadow rings use
 * @version_1: whether the backend is told VERSION_1
 *
 * Only the first time on a connection.
 */
void isolation_connection_choose(VhostUserIsolation *iso, uint16_t device_id,
                                 bool version_1);

/**
 * isolation_connection_share() - send the region, once
 * @ack: wait until the backend has mapped it
 *
 * Returns: 0 or a negative error code; then the connection is lost.
 */
int isolation_connection_share(VhostUserIsolation *iso, bool ack);

/**
 * isolation_connection_link() - queue @n's link, made if need be
 *
 * Returns: NULL and *@errp on failure.
 */
IsolatedLink *isolation_connection_link(VhostUserIsolation *iso, unsigned n,
                                        Error **errp);

/** isolation_connection_layout() - queue @n's ring, from the region's start */
ShadowRingLayout isolation_connection_layout(const VhostUserIsolation *iso,
                                             unsigned n);

/**
 * isolation_connection_renew_ring() - queue @n's ring anew, empty, at base 0
 *
 * The backend has stopped it, and nobody waits for what was in it any more.
 */
void isolation_connection_renew_ring(VhostUserIsolation *iso, unsigned n);

/** isolation_connection_set_ring() - queue @n's ring gets from @from to @to */
void isolation_connection_set_ring(VhostUserIsolation *iso, unsigned n,
                                   IsolationRingState from,
                                   IsolationRingState to);

/** isolation_connection_rings_idle() - the backend's rings are all stopped */
void isolation_connection_rings_idle(VhostUserIsolation *iso);

/**
 * isolation_connection_tell_size() - SET_VRING_NUM for queue @n's ring
 * @ack: wait until the backend has taken it
 *
 * If it does not take it the next connection has shorter rings.
 *
 * Returns: 0 or a negative error code; then the connection is lost.
 */
int isolation_connection_tell_size(VhostUserIsolation *iso, unsigned n,
                                   bool ack);

/** isolation_connection_ring_started() - queue @n's ring is TOLD -> STARTED */
void isolation_connection_ring_started(VhostUserIsolation *iso, unsigned n);

/** isolation_connection_alive() - can the backend still answer? */
bool isolation_connection_alive(const VhostUserIsolation *iso);

/**
 * isolation_connection_lose() - nothing more can be done with this backend
 * @iso: any; nothing happens if there is no connection
 *
 * Its socket is closed from a bottom half.
 */
void isolation_connection_lose(VhostUserIsolation *iso);

/**
 * isolation_connection_end() - free all that it had, close the socket
 * @iso: the guest's queues use none of it any more
 */
void isolation_connection_end(VhostUserIsolation *iso);

/** isolation_check_size() - is the configured size enough for @num_queues? */
bool isolation_check_size(const VhostUserIsolationConfig *config,
                          unsigned num_queues, Error **errp);

/* vhost-user-isolation-config.c */

/** isolation_check_config() - can @config be had, for @num_queues? */
bool isolation_check_config(const VhostUserIsolationConfig *config,
                            unsigned num_queues, Error **errp);

/**
 * isolation_iothreads_new() - who carries the requests of each queue
 * @config: checked
 * @errp: set if its iothread-vq-mapping is none
 *
 * Returns: @num_queues references, some or all of them NULL; to be freed with
 * isolation_iothreads_free().  NULL on failure.
 */
IOThread **isolation_iothreads_new(const VhostUserIsolationConfig *config,
                                   unsigned num_queues, Error **errp);

/** isolation_iothreads_ref() - @num references more to @iothreads */
IOThread **isolation_iothreads_ref(IOThread *const *iothreads, unsigned num);

/** isolation_iothreads_free() - let go of @num references; NULL is none */
void isolation_iothreads_free(IOThread **iothreads, unsigned num);

/* vhost-user-isolation-query.c */

/** isolation_get_stats() - ObjectPropertyAccessor of a VirtIOIsolation */
void isolation_get_stats(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp);

/* vhost-user-isolation-rings.c: entries of VhostOps.  BQL held. */

int isolation_op_set_vring_num(struct vhost_dev *dev,
                               struct vhost_vring_state *ring);
int isolation_op_set_vring_base(struct vhost_dev *dev,
                                struct vhost_vring_state *ring);
int isolation_op_set_vring_addr(struct vhost_dev *dev,
                                struct vhost_vring_addr *addr);
int isolation_op_set_vring_kick(struct vhost_dev *dev,
                                struct vhost_vring_file *file);
int isolation_op_set_vring_call(struct vhost_dev *dev,
                                struct vhost_vring_file *file);
int isolation_op_set_vring_enable(struct vhost_dev *dev, int enable);
int isolation_op_dev_start(struct vhost_dev *dev, bool started);
int isolation_op_get_vring_base(struct vhost_dev *dev,
                                struct vhost_vring_state *ring);
int isolation_op_reset_device(struct vhost_dev *dev);
void isolation_op_reset_status(struct vhost_dev *dev);

/* vhost-user-isolation.c */

/**
 * isolation_release_devs() - let vhost_devs go that will be cleaned up later
 *
 * Net cleans up those of the connection before when it has made the new ones,
 * and of a netdev that goes, all but the first after its VhostUserState.
 * There is nothing left of them that isolation would have to clean up.
 */
void isolation_release_devs(VhostUserIsolation *iso);

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_INTERNAL_H */
