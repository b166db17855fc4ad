/*
 * Shadow virtqueue of vhost-vdpa: the device sees a ring of QEMU's and the
 * guest's buffers, the guest sees QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_SVQ_H
#define HW_VIRTIO_VHOST_SVQ_H

#include "standard-headers/linux/vhost_types.h"
#include "hw/virtio/vhost-iova-tree.h"
#include "hw/virtio/virtio.h"
#include "qemu/event_notifier.h"

/**
 * VhostShadowVirtqueue - the part that vhost-vdpa may touch
 * @hdev_kick: ours -> device
 * @hdev_call: device -> ours
 * @vdev: the device, from vhost_svq_start() on
 *
 * The owner makes both notifiers before vhost_svq_start() and cleans them up
 * after vhost_svq_stop().  Everything here is done with the BQL held.
 */
typedef struct VhostShadowVirtqueue {
    EventNotifier hdev_kick;
    EventNotifier hdev_call;
    VirtIODevice *vdev;
} VhostShadowVirtqueue;

/**
 * VhostShadowVirtqueueOps - for queues whose requests QEMU looks at
 * @avail_handler: called for each request that the guest has made available,
 *     instead of passing it on as it is.  Gets the queue, the popped element
 *     and what vhost_svq_new() got.  It answers the guest with
 *     vhost_svq_push_elem() and frees the element, or passes it on to
 *     vhost_svq_add(), before it returns 0.  A negative errno value says that
 *     it has answered the guest with a failure; the queue frees the element.
 *     Either way the queue goes on with the next one.
 */
typedef struct VhostShadowVirtqueueOps {
    int (*avail_handler)(VhostShadowVirtqueue *svq, VirtQueueElement *elem,
                         void *opaque);
} VhostShadowVirtqueueOps;

/**
 * vhost_svq_valid_features() - can a queue work on such a device?
 * @features: feature bits that the device offers
 * @errp: set on failure
 */
bool vhost_svq_valid_features(uint64_t features, Error **errp);

/**
 * vhost_svq_guest_features() - what the guest can be offered
 * @offered: feature bits that the device offers
 * @shadowed: the guest only ever sees the device through shadow virtqueues; the
 *     ring features are QEMU's then, whatever the device has
 *
 * Never VIRTIO_F_IN_ORDER: a guest that has it could not be shadowed.
 */
uint64_t vhost_svq_guest_features(uint64_t offered, bool shadowed);

/**
 * vhost_svq_device_features() - what to acknowledge to the device
 * @acked: feature bits that the guest acknowledged
 * @offered: feature bits that the device offers
 *
 * The ring features are the best that the device has, whatever the guest has.
 */
uint64_t vhost_svq_device_features(uint64_t acked, uint64_t offered);

/**
 * vhost_svq_set_device() - what the next ring's device is like
 * @svq: stopped
 * @features: that were acknowledged to it; those of the ring matter
 * @max_size: descriptors that a ring of it can have
 */
void vhost_svq_set_device(VhostShadowVirtqueue *svq, uint64_t features,
                          uint16_t max_size);

/**
 * vhost_svq_ring_size() - descriptors, for VHOST_SET_VRING_NUM
 * @svq: after vhost_svq_set_device()
 * @guest_size: descriptors of the guest's ring, which can be any number if it
 *     is a packed one
 *
 * As many as the guest has, if the device has so many, but a power of two.
 */
uint16_t vhost_svq_ring_size(const VhostShadowVirtqueue *svq,
                             uint16_t guest_size);

/**
 * vhost_svq_ring_base() - where a new ring begins, for VHOST_SET_VRING_BASE
 * @svq: after vhost_svq_set_device(); the device knows the features already,
 *     since how it reads this number depends on the format
 */
uint32_t vhost_svq_ring_base(const VhostShadowVirtqueue *svq);

/**
 * vhost_svq_new() - a stopped queue
 * @ops: NULL, or what to do with the guest's requests; outlives the queue
 * @opaque: for @ops
 */
VhostShadowVirtqueue *vhost_svq_new(const VhostShadowVirtqueueOps *ops,
                                    void *opaque);

/** vhost_svq_free() - stop the queue if need be, and free it */
void vhost_svq_free(gpointer svq);

/**
 * vhost_svq_set_poll_limit() - how long vhost_svq_poll() waits for progress
 * @svq: the queue
 * @ms: milliseconds, from its beginning or the last request that the device
 *     has used
 */
void vhost_svq_set_poll_limit(VhostShadowVirtqueue *svq, unsigned ms);

