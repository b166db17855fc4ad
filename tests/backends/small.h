/*
 * What the small backends share: a vhost-user device on QEMU's libvhost-user,
 * one process, one thread, one connection after the other.
 *
 * A backend describes itself in a SmallDevice and calls small_run(), which
 * never returns.  Fields of requests are little endian, as the machines that
 * run these tests are.  The first broken rule ends the process with status 1
 * and a sentence, so a test need only look whether its backend still runs.
 *
 * SMALL_RING_MAX=N in the environment: rings of more than N descriptors are
 * refused, as by daemons that have a length of their own for each device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_BACKENDS_SMALL_H
#define TESTS_BACKENDS_SMALL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhost-user.h"

/**
 * SmallDevice - one kind of device
 * @queues: number of its virtqueues
 * @features: VirtIO features of its kind, in addition to those of rings
 * @kicked: the guest made buffers available in a queue; may be spurious
 * @started: a queue starts, anew or where it was (may be NULL)
 * @stopped: a queue stops: forget every element of it (may be NULL)
 * @keeps: elements outlive a stop, as that of a paused VM; only when the
 *         connection ends is @stopped called
 * @config: the configuration space, as it is at any time
 * @config_bytes: its size (0: there is none)
 * @set_config: as libvhost-user has it (NULL: the driver may write nothing)
 * @protocol_features: in addition to those of libvhost-user
 * @take_message: for messages that libvhost-user has no room for: receive this
 *         one, whose number is given, and return true (may be NULL)
 * @process_message: as libvhost-user has it (may be NULL)
 */
typedef struct SmallDevice {
    unsigned queues;
    uint64_t features;
    void (*kicked)(VuDev *dev, int queue);
    void (*started)(VuDev *dev, int queue);
    void (*stopped)(VuDev *dev, int queue);
    bool keeps;
    const void *config;
    uint32_t config_bytes;
    vu_set_config_cb set_config;
    uint64_t protocol_features;
    bool (*take_message)(VuDev *dev, uint32_t request);
    vu_process_msg_cb process_message;
} SmallDevice;

/**
 * small_run - serve @device to whoever connects to @path
 * @path: of the socket to listen on
 */
void small_run(const SmallDevice *device, const char *path)
    __attribute__((noreturn));

/**
 * small_watch - call @call with @data whenever @fd can be read
 *
 * For timers; the watch stays for ever.
 */
void small_watch(VuDev *dev, int fd, vu_watch_cb call, void *data);

/** small_bytes - bytes in @count elements of @iov */
size_t small_bytes(const struct iovec *iov, unsigned count);

/**
 * small_read - copy out of @iov
 * @offset: where to begin, in bytes from the start of @iov
 *
 * Returns: bytes copied, fewer than @size if @iov ends.
 */
size_t small_read(const struct iovec *iov, unsigned count, size_t offset,
                  void *to, size_t size);

/** small_write - copy into @iov; as small_read() */
size_t small_write(const struct iovec *iov, unsigned count, size_t offset,
                   const void *from, size_t size);

/** small_pop - the next request of @queue, or NULL; free() it */
VuVirtqElement *small_pop(VuDev *dev, int queue);

/** small_push - give @element back and free it; small_notify() follows */
void small_push(VuDev *dev, int queue, VuVirtqElement *element, size_t size);

/** small_notify - call the guest if it wants that */
void small_notify(VuDev *dev, int queue);

/** small_fail - say what is wrong and end the process */
void small_fail(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

/** small_damage - whether this run shall break its data, so that a test fails
 *
 * SMALL_DAMAGE=1 in the environment: for seeing that a test notices.
 */
bool small_damage(void);

#endif
