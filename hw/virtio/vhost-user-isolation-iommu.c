/*
 * vhost-user memory isolation: a device behind the guest's IOMMU.
 *
 * The data path goes where guest-iotlb.h knows the way, and never asks on its
 * own.  Here is what connects the two: QEMU's accessors find the rings in an
 * address space of what is known (VirtIODevice.ring_as), from the moment that
 * the device is behind an IOMMU, and as long as it is.
 *
 * While a queue runs, all of its ring is known: what the driver unmaps pauses
 * the queues first.  While none runs QEMU's own code may look at a ring that is
 * not known any more; it reads zeros then, once, as from memory that is gone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "vhost-user-isolation-internal.h"

/*
 * What the IOMMU has said is kept for so many pages, and for those of a region:
 * enough for the rings and a request of all that a queue can have.
 */
#define IOTLB_PAGES (64 * KiB)

void isolation_iommu_watch(VirtIOIsolation *guest, const GuestIotlbUser *user)
{
    uint64_t region = guest->iso->user->isolation_config.size;

    if (guest->vdev->dma_as != &address_space_memory) {
        guest->iotlb = guest_iotlb_new(guest->vdev, user, guest,
                                       IOTLB_PAGES + region / (4 * KiB));
    }
}

/* IOMMUs that tell of what is unmapped; others take the notifier, silently. */
static const char *const iommus_that_tell[] = {
    "intel-iommu-iommu-memory-region",
    "riscv-iommu-mr",
    "s390-iommu-memory-region",
    "smmuv3-iommu-memory-region",
    "spapr-iommu-memory-region",
    "virtio-iommu-memory-region",
};

/* An IOMMU in the device's address space. */
struct IsolationIommu {
    QLIST_ENTRY(IsolationIommu) next;
    IOMMUNotifier notifier;
    GuestIotlb *iotlb;
    MemoryRegion *mr;
    hwaddr offset;              /* of the device's addresses to the region's */
    bool tells;
};

static bool iommu_tells(MemoryRegion *mr)
{
    for (int i = 0; i < ARRAY_SIZE(iommus_that_tell); i++) {
        if (object_dynamic_cast(OBJECT(mr), iommus_that_tell[i])) {
            return true;
        }
    }
    return false;
}

static void on_unmap(IOMMUNotifier *notifier, IOMMUTLBEntry *entry)
{
    IsolationIommu *iommu = container_of(notifier, IsolationIommu, notifier);

    guest_iotlb_unmap(iommu->iotlb, entry->iova + iommu->offset,
                      entry->addr_mask);
}

static bool iommu_watch(IsolationIommu *iommu, MemoryRegionSection *section)
{
    Int128 last = int128_sub(int128_add(
        int128_make64(section->offset_within_region), section->size),
        int128_one());
    int index = memory_region_iommu_attrs_to_index(
        IOMMU_MEMORY_REGION(section->mr), MEMTXATTRS_UNSPECIFIED);
    Error *err = NULL;

    iommu_notifier_init(&iommu->notifier, on_unmap, IOMMU_NOTIFIER_UNMAP,
                        section->offset_within_region, int128_get64(last),
                        index);
    if (!iommu_tells(section->mr)) {
        return false;
    }
    if (memory_region_register_iommu_notifier(section->mr, &iommu->notifier,
                                              &err)) {
        warn_report_err(err);
        return false;
    }
    return true;
}

void isolation_iommu_region_add(MemoryListener *listener,
                                MemoryRegionSection *section)
{
    VirtIOIsolation *guest = container_of(listener, VirtIOIsolation, memory);
    IsolationIommu *iommu;

    if (!guest->iotlb || !memory_region_is_iommu(section->mr)) {
        return;
    }
    iommu = g_new0(IsolationIommu, 1);
    iommu->iotlb = guest->iotlb;
    iommu->mr = section->mr;
    iommu->offset = section->offset_within_address_space -
                    section->offset_within_region;
    iommu->tells = iommu_watch(iommu, section);
    QLIST_INSERT_HEAD(&guest->iommus, iommu, next);
}

