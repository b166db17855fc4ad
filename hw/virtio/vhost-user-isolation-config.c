/*
 * vhost-user memory isolation: its configuration where there is no qdev.
 *
 * Devices get their properties from a macro.  Netdevs describe theirs in QAPI,
 * and objects (cryptodev) have class properties; the names and meanings are
 * the same everywhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-common.h"
#include "qapi/visitor.h"
#include "vhost-user-isolation-internal.h"

void vhost_user_isolation_config_init(VhostUserIsolationConfig *config)
{
    *config = (VhostUserIsolationConfig) {
        .scrub = true,
        .stop_ms = ISOLATION_DEFAULT_STOP_MS,
    };
}

static bool configure_iothread(VhostUserIsolationConfig *config,
                               const char *id, Error **errp)
{
    if (id) {
        config->iothread = iothread_by_id(id);
        if (!config->iothread) {
            error_setg(errp, "iothread: there is no object '%s' of type "
                       "iothread", id);
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
    config->enabled = options->memory_isolation;
    config->size = options->memory_isolation_size;
    config->copy_all = options->memory_isolation_copy_all;
    if (options->has_memory_isolation_stop_ms) {
        config->stop_ms = options->memory_isolation_stop_ms;
    }
    if (options->has_memory_isolation_scrub) {
        config->scrub = options->memory_isolation_scrub;
    }
    /* Absent members are 0, which is AUTO. */
    config->packed = options->memory_isolation_packed;
    config->event_idx = options->memory_isolation_event_idx;
    config->indirect = options->memory_isolation_indirect;
    return configure_iothread(config, options->iothread, errp) &&
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

static bool visit_pin(Visitor *v, const char *name, void *value, Error **errp)
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
    CONFIG_PROP("memory-isolation", "bool", visit_bool, enabled),
    CONFIG_PROP("memory-isolation-size", "size", visit_size, size),
    CONFIG_PROP("memory-isolation-stop-ms", "uint32", visit_ms, stop_ms),
    CONFIG_PROP("memory-isolation-scrub", "bool", visit_bool, scrub),
    CONFIG_PROP("memory-isolation-copy-all", "bool", visit_bool, copy_all),
    CONFIG_PROP("memory-isolation-packed", "OnOffAuto", visit_pin, packed),
    CONFIG_PROP("memory-isolation-event-idx", "OnOffAuto", visit_pin,
                event_idx),
    CONFIG_PROP("memory-isolation-indirect", "OnOffAuto", visit_pin, indirect),
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
