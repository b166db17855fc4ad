/*
 * What the guest's IOMMU has said about a device's addresses.
 *
 * QEMU's accessors ask an IOMMU at each access, and that may run any device:
 * page tables can lie in registers, and a fault is reported with an interrupt,
 * a store to wherever the guest has led it.  A reset, an unplug, or a second
 * entry could then happen in the middle of a completion, in a thread that does
 * not hold the BQL.
 *
 * So the data path never asks.  It looks up here, and what is not known it
 * wants: a bottom half of the main loop asks the IOMMU, with nothing on the
 * stack but an address, and the queue that waits is woken.  When it returns
 * the device may be gone (@vdev is NULL then), and what was true may have been
 * unmapped meanwhile (@generation has changed): the answer is dropped, and who
 * still needs it wants it again.
 *
 * What the guest unmaps is forgotten before its IOMMU says that it is done, with
 * the data path paused; a change of the guest's memory forgets all.  What is
 * known leads to RAM.
 *
 * The same is an address space with an IOMMU of its own in it, which answers
 * from here.  Rings go through that, because QEMU's accessors for rings know
 * nothing else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iova-tree.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "hw/virtio/virtio.h"
#include "guest-iotlb.h"

#define PAGE_SIZE_MIN 4096
#define PAGE_OFFSET (PAGE_SIZE_MIN - 1)

/* What is wanted or refused at one moment; the rest is wanted again later. */
#define MAX_PAGES 1024

#define TYPE_GUEST_IOTLB "guest-iotlb"
#define TYPE_GUEST_IOTLB_MEMORY_REGION "guest-iotlb-memory-region"
OBJECT_DECLARE_SIMPLE_TYPE(GuestIotlb, GUEST_IOTLB)

typedef struct GuestIotlbPage {
    hwaddr iova;
    IOMMUAccessFlags perm;      /* IOMMU_RO or IOMMU_WO */
} GuestIotlbPage;

/*
 * An object, because the memory region in it is one whose owner is asked for
 * references by flat views and ring caches, which RCU frees.
 */
struct GuestIotlb {
    Object parent_obj;
    IOMMUMemoryRegion region;
    AddressSpace as;

    /* The thread that holds the BQL. */
    VirtIODevice *vdev;         /* NULL: it has gone */
    const GuestIotlbUser *user;
    void *opaque;
    unsigned generation;        /* of what is known */
    unsigned limit;

    QemuMutex lock;             /* innermost */
    QEMUBH *ask;
    IOVATree *known;
    unsigned num_known;
    GArray *wanted, *refused;   /* of GuestIotlbPage */
    unsigned num_wanted;        /* ever; read with qatomic_read() */
};

typedef struct GuestIotlbClass {
    ObjectClass parent_class;
} GuestIotlbClass;

static IOMMUAccessFlags access_flag(bool is_write)
{
    return is_write ? IOMMU_WO : IOMMU_RO;
}

/* Index, or -1. */
static int page_find(GArray *pages, const GuestIotlbPage *page)
{
    for (unsigned i = 0; i < pages->len; i++) {
        GuestIotlbPage *other = &g_array_index(pages, GuestIotlbPage, i);

        if (other->iova == page->iova && other->perm == page->perm) {
            return i;
        }
    }
    return -1;
}

static bool page_take(GArray *pages, const GuestIotlbPage *page)
{
    int i = page_find(pages, page);

    if (i >= 0) {
        g_array_remove_index_fast(pages, i);
    }
    return i >= 0;
}

/*
 * Never twice: by the time the second answer comes, who wanted it may have used
 * the first and given the page back, and the IOMMU would report a fault.
 */
static void want(GuestIotlb *iotlb, const GuestIotlbPage *page)
{
    if (!iotlb->ask) {
        return;
    }
    qatomic_set(&iotlb->num_wanted, iotlb->num_wanted + 1);
    if (iotlb->wanted->len < MAX_PAGES && page_find(iotlb->wanted, page) < 0) {
        g_array_append_val(iotlb->wanted, *page);
    }
    qemu_bh_schedule(iotlb->ask);
}

GuestReach guest_iotlb_find(GuestIotlb *iotlb, hwaddr iova, bool is_write,
                            hwaddr *gpa, hwaddr *len)
{
    const GuestIotlbPage page = {
        .iova = iova & ~(hwaddr)PAGE_OFFSET,
        .perm = access_flag(is_write),
    };
    const DMAMap here = { .iova = iova };
    const DMAMap *map;

    QEMU_LOCK_GUARD(&iotlb->lock);
    map = iova_tree_find(iotlb->known, &here);
    if (map && (map->perm & page.perm)) {
        *gpa = map->translated_addr + (iova - map->iova);
        *len = map->size - (iova - map->iova) + 1;
        return GUEST_REACH_NOW;
    }
    *len = PAGE_SIZE_MIN - (iova & PAGE_OFFSET);
    if (page_take(iotlb->refused, &page)) {
        return GUEST_REACH_NEVER;
    }
    want(iotlb, &page);
    return GUEST_REACH_LATER;
}

