/*
 * What the guest's IOMMU has said about a device's addresses.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_GUEST_IOTLB_H
#define HW_VIRTIO_GUEST_IOTLB_H

#include "vhost-user-compat.h"

typedef struct VirtIODevice VirtIODevice;
typedef struct GuestIotlb GuestIotlb;

/**
 * GuestReach - can the data path go to an address?
 * @GUEST_REACH_NOW: yes
 * @GUEST_REACH_LATER: the IOMMU is asked, and GuestIotlbUser.again follows
 * @GUEST_REACH_NEVER: the IOMMU has refused it, or it leads to no RAM
 */
typedef enum GuestReach {
    GUEST_REACH_NOW,
    GUEST_REACH_LATER,
    GUEST_REACH_NEVER,
} GuestReach;

/**
 * GuestIotlbUser - who goes where the addresses lead
 * @pause: returns when nobody looks at the guest any more
 * @again: look at the guest, after @pause or when the IOMMU has answered
 *
 * With the BQL held.  @pause is called while the IOMMU is being changed, so
 * neither may access guest memory in the calling thread by other ways than
 * guest_iotlb_address_space().
 */
typedef struct GuestIotlbUser {
    void (*pause)(void *opaque);
    void (*again)(void *opaque);
} GuestIotlbUser;

/**
 * guest_iotlb_new() - nothing is known
 * @vdev: its DMA address space is looked at
 * @user: called with @opaque, until guest_iotlb_free()
 * @limit: translations kept; the next one makes all of them forgotten
 *
 * BQL held.
 */
GuestIotlb *guest_iotlb_new(VirtIODevice *vdev, const GuestIotlbUser *user,
                            void *opaque, unsigned limit);

/**
 * guest_iotlb_free() - @user is gone
 * @iotlb: may be NULL
 *
 * What still uses the address space may go on, and is refused everything that
 * is not known.  BQL held.
 */
void guest_iotlb_free(GuestIotlb *iotlb);

/**
 * guest_iotlb_unmap() - the driver unmaps a part of the device's addresses
 * @iotlb: the device's
 * @iova: where it begins
 * @mask: its bytes, less one
 *
 * Once it returns, nothing goes there any more.  BQL held.
 */
void guest_iotlb_unmap(GuestIotlb *iotlb, hwaddr iova, hwaddr mask);

/** guest_iotlb_wake() - have GuestIotlbUser.again called soon.  BQL held. */
void guest_iotlb_wake(GuestIotlb *iotlb);

/**
 * guest_iotlb_address_space() - what is known, as an address space
 * @iotlb: the device's
 *
 * For any thread.  An access goes to RAM, or to nothing if the translation is
 * not known: then it is asked for, but the access itself has failed, and
 * outside of the BQL it would wait for it.  So rings have to be looked up with
 * guest_iotlb_find() first, and stay known while the data path is not paused.
 */
AddressSpace *guest_iotlb_address_space(GuestIotlb *iotlb);

/**
 * guest_iotlb_find() - where does an address lead?
 * @iotlb: the device's
 * @iova: address of the device
 * @is_write: to be written, else to be read
 * @gpa: set on NOW: address in guest memory; there is RAM
 * @len: set on NOW: bytes from there on, else to the end of the page
 *
 * Any thread.  NEVER is said once; who asks again gets the IOMMU asked again.
 */
GuestReach guest_iotlb_find(GuestIotlb *iotlb, hwaddr iova, bool is_write,
                            hwaddr *gpa, hwaddr *len);

/** guest_iotlb_wanted() - how often LATER was said; any thread */
unsigned guest_iotlb_wanted(const GuestIotlb *iotlb);

/** guest_iotlb_cancel() - nobody waits for an answer any more.  BQL held. */
void guest_iotlb_cancel(GuestIotlb *iotlb);

/** guest_iotlb_flush() - forget everything.  BQL held, data path paused. */
void guest_iotlb_flush(GuestIotlb *iotlb);

#endif /* HW_VIRTIO_GUEST_IOTLB_H */