/**
 * vhost_svq_start() - make a ring and begin to move requests
 * @svq: stopped, with notifiers, after vhost_svq_set_device()
 * @vdev: the device
 * @guest_vq: the guest's queue
 * @tree: where the device finds memory; outlives the run.  The area of
 *     vhost_svq_get_vring_addr() is in it before anything is moved.
 *
 * Whatever the guest has made available is looked at from the main loop, once
 * a kick fd is set.
 */
void vhost_svq_start(VhostShadowVirtqueue *svq, VirtIODevice *vdev,
                     VirtQueue *guest_vq, VhostIOVATree *tree);

/**
 * vhost_svq_stop() - return what the device has used and give back the rest
 * @svq: nothing happens if it is stopped; the device does not write any more
 *
 * The newest requests go back to where the guest had made them available, as
 * far as no newer one was used.  Older ones are completed with a length of 0:
 * a ring has no way to offer them again without their successors, so a network
 * device loses their packets.  The guest is asked for kicks again.
 *
 * The area that vhost_svq_get_vring_addr() names stays until the next start,
 * so that it can be unmapped from the device.
 */
void vhost_svq_stop(VhostShadowVirtqueue *svq);

/**
 * vhost_svq_get_vring_addr() - where the ring lies in QEMU's memory
 * @svq: was started once
 * @addr: addresses are set; the descriptor area begins the area to be mapped
 */
void vhost_svq_get_vring_addr(const VhostShadowVirtqueue *svq,
                              struct vhost_vring_addr *addr);

/**
 * vhost_svq_area_size() - bytes to map for the device, a multiple of pages
 *
 * One area for all parts of the ring and its indirect tables, for reading and
 * writing: a packed device writes to descriptors, and nothing that QEMU wrote
 * there is read back.
 */
size_t vhost_svq_area_size(const VhostShadowVirtqueue *svq);

/**
 * vhost_svq_set_svq_kick_fd() - where the guest's kicks arrive
 * @svq: any
 * @fd: borrowed until the next call or stop, or VHOST_FILE_UNBIND.  Requests
 *     that are available by now are found without a kick.
 */
void vhost_svq_set_svq_kick_fd(VhostShadowVirtqueue *svq, int fd);

/**
 * vhost_svq_set_svq_call_fd() - where to call the guest
 * @svq: any
 * @fd: borrowed until the next call, or VHOST_FILE_UNBIND: used buffers are
 *     still returned to the guest
 */
void vhost_svq_set_svq_call_fd(VhostShadowVirtqueue *svq, int fd);

/** vhost_svq_available_slots() - free descriptors; 0 if it is stopped */
uint16_t vhost_svq_available_slots(const VhostShadowVirtqueue *svq);

/**
 * vhost_svq_add() - send a request to the device, and kick it if it asks so
 * @svq: the queue
 * @out_sg: @out_num device-readable buffers
 * @out_num: may be 0 if @in_num is not
 * @out_addr: their guest-physical addresses; NULL: they are not guest memory
 * @in_sg: @in_num device-writable buffers
 * @in_num: may be 0 if @out_num is not
 * @in_addr: as @out_addr
 * @elem: the guest's request, which goes back to the guest when the device has
 *     used it; only within the handler that got it.  Taken on success.
 *     NULL: vhost_svq_poll() waits for it.
 *
 * Returns: 0; -ENOSPC if there is no room now; -E2BIG if there never will be;
 * -EINVAL if a buffer is not in the device's address space; -EIO if the queue
 * is stopped or broken.
 */
int vhost_svq_add(VhostShadowVirtqueue *svq, const struct iovec *out_sg,
                  size_t out_num, const hwaddr *out_addr,
                  const struct iovec *in_sg, size_t in_num,
                  const hwaddr *in_addr, VirtQueueElement *elem);

/**
 * vhost_svq_poll() - wait for the device to use requests without an element
 * @svq: the queue
 * @num: how many
 *
 * Bounded by the poll limit for each step of the device: many commands may take
 * as long as they need.  A device that uses nothing for longer breaks the queue:
 * its buffers cannot be used for anything else while the answer may still come.
 *
 * Returns: bytes written to them, as the device says and as fit.
 */
size_t vhost_svq_poll(VhostShadowVirtqueue *svq, size_t num);

/**
 * vhost_svq_push_elem() - answer the guest
 * @svq: started
 * @elem: popped by the queue; not freed
 * @len: bytes written to it; cut to what is writable
 */
void vhost_svq_push_elem(VhostShadowVirtqueue *svq,
                         const VirtQueueElement *elem, uint32_t len);

#endif /* HW_VIRTIO_VHOST_SVQ_H */
