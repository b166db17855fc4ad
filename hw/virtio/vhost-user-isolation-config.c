/*
 * vhost-user memory isolation: its configuration.
 *
 * Devices get their properties from a macro in the public header.  Netdevs
 * describe theirs in QAPI, and objects (cryptodev) have class properties; the
 * names and meanings are the same everywhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/memfd.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-common.h"
#include "qapi/visitor.h"
#include "standard-headers/linux/virtio_ids.h"
#include "hw/virtio/iothread-vq-mapping.h"
#include "isolated-kick.h"
#include "vhost-user-isolation-internal.h"

void vhost_user_isolation_config_init(VhostUserIsolationConfig *config)
{
    *config = (VhostUserIsolationConfig) {
        .scrub = true,
        .stop_ms = ISOLATION_DEFAULT_STOP_MS,
        .timeout_ms = ISOLATION_DEFAULT_TIMEOUT_MS,
    };
}

/* Somebody who sets one of these believes that the device is isolated. */
static bool check_unused(const VhostUserIsolationConfig *config, Error **errp)
{
    const char *used =
        config->iothread ? "iothread" :
        config->iothread_vq_mapping ? "iothread-vq-mapping" :
        config->iothreads ? "iothreads" :
        config->size ? "memory-isolation-size" :
        config->stop_ms != ISOLATION_DEFAULT_STOP_MS ?
            "memory-isolation-stop-ms" :
        config->timeout_ms != ISOLATION_DEFAULT_TIMEOUT_MS ?
            "memory-isolation-timeout-ms" :
        config->ring_size ? "memory-isolation-ring-size" :
        !config->scrub ? "memory-isolation-scrub" :
        config->trim ? "memory-isolation-trim" :
        config->wipe ? "memory-isolation-wipe" :
        config->copy_all ? "x-memory-isolation-copy-all" :
        config->packed != ON_OFF_AUTO_AUTO ? "x-memory-isolation-packed" :
        config->event_idx != ON_OFF_AUTO_AUTO ?
            "x-memory-isolation-event-idx" :
        config->indirect != ON_OFF_AUTO_AUTO ?
            "x-memory-isolation-indirect" :
        config->kick_aio ? "x-memory-isolation-kick-aio" : NULL;

    if (used) {
        error_setg(errp, "%s has no effect without memory-isolation=on", used);
    }
    return !used;
}

/* Without it a backend can make QEMU wait in a kick. */
static bool check_kick(const VhostUserIsolationConfig *config, Error **errp)
{
    Error *err = NULL;

    if (isolated_kick_init(&err)) {
        return true;
    }
    if (config->kick_aio) {
        error_propagate_prepend(errp, err, "x-memory-isolation-kick-aio=on: ");
        return false;
    }
    warn_report_once("memory-isolation: a hostile backend can block a kick on "
                     "this host: %s", error_get_pretty(err));
    error_free(err);
    return true;
}

static bool check_iothreads(const VhostUserIsolationConfig *config,
                            Error **errp)
{
    const char *many = config->iothread_vq_mapping ? "iothread-vq-mapping" :
                       config->iothreads ? "iothreads" : NULL;

    if (config->iothread && many) {
        error_setg(errp, "iothread and %s are two ways to say the same; use "
                   "one of them", many);
        return false;
    }
    return true;
}

bool isolation_check_config(const VhostUserIsolationConfig *config,
                            unsigned num_queues, Error **errp)
{
    if (!config->enabled) {
        return check_unused(config, errp);
    }
    if (num_queues > ISOLATION_MAX_QUEUES) {
        error_setg(errp, "memory-isolation=on is possible for %d queues at "
                   "most, not %u", ISOLATION_MAX_QUEUES, num_queues);
        return false;
    }
    if (!check_iothreads(config, errp)) {
        return false;
    }
    if (!config->timeout_ms) {
        error_setg(errp, "memory-isolation-timeout-ms=0 leaves the backend no "
                   "time to answer; the default is %d",
                   ISOLATION_DEFAULT_TIMEOUT_MS);
        return false;
    }
    if (config->timeout_ms > ISOLATION_MAX_TIMEOUT_MS) {
        error_setg(errp, "memory-isolation-timeout-ms=%u is too long: the most "
                   "is %d", config->timeout_ms, ISOLATION_MAX_TIMEOUT_MS);
        return false;
    }
    if (config->ring_size && (config->ring_size > ISOLATION_RING_MAX ||
                              !is_power_of_2(config->ring_size))) {
        error_setg(errp, "memory-isolation-ring-size=%u is not a power of two "
                   "up to %d", config->ring_size, ISOLATION_RING_MAX);
        return false;
    }
    if (!check_kick(config, errp)) {
        return false;
    }
    if (!qemu_memfd_check(MFD_ALLOW_SEALING)) {
        error_setg(errp, "memory-isolation=on needs a host with sealable "
                   "memfds, or the backend could shrink the shared memory "
                   "under QEMU");
        return false;
    }
    return isolation_check_size(config, num_queues, errp);
}

