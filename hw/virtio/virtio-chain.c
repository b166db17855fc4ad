/*
 * Descriptor chains popped from the guest without mapping their buffers.
 *
 * virtqueue_pop() hands out host pointers.  Whoever copies every request needs
 * none: mapping takes references, runs out where memory is not RAM, splits
 * buffers where RAM blocks meet, and reports errors from a thread that may not
 * wait for the BQL.  What is popped here is the chain as the guest wrote it, in
 * the caller's storage, or a sentence that says what is wrong with it.
 *
 * The guest may change every byte that is read here at any moment:
 *
 * - A descriptor is read once, into a local; what is checked is what is used.
 * - Rings are read through the region caches.  Their accessors assert the
 *   length, and take the BQL where there is no RAM; so rings_usable() comes
 *   first, on the same caches and the same size, in one RCU read section.
 * - Descriptors, in the ring or in an indirect table, are read straight from
 *   RAM (ChainTable), or the chain is bad.
 * - Nothing is popped before the whole chain was found right.
 *
 * A split chain follows "next", also from the ring into one indirect table at
 * its end; a packed one is a run of ring slots, or all of one indirect table.
 *
 * Not here: the used ring and notification, and VIRTIO_F_IN_ORDER (each pop
 * would have to leave a note to virtqueue_flush()).
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "standard-headers/linux/virtio_ring.h"
#include "virtio-chain.h"
#include "virtio-queue-internal.h"
#include "trace.h"

/* A descriptor, in the ring or in an indirect table. */
typedef union ChainDesc {
    VRingDesc split;
    VRingPackedDesc packed;
} ChainDesc;

/* Where a descriptor table is.  Valid within one RCU read section. */
typedef struct ChainTable {
    VirtIODevice *vdev;
    hwaddr base;                /* address of the table */
    uint32_t num_descs;
    /* The piece of it, in bytes from @base, that lies at @host. */
    const uint8_t *host;
    hwaddr start, end;
} ChainTable;

static ChainTable chain_table_of_ring(const VirtQueue *vq,
                                      const VRingMemoryRegionCaches *caches,
                                      unsigned num)
{
    return (ChainTable) {
        .vdev = vq->vdev,
        .base = vq->vring.desc,
        .num_descs = num,
        .host = caches->desc.ptr,
        .end = caches->desc.ptr ? num * sizeof(ChainDesc) : 0,
    };
}

/* From the ring into the indirect table that one of its entries points to. */
static const char *chain_table_enter(ChainTable *table, hwaddr base,
                                     uint32_t size)
{
    /* virtio 1.2, 2.7.5.3 and 2.8.7: any address, whole entries */
    if (size == 0 || size % sizeof(ChainDesc)) {
        return "an indirect table has a bad size";
    }
    *table = (ChainTable) {
        .vdev = table->vdev,
        .base = base,
        .num_descs = size / sizeof(ChainDesc),
    };
    return NULL;
}

/* Make the piece the one that begins at @offset. */
static bool chain_table_move(ChainTable *table, hwaddr offset)
{
    hwaddr len = table->num_descs * sizeof(ChainDesc) - offset;
    hwaddr xlat;
    MemoryRegion *mr;

    mr = address_space_translate(virtio_ring_as(table->vdev),
                                 table->base + offset,
                                 &xlat, &len, false, MEMTXATTRS_UNSPECIFIED);
    /*
     * A ROM device can be read directly too, but it is not RAM, and only for
     * RAM does a translation end where the region ends.
     */
    if (!memory_region_is_ram(mr) ||
        !memory_access_is_direct(mr, false, MEMTXATTRS_UNSPECIFIED)) {
        return false;
    }
    table->host = qemu_map_ram_ptr(mr->ram_block, xlat);
    table->start = offset;
    table->end = offset + len;
    return true;
}

static inline bool chain_table_copy(ChainTable *table, hwaddr offset, void *dest)
{
    size_t len;

    if (likely(offset >= table->start &&
               offset + sizeof(ChainDesc) <= table->end)) {
        memcpy(dest, table->host + (offset - table->start), sizeof(ChainDesc));
        return true;
    }
    for (size_t done = 0; done < sizeof(ChainDesc); done += len) {
        hwaddr at = offset + done;

        if ((at < table->start || at >= table->end) &&
            !chain_table_move(table, at)) {
            return false;
        }
        len = MIN(sizeof(ChainDesc) - done, table->end - at);
        memcpy(dest + done, table->host + (at - table->start), len);
    }
    return true;
}

