/*
 * vhost-user memory isolation: one policy for a VM.
 *
 * A property of each device is forgotten once, and one device that maps guest
 * RAM is enough.  So a VM can have an object that says what holds for devices
 * which do not say themselves (memory-isolation=auto), and which IOThread
 * carries their requests.
 *
 * The object is there before devices are made, since QEMU makes objects first.
 * One that comes later, by QMP, holds for devices from then on; policy=require
 * is refused if one before it is not isolated, so that it always says the
 * truth about the VM.  For the same reason it stays as long as there are
 * devices.
 *
 * policy=require is asked for three times: when a device decides whether it is
 * isolated, where the message can name the property; when a vhost_dev greets
 * its backend, whatever device it is of; and when a memory table is to be
 * sent.  The last two cannot happen as long as every device decides.
 *
 * Not here: what isolation is, and backends that are no vhost-user backends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/qapi-types-qom.h"
#include "qom/object_interfaces.h"
#include "vhost-user-compat.h"
#include "vhost-user-isolation-internal.h"

#define TYPE_VHOST_USER_ISOLATION "vhost-user-isolation"
OBJECT_DECLARE_SIMPLE_TYPE(IsolationPolicy, VHOST_USER_ISOLATION)

/**
 * IsolationPolicy - the object
 * @policy: fixed once the object is complete
 * @iothread: a reference of its own, or NULL
 */
struct IsolationPolicy {
    Object parent_obj;
    VhostUserIsolationPolicy policy;
    IOThread *iothread;
};

/* BQL */
static IsolationPolicy *vm_policy;
static QLIST_HEAD(, VhostUserState) vm_states =
    QLIST_HEAD_INITIALIZER(vm_states);

/* Borrowed. */
static const char *policy_id(void)
{
    return object_get_canonical_path_component(OBJECT(vm_policy));
}

static bool policy_requires(void)
{
    return vm_policy &&
           vm_policy->policy == VHOST_USER_ISOLATION_POLICY_REQUIRE;
}

void vhost_user_isolation_register(VhostUserState *user)
{
    QLIST_INSERT_HEAD(&vm_states, user, isolation_next);
}

void isolation_unregister(VhostUserState *user)
{
    QLIST_SAFE_REMOVE(user, isolation_next);
    g_clear_pointer(&user->isolation_device, g_free);
}

VhostUserState *isolation_next_state(VhostUserState *user)
{
    return user ? QLIST_NEXT(user, isolation_next) : QLIST_FIRST(&vm_states);
}

/*
 * A path and no pointer: of a netdev that is not isolated nobody says when its
 * NIC is unplugged.  Another device can come to the same place.
 */
void isolation_note_device(VhostUserState *user, VirtIODevice *vdev)
{
    char *path = object_get_canonical_path(OBJECT(vdev));
    VhostUserState *other;

    QLIST_FOREACH(other, &vm_states, isolation_next) {
        if (!g_strcmp0(other->isolation_device, path)) {
            g_clear_pointer(&other->isolation_device, g_free);
        }
    }
    g_free(user->isolation_device);
    user->isolation_device = path;
}

IOThread *isolation_policy_iothread(void)
{
    return vm_policy ? vm_policy->iothread : NULL;
}

/* A device that would be without isolation. */
static bool policy_allows_off(const char *name, Error **errp)
{
    if (policy_requires()) {
        error_setg(errp, "memory-isolation=off is not possible for %s: object "
                   "'%s' has policy=require", name, policy_id());
        return false;
    }
    return true;
}

/* A device that does not say, and cannot be isolated. */
static bool policy_allows_impossible(const char *name, const char *why,
                                     Error **errp)
{
    if (policy_requires()) {
        error_setg(errp, "%s cannot be isolated, and object '%s' has "
                   "policy=require: %s", name, policy_id(), why);
        return false;
    }
    if (vm_policy) {
        warn_report("%s is not isolated, although object '%s' has "
                    "policy=prefer: %s (memory-isolation=off if that is meant)",
                    name, policy_id(), why);
    }
    return true;
}

