/*
 * vhost-user memory isolation: what QEMU's own files ask and call.
 *
 * With memory-isolation=on a vhost-user backend maps one small region instead
 * of the guest's RAM, and QEMU carries every request across.  This is the only
 * header of the subsystem that files outside it include.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_ISOLATION_H
#define HW_VIRTIO_VHOST_USER_ISOLATION_H

#include "qapi/qapi-types-common.h"
#include "system/iothread.h"

typedef struct VhostUserIsolation VhostUserIsolation;
typedef struct VhostUserState VhostUserState;
typedef struct VirtIODevice VirtIODevice;
typedef struct VirtIOIsolation VirtIOIsolation;
struct vhost_dev;

/** memory-isolation-stop-ms if the user does not say */
#define ISOLATION_DEFAULT_STOP_MS 2000

/**
 * VhostUserIsolationConfig - what the user asked for
 * @enabled: memory-isolation
 * @size: memory-isolation-size, bytes of the whole region; 0: choose
 * @stop_ms: memory-isolation-stop-ms, how long a stop waits for requests
 * @scrub: memory-isolation-scrub
 * @copy_all: memory-isolation-copy-all, whatever used.len says
 * @packed: memory-isolation-packed, format of the shadow rings
 * @event_idx: memory-isolation-event-idx, feature of the shadow rings
 * @indirect: memory-isolation-indirect, feature of the shadow rings
 * @iothread: where the data path runs; NULL: main loop
 *
 * Fixed once the device is realized, or the netdev or object is made.
 */
typedef struct VhostUserIsolationConfig {
    bool enabled;
    bool scrub;
    bool copy_all;
    uint32_t stop_ms;
    uint64_t size;
    OnOffAuto packed;
    OnOffAuto event_idx;
    OnOffAuto indirect;
    IOThread *iothread;
} VhostUserIsolationConfig;

/* A list in a macro's value looks like comma operators to checkpatch.pl. */
#define VHOST_USER_ISOLATION_LIST(...) __VA_ARGS__

/**
 * DEFINE_VHOST_USER_ISOLATION_PROPERTIES() - the properties of a device
 * @_state: the device's struct
 * @_field: its VhostUserState
 */
