/*
 * Virtio for the load VM: modern PCI devices and both kinds of ring.
 *
 * Driver side of virtio 1.2.  Who fills a ring does not see its format: a
 * request goes in with a token and comes back with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_VIRTIO_H
#define LOADVM_VIRTIO_H

#include "machine.h"

#define MAX_DEVICES 16u
#define MAX_QUEUES 64u

#define VIRTIO_NET 1u
#define VIRTIO_BLK 2u
#define VIRTIO_SCSI 8u

#define FEATURE(bit) (1ULL << (bit))
#define F_INDIRECT FEATURE(28)
#define F_EVENT_IDX FEATURE(29)
#define F_VERSION_1 FEATURE(32)
#define F_ACCESS_PLATFORM FEATURE(33)
#define F_PACKED FEATURE(34)

typedef struct VirtioCommon VirtioCommon;

/**
 * struct VirtioDevice - a device on PCI bus 0
 * @type: VIRTIO_NET, ...
 * @slot: number on the bus, for people
 * @features: negotiated; 0 between jobs
 * @config: the device's own registers
 */
typedef struct VirtioDevice {
    uint16_t type;
    uint16_t slot;
    uint64_t features;
    volatile uint8_t *config;

    /* Of virtio-pci.c alone. */
    volatile VirtioCommon *common;
    volatile uint8_t *notify;
    uint32_t notify_multiplier;
    volatile uint32_t *vectors;
    unsigned num_vectors;
    uint16_t msix_control;       /* its place in config space */
} VirtioDevice;

/** struct Piece - guest memory of one descriptor */
typedef struct Piece {
    uint64_t address;
    uint32_t length;
} Piece;

/**
 * struct Chain - the buffers of a request
 * @pieces: those that the device reads come first
 */
typedef struct Chain {
    const Piece *pieces;
    uint16_t num_readable;
    uint16_t num_writable;
} Chain;

/** struct Used - a request that the device gave back */
typedef struct Used {
    uint32_t token;
    uint32_t length;             /* bytes that the device says it wrote */
} Used;

typedef struct Virtqueue Virtqueue;

/**
 * struct VirtqueueOps - what the formats differ in
 * @add: put a request into the ring, not yet visible; there must be room
 * @publish: show what was added; true if the device wants to be kicked
 * @take: fetch what the device gave back; false if that is nothing
 * @suppress: ask for no interrupts
 * @arm: ask for an interrupt at the next request; false if one is back already
 */
typedef struct VirtqueueOps {
    void (*add)(Virtqueue *vq, const Chain *chain, uint32_t token);
    bool (*publish)(Virtqueue *vq);
    bool (*take)(Virtqueue *vq, Used *used);
    void (*suppress)(Virtqueue *vq);
    bool (*arm)(Virtqueue *vq);
} VirtqueueOps;

typedef struct Descriptor {
    uint64_t address;
    uint32_t length;
    union {
        struct {
            uint16_t flags, next;
        } split;
        struct {
            uint16_t id, flags;
        } packed;
    };
} Descriptor;

#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u

/**
 * struct Virtqueue - what the formats have in common
 * @num_tokens: tokens are below this
 * @max_pieces: of a chain
 * @room: free descriptors
 * @kicks: written to the doorbell so far
 */
struct Virtqueue {
    const VirtqueueOps *ops;
    VirtioDevice *device;
    uint16_t index;
    uint16_t size;               /* descriptors */
    uint16_t room;
    bool event_idx;
    bool indirect;
    uint32_t num_tokens;
    uint32_t max_pieces;
    uint64_t kicks;
    volatile uint16_t *doorbell;
    Descriptor *tables;          /* max_pieces a token, if indirect */
    /* Where the device finds it. */
    uint64_t ring, driver_area, device_area;
};

/** virtio_find() - look at all of PCI bus 0; returns how many there are */
unsigned virtio_find(void);

/** virtio_device() - number @index of those of @type; NULL if there is none */
VirtioDevice *virtio_device(uint16_t type, unsigned index);

/**
 * virtio_begin() - reset @dev and negotiate
 * @wanted: of these features, those that are offered are taken
 */
void virtio_begin(VirtioDevice *dev, uint64_t wanted);

/** virtio_queue_size() - descriptors of queue @index at most; 0: no queue */
uint16_t virtio_queue_size(VirtioDevice *dev, unsigned index);

/**
 * virtio_queue() - make queue @index, between begin and run
 * @size: descriptors
 * @cpu: gets its interrupts; negative: nobody waits for any
 */
Virtqueue *virtio_queue(VirtioDevice *dev, unsigned index, uint16_t size,
                        uint32_t num_tokens, uint32_t max_pieces, int cpu);

/** virtio_run() - the queues are made: let the device start */
void virtio_run(VirtioDevice *dev);

/**
 * virtio_check() - ends the VM if @dev has given up and wants a reset
 *
 * Costs an access to a register: for whoever waits and gets nothing.
 */
void virtio_check(VirtioDevice *dev);

/** virtio_idle() - another look at all queues of @dev that brought nothing */
static inline void virtio_idle(VirtioDevice *dev, unsigned *looks, bool slept)
{
    /* A sleep that ended for nothing may have ended for this. */
    if (++*looks % (slept ? 2 : 1 << 20) == 0) {
        virtio_check(dev);
    }
}

/** virtio_end() - reset @dev */
void virtio_end(VirtioDevice *dev);

/** virtqueue_new_split(), virtqueue_new_packed() - for virtio_queue() */
Virtqueue *virtqueue_new_split(uint16_t size, uint32_t num_tokens);
Virtqueue *virtqueue_new_packed(uint16_t size, uint32_t num_tokens);

/** virtqueue_needs() - descriptors that a chain takes of the ring */
static inline unsigned virtqueue_needs(const Virtqueue *vq, unsigned pieces)
{
    return vq->indirect && pieces > 1 ? 1 : pieces;
}

/**
 * virtqueue_broken() - the device broke the rules
 *
 * Ends the VM: nothing that follows would mean anything.
 */
__attribute__((noreturn))
void virtqueue_broken(const Virtqueue *vq, const char *what, uint64_t value);

static inline void virtqueue_add(Virtqueue *vq, const Chain *chain,
                                 uint32_t token)
{
    vq->ops->add(vq, chain, token);
}

/** virtqueue_publish() - show what was added, and kick if need be */
static inline void virtqueue_publish(Virtqueue *vq)
{
    if (vq->ops->publish(vq)) {
        *vq->doorbell = vq->index;
        vq->kicks++;
    }
}

static inline bool virtqueue_take(Virtqueue *vq, Used *used)
{
    return vq->ops->take(vq, used);
}

static inline void virtqueue_suppress(Virtqueue *vq)
{
    vq->ops->suppress(vq);
}

static inline bool virtqueue_arm(Virtqueue *vq)
{
    return vq->ops->arm(vq);
}

/*
 * Our stores before it are seen before our loads behind it are made.
 *
 * Not __atomic_thread_fence(), which is a locked instruction: with one
 * processor TCG makes that a plain one, though QEMU's threads run beside it,
 * and an interrupt is lost once in some hundred thousand (tried).
 */
static inline void full_barrier(void)
{
    asm volatile("mfence" ::: "memory");
}

#endif
