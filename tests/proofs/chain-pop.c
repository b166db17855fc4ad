/*
 * Proofs of chain pop: any ring, any indirect table, in memory that the guest
 * changes as it is read.
 *
 * What virtio-chain.c takes from QEMU is below, as loosely as it can be: guest
 * memory and the answers about it are any value each time they are asked for,
 * accesses are checked against what was granted.  VIRTQUEUE_MAX_SIZE is CHAIN_LIMIT here; nothing depends on how
 * large it is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "hw/virtio/virtio.h"

typedef struct MemoryRegion {
    void *ram_block;
} MemoryRegion;

typedef struct MemoryRegionCache {
    uint8_t *ptr;
    hwaddr len;
    struct {
        MemoryRegion *mr;
    } mrs;
} MemoryRegionCache;

typedef struct VRingDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} VRingDesc;

typedef struct VRingPackedDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t id, flags;
} VRingPackedDesc;

typedef struct VRingPackedDescEvent {
    uint16_t off_wrap, flags;
} VRingPackedDescEvent;

typedef struct VRingAvail {
    uint16_t flags, idx;
    uint16_t ring[];
} VRingAvail;

typedef struct VRingUsed {
    uint16_t flags, idx;
    struct {
        uint32_t id, len;
    } ring[];
} VRingUsed;

typedef struct VRingMemoryRegionCaches {
    MemoryRegionCache desc, avail, used;
} VRingMemoryRegionCaches;

struct VirtQueue {
    struct {
        unsigned num;
        hwaddr desc;
    } vring;
    uint16_t last_avail_idx, shadow_avail_idx, used_idx;
    bool last_avail_wrap_counter, shadow_avail_wrap_counter;
    unsigned inuse;
    VirtIODevice *vdev;
};

#define RAM_BYTES 65536

/*
 * Translation ends where a piece of RAM does, which may be after any byte:
 * proof_copy().  Elsewhere a descriptor lies in two pieces at most.
 */
#ifndef MIN_PIECE
#define MIN_PIECE sizeof(VRingDesc)
#endif

/* Split or packed, if a proof is of one format only. */
#ifndef STEP
#define STEP nondet_bool()
#endif

static uint8_t ring_mem[CHAIN_LIMIT * sizeof(VRingDesc)];
static uint8_t other_mem[1];
static uint8_t ram_mem[RAM_BYTES];
/* The piece of ram_mem that may be read now. */
static uint64_t piece_start, piece_bytes;
static MemoryRegion region;
static VRingMemoryRegionCaches caches_mem;
static VRingMemoryRegionCaches *caches;
static bool packed, event_idx, big_lock;
static unsigned ring_num;

uint64_t proof_read(const volatile void *from, size_t bytes)
{
    (void)from;
    (void)bytes;
    /* The guest sets the size; QEMU takes no larger one. */
    ring_num = nondet_u32();
    ASSUME(ring_num <= VIRTQUEUE_MAX_SIZE);
    return ring_num;
}

void proof_write(volatile void *to, size_t bytes, uint64_t value)
{
    (void)to;
    (void)bytes;
    (void)value;
    PROVE(false, "nothing is written to shared memory");
}

/* Every copy is one from guest memory. */
static void guest_copy(void *to, const void *from, size_t bytes)
{
    uint64_t at = __CPROVER_POINTER_OFFSET(from);

    PROVE(__CPROVER_same_object(from, ring_mem) ?
          at + bytes <= caches_mem.desc.len :
          __CPROVER_same_object(from, ram_mem) && at >= piece_start &&
          at + bytes <= piece_start + piece_bytes,
          "guest memory is read only where it was granted");
    PROVE(__CPROVER_w_ok(to, bytes), "what is read has room");
    /* All of the descriptor: what was read before may not be relied on. */
    __CPROVER_havoc_object(to);
}

#define memcpy(to, from, bytes) guest_copy((to), (from), (bytes))

static bool virtio_vdev_has_feature(VirtIODevice *vdev, unsigned bit)
{
    (void)vdev;
    return bit == VIRTIO_F_RING_PACKED ? packed :
           bit == VIRTIO_RING_F_EVENT_IDX ? event_idx : nondet_bool();
}

static VRingMemoryRegionCaches *vring_get_region_caches(VirtQueue *vq)
{
    (void)vq;
    return caches;
}

/* QEMU's asserts the length, and takes the BQL where there is no RAM. */
static uint16_t virtio_lduw_phys_cached(VirtIODevice *vdev,
                                        MemoryRegionCache *cache, hwaddr at)
{
    (void)vdev;
    PROVE(at < cache->len && cache->len - at >= sizeof(uint16_t),
          "a ring is read inside its region");
    PROVE(cache->ptr || big_lock, "a thread without the BQL does not take it");
    return nondet_u16();
}

static void vring_packed_desc_read_flags(VirtIODevice *vdev, uint16_t *flags,
                                         MemoryRegionCache *cache, int i)
{
    *flags = virtio_lduw_phys_cached(vdev, cache,
        (hwaddr)i * sizeof(VRingPackedDesc) +
        offsetof(VRingPackedDesc, flags));
}

static MemoryRegion *address_space_translate(void *as, hwaddr addr,
                                             hwaddr *xlat, hwaddr *len,
                                             bool is_write, int attrs)
{
    hwaddr asked = *len;

    (void)as;
    (void)addr;
    (void)is_write;
    (void)attrs;
    PROVE(asked > 0, "no empty piece is asked for");
    *xlat = nondet_u64();
    *len = nondet_u64();
    ASSUME(*xlat < RAM_BYTES && *len <= asked && *len <= RAM_BYTES - *xlat);
    ASSUME(*len >= MIN(asked, MIN_PIECE));
    piece_start = *xlat;
    piece_bytes = *len;
    return &region;
}