unsigned guest_iotlb_wanted(const GuestIotlb *iotlb)
{
    return qatomic_read(&iotlb->num_wanted);
}

static IOMMUTLBEntry iotlb_translate(IOMMUMemoryRegion *region, hwaddr addr,
                                     IOMMUAccessFlags flag, int index)
{
    GuestIotlb *iotlb = container_of(region, GuestIotlb, region);
    IOMMUTLBEntry entry = {
        .target_as = &address_space_memory,
        .iova = addr & ~(hwaddr)PAGE_OFFSET,
        .addr_mask = PAGE_OFFSET,
        .perm = IOMMU_NONE,
    };
    hwaddr gpa, len;

    if (guest_iotlb_find(iotlb, addr, flag & IOMMU_WO, &gpa, &len) ==
        GUEST_REACH_NOW) {
        entry.translated_addr = gpa & ~(hwaddr)PAGE_OFFSET;
        entry.perm = flag;
    }
    return entry;
}

/* Everything in @range; with the lock held. */
static void forget(GuestIotlb *iotlb, const DMAMap *range)
{
    const DMAMap *map;

    while ((map = iova_tree_find(iotlb->known, range))) {
        iova_tree_remove(iotlb->known, *map);
        iotlb->num_known--;
    }
}

void guest_iotlb_flush(GuestIotlb *iotlb)
{
    QEMU_LOCK_GUARD(&iotlb->lock);
    iotlb->generation++;
    iova_tree_destroy(iotlb->known);
    iotlb->known = iova_tree_new();
    iotlb->num_known = 0;
    g_array_set_size(iotlb->refused, 0);
}

void guest_iotlb_cancel(GuestIotlb *iotlb)
{
    QEMU_LOCK_GUARD(&iotlb->lock);
    g_array_set_size(iotlb->wanted, 0);
    g_array_set_size(iotlb->refused, 0);
}

void guest_iotlb_unmap(GuestIotlb *iotlb, hwaddr iova, hwaddr mask)
{
    const DMAMap range = { .iova = iova, .size = mask };
    bool used;

    WITH_QEMU_LOCK_GUARD(&iotlb->lock) {
        iotlb->generation++;
        g_array_set_size(iotlb->refused, 0);
        used = iova_tree_find(iotlb->known, &range);
    }
    if (!used) {
        return;
    }
    iotlb->user->pause(iotlb->opaque);
    WITH_QEMU_LOCK_GUARD(&iotlb->lock) {
        forget(iotlb, &range);
    }
    iotlb->user->again(iotlb->opaque);
}

void guest_iotlb_wake(GuestIotlb *iotlb)
{
    qemu_bh_schedule(iotlb->ask);
}

/* The piece of RAM that @entry leads to; false if that is none. */
static bool find_ram(const IOMMUTLBEntry *entry, const GuestIotlbPage *page,
                     DMAMap *map)
{
    hwaddr len = entry->addr_mask + 1;
    bool is_write = page->perm & IOMMU_WO;
    hwaddr offset;
    MemoryRegion *mr;

    if (entry->perm == IOMMU_NONE || entry->target_as != &address_space_memory ||
        entry->addr_mask < PAGE_OFFSET) {
        return false;
    }
    *map = (DMAMap) {
        .iova = entry->iova,
        .translated_addr = entry->translated_addr,
        .size = entry->addr_mask,
        .perm = page->perm,
    };
    mr = address_space_translate(entry->target_as, map->translated_addr,
                                 &offset, &len, is_write,
                                 MEMTXATTRS_UNSPECIFIED);
    if (len <= map->size) {
        /* A large page over the end of a RAM block. */
        map->translated_addr += page->iova - map->iova;
        map->iova = page->iova;
        map->size = PAGE_OFFSET;
        len = PAGE_SIZE_MIN;
        mr = address_space_translate(entry->target_as, map->translated_addr,
                                     &offset, &len, is_write,
                                     MEMTXATTRS_UNSPECIFIED);
    }
    return len > map->size && memory_region_is_ram(mr) &&
           memory_access_is_direct(mr, is_write, MEMTXATTRS_UNSPECIFIED);
}

static void learn(GuestIotlb *iotlb, DMAMap *map)
{
    const DMAMap *old;

    if (iotlb->num_known >= iotlb->limit) {
        iotlb->user->pause(iotlb->opaque);
        guest_iotlb_flush(iotlb);
    }
    QEMU_LOCK_GUARD(&iotlb->lock);
    old = iova_tree_find(iotlb->known, map);
    if (old && old->iova == map->iova && old->size == map->size &&
        old->translated_addr == map->translated_addr) {
        map->perm |= old->perm;
    }
    forget(iotlb, map);
    if (iova_tree_insert(iotlb->known, map) == IOVA_OK) {
        iotlb->num_known++;
    }
}

