/*
 * Shadow virtqueue of vhost-vdpa: what a ring is like, start, stop, and what
 * stays between them.
 *
 * The guest's ring ends in QEMU and so does the device's: what a ring is like
 * is negotiated twice.  Towards the device the queue takes the best that there
 * is.  Towards the guest QEMU's virtqueues can do everything.  That holds where
 * the guest sees a device only through shadow virtqueues.  While the data
 * queues are passed through and only the control queue is shadowed, the
 * guest's bits are the device's, and so are the queue's.
 *
 * Ring and indirect tables lie in one area that the device has mapped: short
 * tables, and one that is as long as a chain can be.  So with indirect
 * descriptors every chain finds its way in the end.
 *
 * A run begins with an empty ring and ends with one that nobody needs any
 * more.  In between lie the requests that are at the device when it is
 * stopped: what it has used is returned, the rest goes back to the guest's
 * ring, from where the next run, the device itself or another QEMU takes it;
 * see svq_give_back().
 *
 * The owner binds the notifiers of the guest in any order with start and stop,
 * and swaps them while the queue runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/bitops.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "virtio-chain.h"
#include "vhost-svq-internal.h"

#define SVQ_RING_FEATURES (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
                           BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
                           BIT_ULL(VIRTIO_F_RING_PACKED))

/*
 * A device that was told of it may use many requests and show the last one
 * only, which a shadow ring takes for a broken rule.  So nobody is: neither the
 * device of a shadow ring nor, since a control queue can be shadowed beside
 * queues that are not, a guest.
 */
#define SVQ_MASKED_FEATURES BIT_ULL(VIRTIO_F_IN_ORDER)

/*
 * Descriptors hold I/O virtual addresses, which need something that translates
 * them, and all that we write is little-endian.
 */
#define SVQ_NEEDED_FEATURES (BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) | \
                             BIT_ULL(VIRTIO_F_VERSION_1))

/* What is reserved for transport and ring (virtio 1.2, 6). */
#define SVQ_TRANSPORT_FEATURES \
    MAKE_64BIT_MASK(VIRTIO_TRANSPORT_F_START, \
                    VIRTIO_TRANSPORT_F_END + 1 - VIRTIO_TRANSPORT_F_START)

/*
 * SET_VRING_BASE of a packed ring: the descriptor ring's offset and, above it,
 * the wrap counter; those of the driver in the low half, those of the device
 * in the high half.
 */
#define SVQ_BASE_DRIVER_WRAP_COUNTER BIT(VRING_PACKED_EVENT_F_WRAP_CTR)
#define SVQ_BASE_DEVICE_WRAP_COUNTER BIT(VRING_PACKED_EVENT_F_WRAP_CTR + 16)

#define SVQ_SHORT_TABLE 64
#define SVQ_SHORT_TABLES_MAX 128

/*
 * Devices answer a control command in microseconds to some milliseconds.
 * While QEMU waits the machine stands still, at most so long a command.
 */
#define SVQ_POLL_LIMIT_MS 5000

/*
 * Others of the transport's bits would change what a ring looks like or what
 * a device may do with it.  A guest could acknowledge them.
 */
bool vhost_svq_valid_features(uint64_t features, Error **errp)
{
    uint64_t missing = SVQ_NEEDED_FEATURES & ~features;
    uint64_t unknown = features & SVQ_TRANSPORT_FEATURES &
                       ~(SVQ_NEEDED_FEATURES | SVQ_RING_FEATURES |
                         SVQ_MASKED_FEATURES);

    if (missing || unknown) {
        error_setg(errp, "shadow virtqueues do not work with this device: it "
                   "lacks features 0x%" PRIx64 " and has features 0x%" PRIx64,
                   missing, unknown);
        return false;
    }
    return true;
}

uint64_t vhost_svq_guest_features(uint64_t offered, bool shadowed)
{
    return (offered & ~SVQ_MASKED_FEATURES) |
           (shadowed ? SVQ_RING_FEATURES : 0);
}