#define DEFINE_VHOST_USER_ISOLATION_PROPERTIES(_state, _field)              \
    VHOST_USER_ISOLATION_LIST(                                              \
        DEFINE_PROP_BOOL("memory-isolation", _state,                        \
                         _field.isolation_config.enabled, false),           \
        DEFINE_PROP_SIZE("memory-isolation-size", _state,                   \
                         _field.isolation_config.size, 0),                  \
        DEFINE_PROP_UINT32("memory-isolation-stop-ms", _state,              \
                           _field.isolation_config.stop_ms,                 \
                           ISOLATION_DEFAULT_STOP_MS),                      \
        DEFINE_PROP_BOOL("memory-isolation-scrub", _state,                  \
                         _field.isolation_config.scrub, true),              \
        DEFINE_PROP_BOOL("memory-isolation-copy-all", _state,               \
                         _field.isolation_config.copy_all, false),          \
        DEFINE_PROP_ON_OFF_AUTO("memory-isolation-packed", _state,          \
                                _field.isolation_config.packed,             \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_ON_OFF_AUTO("memory-isolation-event-idx", _state,       \
                                _field.isolation_config.event_idx,          \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_ON_OFF_AUTO("memory-isolation-indirect", _state,        \
                                _field.isolation_config.indirect,           \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_LINK("iothread", _state,                                \
                         _field.isolation_config.iothread,                  \
                         TYPE_IOTHREAD, IOThread *))

#ifdef CONFIG_VHOST_USER

/**
 * vhost_user_isolation_possible() - can this type of device be isolated?
 * @enabled: memory-isolation; if it is off, nothing is said against it
 * @device_id: virtio device type
 * @name: what the message calls it
 * @errp: set if not
 */
bool vhost_user_isolation_possible(bool enabled, uint16_t device_id,
                                   const char *name, Error **errp);

/**
 * vhost_user_isolation_config_init() - what holds if the user says nothing
 * @config: set
 *
 * For what has no qdev properties, which set the same.
 */
void vhost_user_isolation_config_init(VhostUserIsolationConfig *config);

/**
 * vhost_user_isolation_configure() - take a configuration from QAPI
 * @config: set
 * @options: what the user asked for
 * @num_queues: of the device, from queue 0 on, that the backend serves
 * @errp: set on failure; names the option and the way out
 */
bool vhost_user_isolation_configure(VhostUserIsolationConfig *config,
                                    const VhostUserIsolationOptions *options,
                                    unsigned num_queues, Error **errp);

/**
 * vhost_user_isolation_add_properties() - the properties, for a class that is
 * not a device
 * @oc: the class
 * @state_offset: of its VhostUserState, in bytes from the object
 *
 * They can be set until vhost_user_init().
 */
void vhost_user_isolation_add_properties(ObjectClass *oc, size_t state_offset);

/**
 * vhost_user_isolation_init() - make the connection's side
 * @user: its vhost-user state, with the configuration
 * @num_queues: of the device, from queue 0 on, that the backend serves
 * @errp: set on failure; names the property and the way out
 *
 * For what exists before there is a device: netdev and cryptodev.  Does
 * nothing if isolation is off.  vhost_user_cleanup() frees it.  BQL held.
 */
bool vhost_user_isolation_init(VhostUserState *user, unsigned num_queues,
                               Error **errp);

/**
 * vhost_user_isolation_attach() - make the guest's side
 * @user: after vhost_user_isolation_init()
 * @vdev: the device, after virtio_add_queue()
 * @errp: set on failure
 *
 * Does nothing if isolation is off.  virtio_cleanup() frees it.  BQL held.
 */
bool vhost_user_isolation_attach(VhostUserState *user, VirtIODevice *vdev,
                                 Error **errp);

/**
 * vhost_user_isolation_realize() - make both sides of an isolated device
 * @user: its vhost-user state, with the configuration
 * @vdev: after virtio_add_queue() for all its queues, before vhost_dev_init()
 * @errp: set on failure; names the property and the way out
 *
 * Does nothing if isolation is off.  BQL held.
 */
bool vhost_user_isolation_realize(VhostUserState *user, VirtIODevice *vdev,
                                  Error **errp);

/**
 * vhost_user_isolation_cleanup() - free the connection's side
 * @user: its vhost_devs are gone; nothing happens if it is not isolated
 *
 * The device may still be there; it goes without from now on.  BQL held.
 */
void vhost_user_isolation_cleanup(VhostUserState *user);

/**
 * vhost_user_isolation_unrealize() - free the guest's side
 * @vdev: stopped; nothing happens if it is not isolated
 *
 * The connection may still be there, for the next device.  BQL held.
 */
void vhost_user_isolation_unrealize(VirtIODevice *vdev);

/**
 * vhost_user_isolation_reset() - the guest has reset the device
 * @vdev: any; before its queues are cleared.  BQL held.
 *
 * After it has returned, no byte of guest RAM changes on behalf of requests
 * made before.
 */
void vhost_user_isolation_reset(VirtIODevice *vdev);

/**
 * vhost_user_isolation_can_save() - is nothing out that a stream would lose?
 * @vdev: any, stopped
 *
 * Returns: false, after an error message, if the backend has kept requests
 * longer than the stop waited for them.
 */
bool vhost_user_isolation_can_save(VirtIODevice *vdev);

/**
 * vhost_user_isolation_uses_ring() - is the queue's ring being processed?
 * @vdev: any
 * @n: queue, or -1 for any of them
 *
 * Or does it still have requests of the guest that have not come back?  Its
 * size, addresses and features must stay as they are until the device is
 * stopped, whatever the guest writes: virtio 1.2, 4.1.4.3.2 forbids it to.
 */
bool vhost_user_isolation_uses_ring(VirtIODevice *vdev, int n);

/**
 * vhost_user_isolated() - does @dev keep guest RAM from its backend?
 * @dev: initialized or not
 */
bool vhost_user_isolated(const struct vhost_dev *dev);

/**
 * vhost_user_isolation_init_dev() - put isolation between @dev and its backend
 * @dev: connected, at the end of vhost-user's backend_init
 * @user: @dev's state; nothing happens if it is not isolated
 *
 * The vhost_dev with queue 0 is the first on a new connection.
 *
 * Returns: true if @dev is isolated.
 */
bool vhost_user_isolation_init_dev(struct vhost_dev *dev,
                                   VhostUserState *user);

/**
 * vhost_user_isolation_features() - which of them may the guest be offered?
 * @dev: any; unchanged if it is not isolated
 * @wanted: what the device's properties ask for
 * @features: what device and backend have
 *
 * Ring and transport bits follow @wanted, so far as QEMU implements them; the
 * others are left as they are.
 */
uint64_t vhost_user_isolation_features(const struct vhost_dev *dev,
                                       uint64_t wanted, uint64_t features);

/**
 * vhost_user_isolation_protocol_features() - which of them may be used
 * @user: any; unchanged if it is not isolated
 * @features: what the backend offers
 */
uint64_t vhost_user_isolation_protocol_features(const VhostUserState *user,
                                                uint64_t features);

#else /* !CONFIG_VHOST_USER */

static inline void vhost_user_isolation_unrealize(VirtIODevice *vdev)
{
}

static inline void vhost_user_isolation_reset(VirtIODevice *vdev)
{
}

static inline bool vhost_user_isolation_can_save(VirtIODevice *vdev)
{
    return true;
}

static inline bool vhost_user_isolation_uses_ring(VirtIODevice *vdev, int n)
{
    return false;
}

static inline bool vhost_user_isolated(const struct vhost_dev *dev)
{
    return false;
}

static inline uint64_t
vhost_user_isolation_features(const struct vhost_dev *dev, uint64_t wanted,
                              uint64_t features)
{
    return features;
}

#endif /* CONFIG_VHOST_USER */

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_H */