bool vhost_user_isolation_decide(VhostUserIsolationConfig *config,
                                 uint16_t device_id, const char *name,
                                 Error **errp)
{
    const char *why = isolation_refused(device_id);

    config->decided = true;
    config->by_policy = vm_policy && config->asked == ON_OFF_AUTO_AUTO;
    config->enabled = false;
    if (config->asked == ON_OFF_AUTO_OFF) {
        return policy_allows_off(name, errp);
    }
    if (config->asked == ON_OFF_AUTO_ON && why) {
        error_setg(errp, "memory-isolation=on is not possible for %s: %s",
                   name, why);
        return false;
    }
    if (why) {
        return policy_allows_impossible(name, why, errp);
    }
    config->enabled = vm_policy || config->asked == ON_OFF_AUTO_ON;
    return true;
}

bool vhost_user_isolation_may_share(const VhostUserState *user, Error **errp)
{
    if (user->isolation) {
        error_setg(errp, "guest memory is not for the backend of an isolated "
                   "device");
        return false;
    }
    if (policy_requires()) {
        error_setg(errp, "guest memory is not for the backend at chardev "
                   "'%s': object '%s' has policy=require",
                   user->chr->chr->label, policy_id());
        return false;
    }
    return true;
}

/* The object */

static bool policy_fixed(Object *obj, const char *name, Error **errp)
{
    if (OBJECT(vm_policy) == obj) {
        error_setg(errp, "%s cannot be changed any more", name);
    }
    return OBJECT(vm_policy) == obj;
}

static int policy_get(Object *obj, Error **errp)
{
    return VHOST_USER_ISOLATION(obj)->policy;
}

static void policy_set(Object *obj, int value, Error **errp)
{
    if (!policy_fixed(obj, "policy", errp)) {
        VHOST_USER_ISOLATION(obj)->policy = value;
    }
}

static void policy_check_iothread(const Object *obj, const char *name,
                                  Object *val, Error **errp)
{
    policy_fixed(OBJECT(obj), name, errp);
}

/* The devices that are there were made without it. */
static bool policy_holds(const IsolationPolicy *policy, Error **errp)
{
    VhostUserState *user;

    if (policy->policy != VHOST_USER_ISOLATION_POLICY_REQUIRE) {
        return true;
    }
    QLIST_FOREACH(user, &vm_states, isolation_next) {
        if (!user->isolation) {
            error_setg(errp, "policy=require comes too late: the backend at "
                       "chardev '%s' serves a device that is not isolated",
                       user->chr->chr->label);
            return false;
        }
    }
    return true;
}

static void policy_complete(UserCreatable *uc, Error **errp)
{
    IsolationPolicy *policy = VHOST_USER_ISOLATION(uc);

    if (vm_policy) {
        error_setg(errp, "object '%s' is the policy of this VM already, and "
                   "there can be only one", policy_id());
        return;
    }
    if (policy_holds(policy, errp)) {
        vm_policy = policy;
    }
}

static bool policy_can_be_deleted(UserCreatable *uc)
{
    return QLIST_EMPTY(&vm_states);
}

static void policy_finalize(Object *obj)
{
    if (OBJECT(vm_policy) == obj) {
        vm_policy = NULL;
    }
}

static void policy_class_init(ObjectClass *oc, ClassInitData *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = policy_complete;
    ucc->can_be_deleted = policy_can_be_deleted;
    object_class_property_add_enum(oc, "policy", "VhostUserIsolationPolicy",
                                   &VhostUserIsolationPolicy_lookup,
                                   policy_get, policy_set);
    object_class_property_add_link(oc, "iothread", TYPE_IOTHREAD,
                                   offsetof(IsolationPolicy, iothread),
                                   policy_check_iothread,
                                   OBJ_PROP_LINK_STRONG);
}

static const TypeInfo policy_info = {
    .name = TYPE_VHOST_USER_ISOLATION,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(IsolationPolicy),
    .instance_finalize = policy_finalize,
    .class_init = policy_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void policy_register_types(void)
{
    type_register_static(&policy_info);
}
type_init(policy_register_types)