uint64_t vhost_svq_device_features(uint64_t acked, uint64_t offered)
{
    uint64_t ring = offered & SVQ_RING_FEATURES;

    /* Virtio 1.2, 6: bits above 31 are for those who know VERSION_1. */
    if (!(acked & BIT_ULL(VIRTIO_F_VERSION_1))) {
        ring &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    return (acked & ~(SVQ_RING_FEATURES | SVQ_MASKED_FEATURES)) | ring;
}

static ShadowRingFormat svq_ring_format(uint64_t features)
{
    return features & BIT_ULL(VIRTIO_F_RING_PACKED) ? SHADOW_RING_PACKED
                                                    : SHADOW_RING_SPLIT;
}

/* A packed ring could have any size, but vhost takes powers of two only. */
uint16_t vhost_svq_ring_size(const VhostShadowVirtqueue *svq,
                             uint16_t guest_size)
{
    return pow2floor(MIN(guest_size, svq_of_const(svq)->max_size));
}

/* Virtio 1.2, 2.8.1: both wrap counters begin with 1. */
uint32_t vhost_svq_ring_base(const VhostShadowVirtqueue *svq)
{
    uint64_t features = svq_of_const(svq)->features;

    return svq_ring_format(features) == SHADOW_RING_SPLIT ?
           0 : SVQ_BASE_DRIVER_WRAP_COUNTER | SVQ_BASE_DEVICE_WRAP_COUNTER;
}

void vhost_svq_set_device(VhostShadowVirtqueue *svq, uint64_t features,
                          uint16_t max_size)
{
    Svq *q = svq_of(svq);

    assert(!q->guest_vq);
    q->features = features;
    /* A ring has at least one descriptor, whatever the device says. */
    q->max_size = MAX(max_size, 1);
}

static void svq_tables_new(SvqTables *tables, size_t first, uint16_t num,
                           uint32_t num_descs)
{
    tables->first = first;
    tables->num_descs = num_descs;
    tables->num_free = num;
    tables->free = g_new(size_t, num);
    for (unsigned i = 0; i < num; i++) {
        tables->free[i] = first + (size_t)i * num_descs *
                                  SHADOW_RING_DESC_BYTES;
    }
}

static size_t svq_tables_end(const SvqTables *tables)
{
    return tables->first + (size_t)tables->num_free * tables->num_descs *
                           SHADOW_RING_DESC_BYTES;
}

/* Returns: the end of the area. */
static size_t svq_tables_place(Svq *q, size_t begin, uint16_t size)
{
    SvqTables *short_ones = &q->tables[SVQ_TABLES_SHORT];
    SvqTables *long_one = &q->tables[SVQ_TABLES_LONG];

    if (!(q->features & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC))) {
        return begin;
    }
    svq_tables_new(short_ones, begin, MIN(size, SVQ_SHORT_TABLES_MAX),
                   SVQ_SHORT_TABLE);
    svq_tables_new(long_one, svq_tables_end(short_ones), 1,
                   VIRTQUEUE_MAX_SIZE);
    return svq_tables_end(long_one);
}

static void svq_area_free(Svq *q)
{
    for (unsigned i = 0; i < SVQ_TABLES__MAX; i++) {
        g_free(q->tables[i].free);
        q->tables[i] = (SvqTables) { };
    }
    if (q->area) {
        munmap(q->area, q->area_bytes);
        q->area = NULL;
    }
}