/* Read entry @i, less than num_descs.  The fault or NULL. */
static const char *chain_table_read(ChainTable *table, uint32_t i,
                                    ChainDesc *desc)
{
    if (!chain_table_copy(table, (hwaddr)i * sizeof(*desc), desc)) {
        return "a descriptor table is not in RAM";
    }
    /* Every byte once: no check may be on another value than its use. */
    barrier();
    QEMU_BUILD_BUG_ON(sizeof(desc->split) != sizeof(desc->packed));
    virtio_tswap64s(table->vdev, &desc->split.addr);
    virtio_tswap32s(table->vdev, &desc->split.len);
    /* Two words of 16 bits: flags and next, or id and flags. */
    virtio_tswap16s(table->vdev, &desc->split.flags);
    virtio_tswap16s(table->vdev, &desc->split.next);
    return NULL;
}

static VirtQueueRings cache_usable(const MemoryRegionCache *cache, hwaddr size)
{
    if (cache->len < size) {
        return VIRTQUEUE_RINGS_UNUSABLE;
    }
    if (cache->ptr) {
        return VIRTQUEUE_RINGS_DIRECT;
    }
    return memory_region_get_iommu(cache->mrs.mr) ? VIRTQUEUE_RINGS_TRANSLATED
                                                  : VIRTQUEUE_RINGS_UNUSABLE;
}

/* Can a queue of @num entries be accessed through @caches? */
static VirtQueueRings rings_usable(VirtQueue *vq,
                                   const VRingMemoryRegionCaches *caches,
                                   unsigned num)
{
    hwaddr avail_size, used_size;

    if (virtio_vdev_has_feature(vq->vdev, VIRTIO_F_RING_PACKED)) {
        avail_size = used_size = sizeof(VRingPackedDescEvent);
    } else {
        avail_size = offsetof(VRingAvail, ring[num]);
        used_size = offsetof(VRingUsed, ring[num]);
        if (virtio_vdev_has_feature(vq->vdev, VIRTIO_RING_F_EVENT_IDX)) {
            avail_size += sizeof(uint16_t);
            used_size += sizeof(uint16_t);
        }
    }
    /* The enum goes from best to worst. */
    return MAX(cache_usable(&caches->desc, num * sizeof(ChainDesc)),
               MAX(cache_usable(&caches->avail, avail_size),
                   cache_usable(&caches->used, used_size)));
}

VirtQueueRings virtqueue_rings(VirtQueue *vq)
{
    VRingMemoryRegionCaches *caches;

    RCU_READ_LOCK_GUARD();
    caches = vring_get_region_caches(vq);
    return caches ? rings_usable(vq, caches, qatomic_read(&vq->vring.num)) :
                    VIRTQUEUE_RINGS_UNUSABLE;
}

/* Rules for one buffer, alike in both formats. */
static inline const char *chain_add(VirtQueueChain *chain, hwaddr addr,
                                    uint32_t len, bool writable)
{
    unsigned num = chain->num_out + chain->num_in;

    if (len == 0) {
        return "a buffer has no bytes";
    }
    if (num == VIRTQUEUE_MAX_SIZE) {
        return "a chain has too many buffers";
    }
    if (writable) {
        chain->num_in++;
        chain->bytes_in += len;
    } else {
        /* virtio 1.2, 2.7.4.2 and 2.8.5 */
        if (chain->num_in) {
            return "a device-readable buffer follows a device-writable one";
        }
        chain->num_out++;
        chain->bytes_out += len;
    }
    chain->bufs[num].addr = addr;
    chain->bufs[num].len = len;
    return NULL;
}

/* Walk a split chain from ring entry @i on.  Returns the fault or NULL. */
static const char *chain_walk_split(ChainTable *table, uint32_t i,
                                    VirtQueueChain *chain)
{
    bool indirect = false;
    uint32_t left = table->num_descs;
    ChainDesc raw;
    const VRingDesc *desc = &raw.split;
    const char *fault;

    for (;;) {
        fault = left-- ? chain_table_read(table, i, &raw) :
                         "a descriptor chain loops";
        if (fault) {
            return fault;
        }
        if (desc->flags & VRING_DESC_F_INDIRECT) {
            /* virtio 1.2, 2.7.5.3.1 */
            if (indirect) {
                return "an indirect table has an indirect descriptor";
            }
            if (desc->flags & VRING_DESC_F_NEXT) {
                return "an indirect descriptor has a next one";
            }
            fault = chain_table_enter(table, desc->addr, desc->len);
            if (fault) {
                return fault;
            }
            indirect = true;
            left = table->num_descs;
            i = 0;
            continue;
        }

        fault = chain_add(chain, desc->addr, desc->len,
                          desc->flags & VRING_DESC_F_WRITE);
        if (fault || !(desc->flags & VRING_DESC_F_NEXT)) {
            return fault;
        }
        if (desc->next >= table->num_descs) {
            return "the next descriptor is outside its table";
        }
        i = desc->next;
    }
}