void isolation_iommu_region_del(MemoryListener *listener,
                                MemoryRegionSection *section)
{
    VirtIOIsolation *guest = container_of(listener, VirtIOIsolation, memory);
    IsolationIommu *iommu;

    QLIST_FOREACH(iommu, &guest->iommus, next) {
        if (iommu->mr == section->mr &&
            iommu->notifier.start == section->offset_within_region) {
            if (iommu->tells) {
                memory_region_unregister_iommu_notifier(iommu->mr,
                                                        &iommu->notifier);
            }
            QLIST_REMOVE(iommu, next);
            g_free(iommu);
            return;
        }
    }
}

static bool guest_is_told(const VirtIOIsolation *guest)
{
    IsolationIommu *iommu;

    QLIST_FOREACH(iommu, &guest->iommus, next) {
        if (!iommu->tells) {
            return false;
        }
    }
    return true;
}

static bool guest_is_translated(const VirtIOIsolation *guest)
{
    return !QLIST_EMPTY(&guest->iommus);
}

static void guest_see_rings_in(VirtIOIsolation *guest, GuestIotlb *iotlb)
{
    VirtIODevice *vdev = guest->vdev;
    AddressSpace *as = iotlb ? guest_iotlb_address_space(iotlb) : NULL;

    if (vdev->ring_as == as) {
        return;
    }
    vdev->ring_as = as;
    for (unsigned n = 0; n < guest->num_queues; n++) {
        isolated_queue_translate(guest->queues[n], iotlb);
        if (virtio_queue_get_num(vdev, n)) {
            virtio_init_region_cache(vdev, n);
        }
    }
}

static void guest_watch_kicks(VirtIOIsolation *guest, IOHandler *on_kick)
{
    for (unsigned n = 0; n < guest->num_queues; n++) {
        VirtQueue *vq = virtio_get_queue(guest->vdev, n);

        if (test_bit(n, guest->started)) {
            qemu_set_fd_handler(event_notifier_get_fd(
                virtio_queue_get_host_notifier(vq)), on_kick, NULL, guest);
        }
    }
}

static void guest_set_stale(VirtIOIsolation *guest, bool stale);

/* The kick stays where it is, for who runs the queue. */
static void on_stale_kick(void *opaque)
{
    VirtIOIsolation *guest = opaque;

    guest_set_stale(guest, false);
    guest_iotlb_wake(guest->iotlb);
}

static void guest_set_stale(VirtIOIsolation *guest, bool stale)
{
    if (guest->stale != stale) {
        guest_watch_kicks(guest, stale ? on_stale_kick : NULL);
        guest->stale = stale;
    }
}

void isolation_iommu_changed(VirtIOIsolation *guest)
{
    bool was = guest->vdev->ring_as;
    bool is = guest_is_translated(guest);

    if (!guest->iotlb) {
        return;
    }
    guest_iotlb_flush(guest->iotlb);
    guest_see_rings_in(guest, is ? guest->iotlb : NULL);
    guest_set_stale(guest, is && (guest->stale || (!was &&
                    !bitmap_empty(guest->started, VIRTIO_QUEUE_MAX))));
}

void isolation_iommu_stopped(VirtIOIsolation *guest)
{
    if (guest->iotlb) {
        guest_set_stale(guest, false);
        guest_iotlb_cancel(guest->iotlb);
    }
}

void isolation_iommu_check_rings(VirtIOIsolation *guest)
{
    if (!guest_is_translated(guest) || guest->stale) {
        return;
    }
    for (unsigned n = 0; n < guest->num_queues; n++) {
        IsolatedQueue *q = guest->queues[n];

        if (!test_bit(n, guest->started) || isolated_queue_attached(q)) {
            continue;
        }
        if (!guest_is_told(guest)) {
            isolated_queue_guest_fault(q, "the IOMMU does not tell what it "
                                       "unmaps, so a ring behind it is not "
                                       "supported with memory-isolation=on");
        } else if (isolated_queue_reach_rings(q) == GUEST_REACH_NEVER) {
            isolated_queue_guest_fault(q, "a ring is not in RAM, or the IOMMU "
                                       "does not allow the access");
        }
    }
}