static void *qemu_map_ram_ptr(void *block, hwaddr at)
{
    (void)block;
    return ram_mem + at;
}

#define MEMTXATTRS_UNSPECIFIED 0
#define memory_region_is_ram(mr) nondet_bool()
#define memory_access_is_direct(mr, is_write, attrs) nondet_bool()
#define memory_region_get_iommu(mr) nondet_bool()
#define virtio_device_disabled(vdev) nondet_bool()
#define is_desc_avail(flags, wrap) nondet_bool()
#define bql_locked() big_lock
#define vring_set_avail_event(vq, idx) ((void)0)
#define virtio_tswap64s(vdev, value) ((void)0)
#define virtio_tswap32s(vdev, value) ((void)0)
#define virtio_tswap16s(vdev, value) ((void)0)
#define trace_virtqueue_pop(vq, chain, in, out) ((void)0)
#define RCU_READ_LOCK_GUARD() ((void)0)

#include "hw/virtio/virtio-chain.c"
#include "hw/virtio/virtio-chain-undo.c"

static MemoryRegionCache any_cache(uint8_t *mem, hwaddr bytes)
{
    MemoryRegionCache cache = {
        .ptr = nondet_bool() ? mem : NULL,
        .len = nondet_u64(),
        .mrs.mr = &region,
    };

    ASSUME(cache.len <= bytes);
    return cache;
}

static VirtQueue any_queue(VirtIODevice *vdev)
{
    VirtQueue vq = {
        .vring.desc = nondet_u64(),
        .last_avail_idx = nondet_u16(),
        .shadow_avail_idx = nondet_u16(),
        .last_avail_wrap_counter = nondet_bool(),
        .shadow_avail_wrap_counter = nondet_bool(),
        .inuse = nondet_u32(),
        .vdev = vdev,
    };

    packed = STEP;
    event_idx = nondet_bool();
    big_lock = nondet_bool();
    caches_mem.desc = any_cache(ring_mem, sizeof(ring_mem));
    caches_mem.avail = any_cache(other_mem, UINT64_MAX);
    caches_mem.used = any_cache(other_mem, UINT64_MAX);
    caches = nondet_bool() ? &caches_mem : NULL;
    return vq;
}

/* One descriptor of a table, after any others, in pieces of any size. */
void proof_copy(void)
{
    VirtIODevice vdev = { 0 };
    ChainTable table = { .vdev = &vdev, .base = nondet_u64() };
    ChainDesc raw;
    uint32_t i = nondet_u32();
    uint32_t size = nondet_u32();

    ASSUME(!chain_table_enter(&table, nondet_u64(), size));
    PROVE(table.num_descs > 0 && table.num_descs * sizeof(raw) == size,
          "a table is as long as the guest said, in whole descriptors");
    ASSUME(i < table.num_descs);
    if (nondet_bool()) {
        /* As an earlier descriptor left it. */
        hwaddr at = nondet_u64();

        ASSUME(at < size && chain_table_move(&table, at));
    }
    chain_table_copy(&table, (hwaddr)i * sizeof(raw), &raw);
}

/* The buffers of @chain add up, and none is empty. */
static void check_chain(const VirtQueueChain *chain)
{
    unsigned num = chain->num_out + chain->num_in;
    uint64_t bytes_out = 0, bytes_in = 0;

    PROVE(num > 0 && num <= chain->capacity,
          "a chain has a buffer, and not more than fit");
    for (unsigned i = 0; i < CHAIN_LIMIT && i < num; i++) {
        PROVE(chain->bufs[i].len > 0, "no buffer is empty");
        if (i < chain->num_out) {
            bytes_out += chain->bufs[i].len;
        } else {
            bytes_in += chain->bufs[i].len;
        }
    }
    PROVE(chain->bytes_out == bytes_out && chain->bytes_in == bytes_in,
          "the bytes of a chain are those of its buffers");
}

static bool same_place(const VirtQueue *a, const VirtQueue *b)
{
    return a->last_avail_idx == b->last_avail_idx &&
           a->last_avail_wrap_counter == b->last_avail_wrap_counter &&
           a->inuse == b->inuse;
}

void proof_pop(void)
{
    VirtIODevice vdev = { 0 };
    VirtQueue vq = any_queue(&vdev);
    VirtQueue before = vq;
    VirtQueueBuf bufs[CHAIN_LIMIT];
    VirtQueueChain chain = { .capacity = CHAIN_LIMIT, .bufs = bufs };
    const char *fault = NULL;
    VirtQueueChainResult result = virtqueue_pop_chain(&vq, &chain, &fault);

    PROVE((result == VIRTQUEUE_CHAIN_BAD) == !!fault,
          "a bad chain, and no other, has a fault");
    if (result != VIRTQUEUE_CHAIN_OK) {
        PROVE(same_place(&vq, &before), "nothing is popped but a good chain");
        return;
    }
    check_chain(&chain);
    PROVE(packed || chain.head < ring_num, "a split head is in the ring");
    PROVE(chain.ndescs > 0 && chain.ndescs <= ring_num &&
          vq.inuse == before.inuse + chain.ndescs && vq.inuse <= ring_num,
          "no more is in flight than the ring holds");
    PROVE(!packed || vq.last_avail_idx < ring_num,
          "the next packed descriptor is in the ring");

    /* The size did not change meanwhile; else the queue is looked at anew. */
    vq.vring.num = ring_num;
    virtqueue_unpop_chain(&vq, &chain);
    PROVE(same_place(&vq, &before), "un-pop undoes pop");
}