/*
 * Walk an indirect table of a packed ring.  virtio 1.2, 2.8.7: its entries
 * are all there is, in order; ids and flags other than WRITE mean nothing
 * (drivers do set NEXT), but a table within a table is refused here too.
 */
static const char *chain_walk_packed_indirect(ChainTable *table,
                                              const VRingPackedDesc *entry,
                                              VirtQueueChain *chain)
{
    const char *fault = chain_table_enter(table, entry->addr, entry->len);
    ChainDesc raw;
    const VRingPackedDesc *desc = &raw.packed;

    for (uint32_t i = 0; !fault && i < table->num_descs; i++) {
        fault = chain_table_read(table, i, &raw);
        if (fault) {
            return fault;
        }
        if (desc->flags & VRING_DESC_F_INDIRECT) {
            return "an indirect table has an indirect descriptor";
        }
        fault = chain_add(chain, desc->addr, desc->len,
                          desc->flags & VRING_DESC_F_WRITE);
    }
    return fault;
}

/*
 * Walk a packed chain from ring slot @i on, whose flags were read as
 * @head_flags.  Sets head and ndescs too.  Returns the fault or NULL.
 */
static const char *chain_walk_packed(ChainTable *table, uint32_t i,
                                     uint16_t head_flags,
                                     VirtQueueChain *chain)
{
    ChainDesc raw;
    VRingPackedDesc *desc = &raw.packed;
    const char *fault;

    chain->ndescs = 0;
    do {
        fault = chain->ndescs < table->num_descs ?
                chain_table_read(table, i, &raw) :
                "a descriptor chain is longer than the ring";
        if (fault) {
            return fault;
        }
        if (chain->ndescs++ == 0) {
            desc->flags = head_flags;
        }
        if (desc->flags & VRING_DESC_F_INDIRECT) {
            /* virtio 1.2, 2.8.7: no lists of mixed type */
            if (chain->ndescs > 1 || (desc->flags & VRING_DESC_F_NEXT)) {
                return "an indirect descriptor is not alone";
            }
            chain->head = desc->id;
            return chain_walk_packed_indirect(table, desc, chain);
        }
        fault = chain_add(chain, desc->addr, desc->len,
                          desc->flags & VRING_DESC_F_WRITE);
        if (fault) {
            return fault;
        }
        i = i + 1 == table->num_descs ? 0 : i + 1;
    } while (desc->flags & VRING_DESC_F_NEXT);
    /* virtio 1.2, 2.8.6: the id is that of the last descriptor. */
    chain->head = desc->id;
    return NULL;
}

static bool chain_available_split(VirtQueue *vq,
                                  VRingMemoryRegionCaches *caches)
{
    if (vq->shadow_avail_idx == vq->last_avail_idx) {
        vq->shadow_avail_idx =
            virtio_lduw_phys_cached(vq->vdev, &caches->avail,
                                    offsetof(VRingAvail, idx));
    }
    return vq->shadow_avail_idx != vq->last_avail_idx;
}

static const char *chain_pop_split(VirtQueue *vq,
                                   VRingMemoryRegionCaches *caches,
                                   unsigned num, VirtQueueChain *chain)
{
    ChainTable table = chain_table_of_ring(vq, caches, num);
    const char *fault;

    if ((uint16_t)(vq->shadow_avail_idx - vq->last_avail_idx) > num) {
        return "the available index ran ahead of the ring";
    }
    if (vq->inuse >= num) {
        return "more is in flight than the ring holds";
    }
    /*
     * Our load of the available index, perhaps in an earlier call, before our
     * loads of what it covers; the driver stores them in the opposite order.
     * Without it, a stale ring entry or descriptor could be used.
     */
    smp_rmb();
    chain->head = virtio_lduw_phys_cached(vq->vdev, &caches->avail,
        offsetof(VRingAvail, ring[vq->last_avail_idx % num]));
    if (chain->head >= num) {
        return "an available chain begins outside the ring";
    }
    chain->ndescs = 1;
    fault = chain_walk_split(&table, chain->head, chain);
    if (fault) {
        return fault;
    }

    vq->last_avail_idx++;
    vq->inuse++;
    if (virtio_vdev_has_feature(vq->vdev, VIRTIO_RING_F_EVENT_IDX)) {
        /* Writes nothing while notification is off. */
        vring_set_avail_event(vq, vq->last_avail_idx);
    }
    return NULL;
}