/* Devices in user space (VDUSE) can map shared memory only. */
static void svq_area_map(Svq *q, size_t bytes)
{
    q->area_bytes = ROUND_UP(bytes, qemu_real_host_page_size());
    q->area = mmap(NULL, q->area_bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (q->area == MAP_FAILED) {
        /* As any allocation here that fails. */
        error_report("no memory for a shadow virtqueue: %s", strerror(errno));
        abort();
    }
    q->area_iova_known = false;
}

static void svq_ring_new(Svq *q, uint16_t size)
{
    ShadowRingConfig config = {
        .format = svq_ring_format(q->features),
        .size = size,
        .event_idx = q->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
        .indirect = q->features & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
    };

    svq_area_free(q);
    q->layout = shadow_ring_layout(config.format, size);
    svq_area_map(q, svq_tables_place(q, ROUND_UP(q->layout.bytes, 64), size));
    config.mem = q->area;
    q->ring = shadow_ring_new(&config);
    /* A chain that is longer than the ring takes a table. */
    q->bufs = g_new(ShadowRingBuf, config.indirect ? VIRTQUEUE_MAX_SIZE : size);
}

static void svq_ring_free(Svq *q)
{
    g_clear_pointer(&q->ring, shadow_ring_free);
    g_clear_pointer(&q->bufs, g_free);
}

/* Whatever there is by now, the guest will not kick for. */
static void svq_look_at_guest(Svq *q)
{
    if (q->guest_vq && svq_hears_guest(q)) {
        event_notifier_set(&q->guest_kick);
    }
}

static void svq_attach_kick(Svq *q, int fd)
{
    event_notifier_init_fd(&q->guest_kick, fd);
    event_notifier_set_handler(&q->guest_kick, svq_on_guest_kick);
    svq_look_at_guest(q);
}

/* The fd is not ours: the owner may close it next. */
static void svq_detach_kick(Svq *q)
{
    if (svq_hears_guest(q)) {
        event_notifier_set_handler(&q->guest_kick, NULL);
        event_notifier_init_fd(&q->guest_kick, VHOST_FILE_UNBIND);
    }
}

void vhost_svq_set_svq_kick_fd(VhostShadowVirtqueue *svq, int fd)
{
    svq_detach_kick(svq_of(svq));
    if (fd != VHOST_FILE_UNBIND) {
        svq_attach_kick(svq_of(svq), fd);
    }
}

/* Writing to a notifier that is all zero does nothing. */
void vhost_svq_set_svq_call_fd(VhostShadowVirtqueue *svq, int fd)
{
    Svq *q = svq_of(svq);

    q->guest_call = (EventNotifier) { };
    if (fd != VHOST_FILE_UNBIND) {
        event_notifier_init_fd(&q->guest_call, fd);
    }
}

void vhost_svq_get_vring_addr(const VhostShadowVirtqueue *svq,
                              struct vhost_vring_addr *addr)
{
    const Svq *q = svq_of_const(svq);
    uint64_t area = (uintptr_t)q->area;

    addr->desc_user_addr = area + q->layout.desc;
    addr->avail_user_addr = area + q->layout.driver;
    addr->used_user_addr = area + q->layout.device;
}

size_t vhost_svq_area_size(const VhostShadowVirtqueue *svq)
{
    return svq_of_const(svq)->area_bytes;
}

void vhost_svq_start(VhostShadowVirtqueue *svq, VirtIODevice *vdev,
                     VirtQueue *guest_vq, VhostIOVATree *tree)
{
    unsigned index = virtio_get_queue_index(guest_vq);
    Svq *q = svq_of(svq);

    assert(!q->guest_vq);
    svq_ring_new(q, vhost_svq_ring_size(svq, virtio_queue_get_num(vdev,
                                                                  index)));
    assert(shadow_ring_base(q->ring) == vhost_svq_ring_base(svq));
    q->tree = tree;
    q->next_seq = 0;
    q->guest_vq = guest_vq;
    svq->vdev = vdev;
    event_notifier_set_handler(&svq->hdev_call, svq_on_device_call);
    svq_look_at_guest(q);
}

static void svq_unpop(Svq *q, VirtQueueElement *elem)
{
    const VirtQueueChain chain = { .ndescs = elem->ndescs };

    /*
     * virtqueue_unpop() winds a packed ring back by one descriptor, however
     * many the element had.  So unmap the buffers here, and leave the ring to
     * one that counts.
     */
    elem->ndescs = 0;
    virtqueue_detach_element(q->guest_vq, elem, 0);
    virtqueue_unpop_chain(q->guest_vq, &chain);
    q->next_seq--;
}

/*
 * Give back what the device did not use.
 *
 * To wind a ring back by a number makes the newest so many requests available
 * again, whichever they were.  If the device used a newer one than one that it
 * did not, that would offer the used one a second time and lose the other.  So
 * it stops at the newest request that is not here any more.
 */
static void svq_give_back(Svq *q)
{
    SvqRequest *req, *prev;
    unsigned filled = 0;

    if (q->waiting) {
        svq_unpop(q, q->waiting);
        g_clear_pointer(&q->waiting, g_free);
    }
    QTAILQ_FOREACH_REVERSE_SAFE(req, &q->in_flight, next, prev) {
        if (req->elem && req->seq + 1 == q->next_seq) {
            svq_unpop(q, req->elem);
            svq_request_drop(q, &q->in_flight, req);
        }
    }
    RCU_READ_LOCK_GUARD();
    while ((req = QTAILQ_FIRST(&q->in_flight))) {
        if (req->elem) {
            virtqueue_fill(q->guest_vq, req->elem, 0, filled++);
        }
        svq_request_drop(q, &q->in_flight, req);
    }
    if (filled) {
        virtqueue_flush(q->guest_vq, filled);
        svq_call_guest(q);
    }
}

static void svq_end_run(Svq *q)
{
    SvqRequest *req;

    event_notifier_set_handler(&q->svq.hdev_call, NULL);
    svq_return(q);
    /* Whoever comes next may believe that the guest kicks. */
    virtio_queue_set_notification(q->guest_vq, 1);
    svq_give_back(q);
    while ((req = QTAILQ_FIRST(&q->answered))) {
        svq_request_drop(q, &q->answered, req);
    }
    svq_ring_free(q);
    q->fault = false;
    q->guest_vq = NULL;
}

void vhost_svq_stop(VhostShadowVirtqueue *svq)
{
    Svq *q = svq_of(svq);

    svq_detach_kick(q);
    if (q->guest_vq) {
        svq_end_run(q);
    }
}

void vhost_svq_set_poll_limit(VhostShadowVirtqueue *svq, unsigned ms)
{
    svq_of(svq)->poll_limit_ms = ms;
}

VhostShadowVirtqueue *vhost_svq_new(const VhostShadowVirtqueueOps *ops,
                                    void *opaque)
{
    Svq *q = g_new0(Svq, 1);

    QTAILQ_INIT(&q->in_flight);
    QTAILQ_INIT(&q->answered);
    QTAILQ_INIT(&q->spare);
    event_notifier_init_fd(&q->guest_kick, VHOST_FILE_UNBIND);
    q->poll_limit_ms = SVQ_POLL_LIMIT_MS;
    q->ops = ops;
    q->opaque = opaque;
    return &q->svq;
}

void vhost_svq_free(gpointer svq)
{
    Svq *q = svq_of(svq);
    SvqRequest *req;

    vhost_svq_stop(svq);
    svq_area_free(q);
    while ((req = QTAILQ_FIRST(&q->spare))) {
        QTAILQ_REMOVE(&q->spare, req, next);
        g_free(req);
    }
    g_free(q);
}
