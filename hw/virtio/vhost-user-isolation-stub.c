/*
 * vhost-user memory isolation: of a QEMU whose machines have no virtio.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-commands-virtio.h"

VhostUserIsolationInfoList *qmp_query_vhost_user_isolation(Error **errp)
{
    return NULL;
}