static bool chain_available_packed(VirtQueue *vq,
                                   VRingMemoryRegionCaches *caches,
                                   uint16_t *flags)
{
    vring_packed_desc_read_flags(vq->vdev, flags, &caches->desc,
                                 vq->last_avail_idx);
    return is_desc_avail(*flags, vq->last_avail_wrap_counter);
}

static const char *chain_pop_packed(VirtQueue *vq,
                                    VRingMemoryRegionCaches *caches,
                                    unsigned num, uint16_t flags,
                                    VirtQueueChain *chain)
{
    ChainTable table = chain_table_of_ring(vq, caches, num);
    const char *fault;

    /*
     * Our load of the head's flags before our loads of everything else; the
     * driver stores those flags last.  Without it, the rest of the chain could
     * be what was there before.
     */
    smp_rmb();
    fault = chain_walk_packed(&table, vq->last_avail_idx, flags, chain);
    if (fault) {
        return fault;
    }
    if (vq->inuse >= num || chain->ndescs > num - vq->inuse) {
        return "more is in flight than the ring holds";
    }

    vq->inuse += chain->ndescs;
    vq->last_avail_idx += chain->ndescs;
    if (vq->last_avail_idx >= num) {
        vq->last_avail_idx -= num;
        vq->last_avail_wrap_counter = !vq->last_avail_wrap_counter;
    }
    /* Where the driver goes on: what to ask a notification for. */
    vq->shadow_avail_idx = vq->last_avail_idx;
    vq->shadow_avail_wrap_counter = vq->last_avail_wrap_counter;
    return NULL;
}

/* What is wrong with the ring, whatever is in it? */
static const char *ring_validate(VirtQueue *vq, VirtQueueRings rings,
                                 unsigned num, bool packed)
{
    if (rings == VIRTQUEUE_RINGS_UNUSABLE) {
        return "the ring is not in RAM";
    }
    /* They came with a migration, or were the next ones of a larger ring. */
    if (packed && vq->last_avail_idx >= num) {
        return "the next descriptor is outside the ring";
    }
    if (packed && vq->used_idx >= num) {
        return "the next used descriptor is outside the ring";
    }
    return NULL;
}

VirtQueueChainResult virtqueue_pop_chain(VirtQueue *vq, VirtQueueChain *chain,
                                         const char **fault)
{
    bool packed = virtio_vdev_has_feature(vq->vdev, VIRTIO_F_RING_PACKED);
    unsigned num = qatomic_read(&vq->vring.num);
    VRingMemoryRegionCaches *caches;
    VirtQueueRings rings;
    uint16_t flags;

    assert(chain->capacity >= VIRTQUEUE_MAX_SIZE);
    RCU_READ_LOCK_GUARD();
    caches = vring_get_region_caches(vq);
    if (virtio_device_disabled(vq->vdev) || !caches || num == 0) {
        return VIRTQUEUE_CHAIN_EMPTY;
    }
    rings = rings_usable(vq, caches, num);
    if (rings == VIRTQUEUE_RINGS_TRANSLATED && !vq->vdev->ring_as &&
        !bql_locked()) {
        /* Only just so; whoever moves the queue looks at it again. */
        return VIRTQUEUE_CHAIN_EMPTY;
    }
    *fault = ring_validate(vq, rings, num, packed);
    if (*fault) {
        return VIRTQUEUE_CHAIN_BAD;
    }
    if (packed ? !chain_available_packed(vq, caches, &flags) :
                 !chain_available_split(vq, caches)) {
        return VIRTQUEUE_CHAIN_EMPTY;
    }

    chain->num_out = chain->num_in = 0;
    chain->bytes_out = chain->bytes_in = 0;
    *fault = packed ? chain_pop_packed(vq, caches, num, flags, chain) :
                      chain_pop_split(vq, caches, num, chain);
    if (*fault) {
        return VIRTQUEUE_CHAIN_BAD;
    }
    trace_virtqueue_pop(vq, chain, chain->num_in, chain->num_out);
    return VIRTQUEUE_CHAIN_OK;
}
