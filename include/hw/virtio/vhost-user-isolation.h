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
#include "qapi/qapi-types-virtio.h"
#include "hw/qdev-properties-system.h"
#include "system/iothread.h"

typedef struct VhostUserIsolation VhostUserIsolation;
typedef struct VhostUserState VhostUserState;
typedef struct VirtIODevice VirtIODevice;
typedef struct VirtIOIsolation VirtIOIsolation;
struct vhost_dev;

/** memory-isolation-stop-ms if the user does not say */
#define ISOLATION_DEFAULT_STOP_MS 2000

/** memory-isolation-timeout-ms if the user does not say */
#define ISOLATION_DEFAULT_TIMEOUT_MS 5000

/**
 * VhostUserIsolationConfig - what the user asked for
 * @asked: memory-isolation; AUTO: what the VM's policy says
 * @enabled: the device is isolated; from vhost_user_isolation_decide() on
 * @decided: vhost_user_isolation_decide() was there
 * @by_policy: and it asked the VM's policy
 * @size: memory-isolation-size, bytes of the whole region; 0: choose
 * @stop_ms: memory-isolation-stop-ms, how long a stop waits for requests
 * @timeout_ms: memory-isolation-timeout-ms, how long one answer may take
 * @ring_size: memory-isolation-ring-size, descriptors; 0: choose
 * @scrub: memory-isolation-scrub
 * @trim: memory-isolation-trim
 * @wipe: memory-isolation-wipe
 * @copy_all: x-memory-isolation-copy-all, whatever used.len says
 * @packed: x-memory-isolation-packed, format of the shadow rings
 * @event_idx: x-memory-isolation-event-idx, feature of the shadow rings
 * @indirect: x-memory-isolation-indirect, feature of the shadow rings
 * @kick_aio: x-memory-isolation-kick-aio, insist on kicks that cannot block
 * @iothread: where the data path runs; NULL: where the VM's policy says, or
 *     else in the main loop
 * @iothread_vq_mapping: the same, for each queue; not together with @iothread
 * @iothreads: the same, for queue pairs in turn: ids, NULL if not said.  Whose
 *     they are keeps them until vhost_user_isolation_init()
 *
 * Fixed once the device is realized, or the netdev or object is made.
 */