static void refuse(GuestIotlb *iotlb, const GuestIotlbPage *page)
{
    QEMU_LOCK_GUARD(&iotlb->lock);
    if (iotlb->refused->len < MAX_PAGES) {
        g_array_append_val(iotlb->refused, *page);
    }
}

static void ask_for_page(GuestIotlb *iotlb, const GuestIotlbPage *page)
{
    unsigned generation = iotlb->generation;
    IOMMUTLBEntry entry;
    DMAMap map;

    RCU_READ_LOCK_GUARD();
    entry = address_space_get_iotlb_entry(iotlb->vdev->dma_as, page->iova,
                                          page->perm & IOMMU_WO,
                                          MEMTXATTRS_UNSPECIFIED);
    /* Anything may have happened. */
    if (!iotlb->vdev || iotlb->generation != generation) {
        return;
    }
    if (find_ram(&entry, page, &map)) {
        learn(iotlb, &map);
    } else {
        refuse(iotlb, page);
    }
}

static bool first_wanted(GuestIotlb *iotlb, GuestIotlbPage *page)
{
    QEMU_LOCK_GUARD(&iotlb->lock);
    if (!iotlb->wanted->len) {
        return false;
    }
    *page = g_array_index(iotlb->wanted, GuestIotlbPage, 0);
    return true;
}

static void no_longer_wanted(GuestIotlb *iotlb, const GuestIotlbPage *page)
{
    QEMU_LOCK_GUARD(&iotlb->lock);
    page_take(iotlb->wanted, page);
}

static void ask_for_wanted(void *opaque)
{
    GuestIotlb *iotlb = opaque;
    GuestIotlbPage page;

    object_ref(OBJECT(iotlb));
    /* Others may go on wanting meanwhile; they get the next turn. */
    for (unsigned i = 0; i < MAX_PAGES && iotlb->vdev &&
                         first_wanted(iotlb, &page); i++) {
        ask_for_page(iotlb, &page);
        no_longer_wanted(iotlb, &page);
    }
    if (iotlb->vdev) {
        iotlb->user->again(iotlb->opaque);
    }
    object_unref(OBJECT(iotlb));
}

AddressSpace *guest_iotlb_address_space(GuestIotlb *iotlb)
{
    return &iotlb->as;
}

GuestIotlb *guest_iotlb_new(VirtIODevice *vdev, const GuestIotlbUser *user,
                            void *opaque, unsigned limit)
{
    GuestIotlb *iotlb = GUEST_IOTLB(object_new(TYPE_GUEST_IOTLB));

    iotlb->vdev = vdev;
    iotlb->user = user;
    iotlb->opaque = opaque;
    iotlb->limit = limit;
    /* Not in the nested event loops of whoever waits for a disk. */
    iotlb->ask = aio_bh_new(iohandler_get_aio_context(), ask_for_wanted,
                            iotlb);
    memory_region_init_iommu(&iotlb->region, sizeof(iotlb->region),
                             TYPE_GUEST_IOTLB_MEMORY_REGION, OBJECT(iotlb),
                             "guest-iotlb", UINT64_MAX);
    address_space_init(&iotlb->as, MEMORY_REGION(&iotlb->region),
                       "guest-iotlb");
    return iotlb;
}

void guest_iotlb_free(GuestIotlb *iotlb)
{
    if (!iotlb) {
        return;
    }
    iotlb->vdev = NULL;
    guest_iotlb_flush(iotlb);
    WITH_QEMU_LOCK_GUARD(&iotlb->lock) {
        g_clear_pointer(&iotlb->ask, qemu_bh_delete);
    }
    address_space_destroy(&iotlb->as);
    object_unref(OBJECT(iotlb));
}

static void guest_iotlb_instance_init(Object *obj)
{
    GuestIotlb *iotlb = GUEST_IOTLB(obj);

    qemu_mutex_init(&iotlb->lock);
    iotlb->known = iova_tree_new();
    iotlb->wanted = g_array_new(false, false, sizeof(GuestIotlbPage));
    iotlb->refused = g_array_new(false, false, sizeof(GuestIotlbPage));
}

static void guest_iotlb_instance_finalize(Object *obj)
{
    GuestIotlb *iotlb = GUEST_IOTLB(obj);

    iova_tree_destroy(iotlb->known);
    g_array_unref(iotlb->wanted);
    g_array_unref(iotlb->refused);
    qemu_mutex_destroy(&iotlb->lock);
}

static void iotlb_memory_region_class_init(ObjectClass *klass,
                                           ClassInitData *data)
{
    IOMMU_MEMORY_REGION_CLASS(klass)->translate = iotlb_translate;
}

static const TypeInfo types[] = {
    {
        .name = TYPE_GUEST_IOTLB,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(GuestIotlb),
        .instance_init = guest_iotlb_instance_init,
        .instance_finalize = guest_iotlb_instance_finalize,
    }, {
        .name = TYPE_GUEST_IOTLB_MEMORY_REGION,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = iotlb_memory_region_class_init,
    },
};

DEFINE_TYPES(types)
