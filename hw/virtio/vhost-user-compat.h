/*
 * vhost-user memory isolation: where versions of QEMU differ.
 *
 * Our files are written for the newest version that they are built with.  What
 * older ones call otherwise gets its new name here, so that no other file has
 * to ask for a version.  What is more than a name is a hook's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_COMPAT_H
#define HW_VIRTIO_VHOST_USER_COMPAT_H

#include "chardev/char-fe.h"

/** Is this QEMU older than @major.@minor? */
#define QEMU_OLDER_THAN(major, minor) \
    (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR < (major) * 100 + (minor))

#if QEMU_OLDER_THAN(10, 1)
#include "exec/memory.h"
#include "exec/address-spaces.h"
typedef void ClassInitData;
#else
#include "system/memory.h"
#include "system/address-spaces.h"
typedef const void ClassInitData;
#endif

#if QEMU_OLDER_THAN(10, 2)
typedef CharBackend CharFrontend;
#endif

#endif /* HW_VIRTIO_VHOST_USER_COMPAT_H */