static IOThread **iothreads_of_mapping(IOThreadVirtQueueMappingList *mapping,
                                       unsigned num_queues, Error **errp)
{
    AioContext *contexts[ISOLATION_MAX_QUEUES];
    IOThread **iothreads;

    if (!iothread_vq_mapping_apply(mapping, contexts, num_queues, errp)) {
        return NULL;
    }
    iothreads = g_new0(IOThread *, num_queues);
    for (IOThreadVirtQueueMappingList *i = mapping; i; i = i->next) {
        IOThread *iothread = iothread_by_id(i->value->iothread);

        for (unsigned n = 0; n < num_queues; n++) {
            if (contexts[n] == iothread_get_aio_context(iothread)) {
                iothreads[n] = iothread;
                object_ref(OBJECT(iothread));
            }
        }
    }
    /* It would look for its references by name when they are let go. */
    iothread_vq_mapping_cleanup(mapping);
    return iothreads;
}

IOThread **isolation_iothreads_new(const VhostUserIsolationConfig *config,
                                   unsigned num_queues, Error **errp)
{
    IOThread *iothread = config->iothread ?: isolation_policy_iothread();
    g_autofree IOThread **iothreads = NULL;
    const strList *id = config->iothreads;

    if (config->iothread_vq_mapping) {
        return iothreads_of_mapping(config->iothread_vq_mapping, num_queues,
                                    errp);
    }
    iothreads = g_new(IOThread *, num_queues);
    for (unsigned n = 0; n < num_queues; n++) {
        iothreads[n] = id ? iothread_by_id(id->value) : iothread;
        /* A pair has two. */
        if (id && n % 2) {
            id = id->next ?: config->iothreads;
        }
    }
    return isolation_iothreads_ref(iothreads, num_queues);
}

IOThread **isolation_iothreads_ref(IOThread *const *iothreads, unsigned num)
{
    IOThread **refs = g_new(IOThread *, num);

    for (unsigned n = 0; n < num; n++) {
        refs[n] = iothreads[n];
        if (refs[n]) {
            object_ref(OBJECT(refs[n]));
        }
    }
    return refs;
}

void isolation_iothreads_free(IOThread **iothreads, unsigned num)
{
    for (unsigned n = 0; iothreads && n < num; n++) {
        if (iothreads[n]) {
            object_unref(OBJECT(iothreads[n]));
        }
    }
    g_free(iothreads);
}

static bool check_iothread(const char *option, const char *id, Error **errp)
{
    if (!iothread_by_id(id)) {
        error_setg(errp, "%s: there is no object '%s' of type iothread",
                   option, id);
        return false;
    }
    return true;
}

static bool configure_iothreads(VhostUserIsolationConfig *config,
                                const VhostUserIsolationOptions *options,
                                Error **errp)
{
    if (options->iothread) {
        if (!check_iothread("iothread", options->iothread, errp)) {
            return false;
        }
        config->iothread = iothread_by_id(options->iothread);
    }
    config->iothreads = options->iothreads;
    for (const strList *id = config->iothreads; id; id = id->next) {
        if (!check_iothread("iothreads", id->value, errp)) {
            return false;
        }
    }
    return true;
}

bool vhost_user_isolation_configure(VhostUserIsolationConfig *config,
                                    const VhostUserIsolationOptions *options,
                                    unsigned num_queues, Error **errp)
{
    vhost_user_isolation_config_init(config);
    /* Absent members are 0, which is AUTO. */
    config->asked = options->memory_isolation;
    config->size = options->memory_isolation_size;
    config->copy_all = options->x_memory_isolation_copy_all;
    if (options->has_memory_isolation_stop_ms) {
        config->stop_ms = options->memory_isolation_stop_ms;
    }
    if (options->has_memory_isolation_timeout_ms) {
        config->timeout_ms = options->memory_isolation_timeout_ms;
    }
    config->ring_size = options->memory_isolation_ring_size;
    if (options->has_memory_isolation_scrub) {
        config->scrub = options->memory_isolation_scrub;
    }
    config->trim = options->memory_isolation_trim;
    config->wipe = options->memory_isolation_wipe;
    config->packed = options->x_memory_isolation_packed;
    config->event_idx = options->x_memory_isolation_event_idx;
    config->indirect = options->x_memory_isolation_indirect;
    config->kick_aio = options->x_memory_isolation_kick_aio;
    return configure_iothreads(config, options, errp) &&
           vhost_user_isolation_decide(config, VIRTIO_ID_NET, "virtio-net",
                                       errp) &&
           isolation_check_config(config, num_queues, errp);
}