typedef struct VhostUserIsolationConfig {
    OnOffAuto asked;
    bool enabled;
    bool decided;
    bool by_policy;
    bool scrub;
    bool trim;
    bool wipe;
    bool copy_all;
    bool kick_aio;
    uint16_t ring_size;
    uint32_t stop_ms;
    uint32_t timeout_ms;
    uint64_t size;
    OnOffAuto packed;
    OnOffAuto event_idx;
    OnOffAuto indirect;
    IOThread *iothread;
    IOThreadVirtQueueMappingList *iothread_vq_mapping;
    const strList *iothreads;
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
        DEFINE_PROP_ON_OFF_AUTO("memory-isolation", _state,                 \
                                _field.isolation_config.asked,              \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_SIZE("memory-isolation-size", _state,                   \
                         _field.isolation_config.size, 0),                  \
        DEFINE_PROP_UINT32("memory-isolation-stop-ms", _state,              \
                           _field.isolation_config.stop_ms,                 \
                           ISOLATION_DEFAULT_STOP_MS),                      \
        DEFINE_PROP_UINT32("memory-isolation-timeout-ms", _state,           \
                           _field.isolation_config.timeout_ms,              \
                           ISOLATION_DEFAULT_TIMEOUT_MS),                   \
        DEFINE_PROP_UINT16("memory-isolation-ring-size", _state,            \
                           _field.isolation_config.ring_size, 0),           \
        DEFINE_PROP_BOOL("memory-isolation-scrub", _state,                  \
                         _field.isolation_config.scrub, true),              \
        DEFINE_PROP_BOOL("memory-isolation-trim", _state,                   \
                         _field.isolation_config.trim, false),              \
        DEFINE_PROP_BOOL("memory-isolation-wipe", _state,                   \
                         _field.isolation_config.wipe, false),              \
        DEFINE_PROP_BOOL("x-memory-isolation-copy-all", _state,             \
                         _field.isolation_config.copy_all, false),          \
        DEFINE_PROP_ON_OFF_AUTO("x-memory-isolation-packed", _state,        \
                                _field.isolation_config.packed,             \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_ON_OFF_AUTO("x-memory-isolation-event-idx", _state,     \
                                _field.isolation_config.event_idx,          \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_ON_OFF_AUTO("x-memory-isolation-indirect", _state,      \
                                _field.isolation_config.indirect,           \
                                ON_OFF_AUTO_AUTO),                          \
        DEFINE_PROP_BOOL("x-memory-isolation-kick-aio", _state,             \
                         _field.isolation_config.kick_aio, false),          \
        DEFINE_PROP_LINK("iothread", _state,                                \
                         _field.isolation_config.iothread,                  \
                         TYPE_IOTHREAD, IOThread *),                        \
        DEFINE_PROP_IOTHREAD_VQ_MAPPING_LIST("iothread-vq-mapping", _state, \
            _field.isolation_config.iothread_vq_mapping))

/**
 * vhost_user_isolation_register() - there is one more vhost-user device
 * @user: new; not decided whether it is isolated
 *
 * vhost_user_isolation_cleanup() undoes it.  BQL held.
 */
void vhost_user_isolation_register(VhostUserState *user);

/**
 * vhost_user_isolation_decide() - is a device isolated?
 * @config: what the user asked for; @config->enabled is set
 * @device_id: virtio device type
 * @name: what messages call it
 * @errp: set if neither yes nor no is allowed; names the way out
 *
 * Asks the VM's policy, if it has one.  Once for each device, before
 * vhost_user_isolation_init().  BQL held.
 */
bool vhost_user_isolation_decide(VhostUserIsolationConfig *config,
                                 uint16_t device_id, const char *name,
                                 Error **errp);

/**
 * vhost_user_isolation_may_share() - may guest RAM be sent to a backend?
 * @user: any
 * @errp: set if not
 *
 * The last to ask, where a descriptor of it would leave QEMU, and the first,
 * where a backend is greeted.  Devices that were refused before do not get
 * here: this is for those that nobody thought of.  BQL held.
 */
bool vhost_user_isolation_may_share(const VhostUserState *user, Error **errp);

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
 *
 * For netdevs; decides whether it is isolated, too.
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
 * @user: its vhost-user state, with the configuration, which is decided
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
 * If isolation is off, all that happens is that the device is known to
 * query-vhost-user-isolation.  virtio_cleanup() frees it.  BQL held.
 */
bool vhost_user_isolation_attach(VhostUserState *user, VirtIODevice *vdev,
                                 Error **errp);

/**
 * vhost_user_isolation_dial() - wait for the backend's connection
 * @user: any; nothing happens if it is not isolated
 * @errp: set on failure; names the way out
 *
 * A machine that runs is not kept waiting for long.  BQL held.
 */
bool vhost_user_isolation_dial(VhostUserState *user, Error **errp);

/**
 * vhost_user_isolation_rests() - a backend has connected: not to be used yet?
 * @user: any; false if it is not isolated
 *
 * Asked at each CHR_EVENT_OPENED, before anything is done: each connection can
 * cost lines of the log, and the backend makes as many as it likes.  If true
 * the event comes again.  BQL held.
 */
bool vhost_user_isolation_rests(VhostUserState *user);

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
 * @user: its vhost_devs are gone
 *
 * If it is isolated, the device may still be there; it goes without from now
 * on.  Nobody listens to the chardev any more: it is disconnected.  BQL held.
 */
void vhost_user_isolation_cleanup(VhostUserState *user);

/**
 * vhost_user_isolation_connect() - @dev begins to talk to its backend
 * @dev: before its first message
 * @user: its state; if it is not isolated this only asks whether it may be so
 * @errp: set on failure
 *
 * The vhost_dev with queue 0 is the first on a new connection.  Gives @dev the
 * operations of an isolated device.
 */
bool vhost_user_isolation_connect(struct vhost_dev *dev, VhostUserState *user,
                                  Error **errp);

/**
 * vhost_user_isolation_connected() - does @dev find what the user asked for?
 * @dev: isolated, at the end of vhost-user's backend_init
 * @features: what the backend offers
 * @errp: set on failure; names the property and the way out
 *
 * Returns: 0 or a negative error code.
 */
int vhost_user_isolation_connected(struct vhost_dev *dev, uint64_t features,
                                   Error **errp);

/**
 * vhost_user_isolation_retries() - may another backend be waited for?
 * @user: any, whose connection has just failed; true if it is not isolated
 * @errp: set if not: why it failed
 *
 * Not by a machine that runs, nor if the backend is fine but lacks what the
 * user asked for.
 */
bool vhost_user_isolation_retries(VhostUserState *user, Error **errp);

/**
 * vhost_user_isolation_write() - send a message to a backend
 * @user: isolated
 * @msg: as on the socket
 * @size: bytes
 * @fds: sent along; stay the caller's
 * @num_fds: of them
 *
 * Returns: 0 or a negative error code.
 */
int vhost_user_isolation_write(VhostUserState *user, const void *msg,
                               size_t size, const int *fds, unsigned num_fds);

/**
 * vhost_user_isolation_read() - receive the answer to the message sent last
 * @user: isolated
 * @msg: set
 * @max: bytes that fit there
 *
 * Waits, but not for ever.
 *
 * Returns: 0 or a negative error code.
 */
int vhost_user_isolation_read(VhostUserState *user, void *msg, size_t max);

/**
 * vhost_user_isolation_setup_channel() - let a backend send messages itself
 * @dev: isolated
 *
 * Does nothing if @dev does not listen to any.
 *
 * Returns: 0 or a negative error code.
 */
int vhost_user_isolation_setup_channel(struct vhost_dev *dev);

/**
 * vhost_user_isolation_protocol_features() - which of them may be used
 * @user: any; unchanged if it is not isolated
 * @features: what the backend offers
 */
uint64_t vhost_user_isolation_protocol_features(const VhostUserState *user,
                                                uint64_t features);

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_H */
