/*
 * The files under test, with the harness's time, log and close().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "transport-sources.h"

#define qemu_clock_get_ns harness_clock_get_ns
#define qemu_clock_get_ms harness_clock_get_ms
#define qemu_poll_ns harness_poll_ns
#define timer_mod harness_timer_mod
#define timer_del harness_timer_del
#define error_report harness_error_report
#define close(fd) harness_close(fd)
#define g_thread_pool_push(pool, data, errp) \
    (harness_push(), g_thread_pool_push(pool, data, errp))

#include "../../hw/virtio/vhost-user-transport.c"
#include "../../hw/virtio/vhost-user-channel.c"
#include "../../hw/virtio/vhost-user-dial.c"