typedef bool VisitFn(Visitor *v, const char *name, void *value, Error **errp);

static bool visit_bool(Visitor *v, const char *name, void *value, Error **errp)
{
    return visit_type_bool(v, name, value, errp);
}

static bool visit_size(Visitor *v, const char *name, void *value, Error **errp)
{
    return visit_type_size(v, name, value, errp);
}

static bool visit_ms(Visitor *v, const char *name, void *value, Error **errp)
{
    return visit_type_uint32(v, name, value, errp);
}

static bool visit_ring(Visitor *v, const char *name, void *value, Error **errp)
{
    return visit_type_uint16(v, name, value, errp);
}

static bool visit_auto(Visitor *v, const char *name, void *value, Error **errp)
{
    return visit_type_OnOffAuto(v, name, value, errp);
}

typedef struct ConfigProp {
    const char *name;
    const char *type;
    VisitFn *visit;
    size_t offset;
} ConfigProp;

#define CONFIG_PROP(_name, _type, _visit, _field) \
    { _name, _type, _visit, offsetof(VhostUserIsolationConfig, _field) }

static const ConfigProp config_props[] = {
    CONFIG_PROP("memory-isolation", "OnOffAuto", visit_auto, asked),
    CONFIG_PROP("memory-isolation-size", "size", visit_size, size),
    CONFIG_PROP("memory-isolation-stop-ms", "uint32", visit_ms, stop_ms),
    CONFIG_PROP("memory-isolation-timeout-ms", "uint32", visit_ms, timeout_ms),
    CONFIG_PROP("memory-isolation-ring-size", "uint16", visit_ring, ring_size),
    CONFIG_PROP("memory-isolation-scrub", "bool", visit_bool, scrub),
    CONFIG_PROP("memory-isolation-trim", "bool", visit_bool, trim),
    CONFIG_PROP("memory-isolation-wipe", "bool", visit_bool, wipe),
    CONFIG_PROP("x-memory-isolation-copy-all", "bool", visit_bool, copy_all),
    CONFIG_PROP("x-memory-isolation-packed", "OnOffAuto", visit_auto, packed),
    CONFIG_PROP("x-memory-isolation-event-idx", "OnOffAuto", visit_auto,
                event_idx),
    CONFIG_PROP("x-memory-isolation-indirect", "OnOffAuto", visit_auto,
                indirect),
};

/* Of one property of one class; lives as long as the class. */
typedef struct ClassProp {
    const ConfigProp *prop;
    size_t state_offset;
} ClassProp;

static VhostUserState *prop_state(Object *obj, const ClassProp *p)
{
    return (VhostUserState *)((uint8_t *)obj + p->state_offset);
}

static void *prop_value(Object *obj, const ClassProp *p)
{
    return (uint8_t *)&prop_state(obj, p)->isolation_config + p->prop->offset;
}

static void config_prop_get(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    ClassProp *p = opaque;

    p->prop->visit(v, name, prop_value(obj, p), errp);
}

static void config_prop_set(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    ClassProp *p = opaque;

    /* vhost_user_init() was there. */
    if (prop_state(obj, p)->chr) {
        error_setg(errp, "%s cannot be changed any more", name);
        return;
    }
    p->prop->visit(v, name, prop_value(obj, p), errp);
}

static void config_iothread_check(const Object *obj, const char *name,
                                  Object *val, Error **errp)
{
    ObjectProperty *prop = object_property_find(OBJECT(obj),
                                                config_props[0].name);

    if (prop_state(OBJECT(obj), prop->opaque)->chr) {
        error_setg(errp, "%s cannot be changed any more", name);
    }
}

void vhost_user_isolation_add_properties(ObjectClass *oc, size_t state_offset)
{
    for (size_t i = 0; i < ARRAY_SIZE(config_props); i++) {
        ClassProp *p = g_new(ClassProp, 1);

        p->prop = &config_props[i];
        p->state_offset = state_offset;
        object_class_property_add(oc, p->prop->name, p->prop->type,
                                  config_prop_get, config_prop_set, NULL, p);
    }
    object_class_property_add_link(
        oc, "iothread", TYPE_IOTHREAD,
        state_offset + offsetof(VhostUserState, isolation_config.iothread),
        config_iothread_check, OBJ_PROP_LINK_STRONG);
}
