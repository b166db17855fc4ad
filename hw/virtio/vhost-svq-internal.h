/*
 * Shadow virtqueue of vhost-vdpa: what its files share.
 *
 * A file calls only those above it here:
 *
 *   vhost-svq-request.c    one request's way to the device
 *   vhost-svq.c            the two directions, and who runs them
 *   vhost-svq-run.c        what a ring is like, start and stop
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_SVQ_INTERNAL_H
#define HW_VIRTIO_VHOST_SVQ_INTERNAL_H

#include "linux-headers/linux/vhost.h"
#include "qemu/queue.h"
#include "hw/virtio/vhost-svq.h"
#include "shadow-ring.h"

/**
 * SvqTables - indirect tables of one length, which are free or lent
 * @first: offset of the first one in the area
 * @num_descs: descriptors of each
 * @num_free: entries of @free
 * @free: stack of offsets
 */
typedef struct SvqTables {
    size_t first;
    uint32_t num_descs;
    uint16_t num_free;
    size_t *free;
} SvqTables;

/** Most chains are short; a few are as long as a chain can be. */
enum { SVQ_TABLES_SHORT, SVQ_TABLES_LONG, SVQ_TABLES__MAX };

/**
 * SvqRequest - one request at the device
 * @elem: the guest's, owned; NULL: somebody polls for it
 * @seq: elements that were popped before @elem
 * @bytes_in: sum of the device-writable lengths
 * @len: bytes that it got, once the device has used it
 * @tables: where its indirect table comes from, or NULL
 * @table: offset of the table
 * @next: in one list of the queue
 */
typedef struct SvqRequest {
    VirtQueueElement *elem;
    uint64_t seq;
    uint64_t bytes_in;
    uint32_t len;
    SvqTables *tables;
    size_t table;
    QTAILQ_ENTRY(SvqRequest) next;
} SvqRequest;

typedef QTAILQ_HEAD(, SvqRequest) SvqRequestList;

/**
 * Svq - a shadow virtqueue
 *
 * All of it is written with the BQL held.
 */
typedef struct Svq {
    VhostShadowVirtqueue svq;

    /* Fixed by vhost_svq_new(). */
    const VhostShadowVirtqueueOps *ops;     /* NULL: pass requests on     */
    void *opaque;               /* of @ops                               */

    /* The owner's wishes; they hold across stop and start. */
    uint64_t features;
    uint16_t max_size;          /* descriptors of the device's ring      */
    unsigned poll_limit_ms;
    EventNotifier guest_kick;   /* borrowed                              */
    EventNotifier guest_call;   /* borrowed; all zero if unbound         */

    /* From one start to the next. */
    uint8_t *area;
    size_t area_bytes;
    ShadowRingLayout layout;

    /* From start to stop; NULL otherwise. */
    VirtQueue *guest_vq;
    ShadowRing *ring;
    ShadowRingBuf *bufs;        /* as many as a chain can have           */

    /* Set by start. */
    VhostIOVATree *tree;
    hwaddr area_iova;           /* of @area, once a table was needed     */
    bool area_iova_known;
    SvqTables tables[SVQ_TABLES__MAX];
    uint64_t next_seq;          /* elements that were popped             */
    bool fault;                 /* latched: the device broke the rules   */
    bool forwarding;
    VirtQueueElement *waiting;  /* popped, and there was no room         */
    SvqRequestList in_flight;   /* at the device, in guest order         */
    SvqRequestList answered;    /* used, and nobody polled yet           */

    /* Until the queue is freed. */
    SvqRequestList spare;
} Svq;

static inline Svq *svq_of(VhostShadowVirtqueue *svq)
{
    return container_of(svq, Svq, svq);
}

static inline const Svq *svq_of_const(const VhostShadowVirtqueue *svq)
{
    return container_of(svq, Svq, svq);
}

/** svq_hears_guest() - is there a notifier where the guest kicks? */
static inline bool svq_hears_guest(const Svq *q)
{
    return event_notifier_get_fd(&q->guest_kick) != VHOST_FILE_UNBIND;
}

/** svq_on_guest_kick(), svq_on_device_call() - handlers of the notifiers */
void svq_on_guest_kick(EventNotifier *n);
void svq_on_device_call(EventNotifier *n);

/**
 * svq_return() - one batch from the device to the guest
 * @q: started
 *
 * Forwards nothing.  A ring never holds more than one batch.
 *
 * Returns: requests taken.
 */
unsigned svq_return(Svq *q);

/** svq_call_guest() - the guest has something to take */
void svq_call_guest(Svq *q);

/**
 * SvqBuffers - buffers of one request, see vhost_svq_add()
 */
typedef struct SvqBuffers {
    const struct iovec *sg[2];
    size_t num[2];
    const hwaddr *addr[2];
} SvqBuffers;

/** Index in SvqBuffers: device-readable and device-writable. */
enum { SVQ_OUT, SVQ_IN };

/**
 * svq_request_add() - write a request's descriptors, unpublished
 * @q: started
 * @buffers: what it consists of
 * @elem: taken on success; may be NULL
 *
 * Returns: as vhost_svq_add().  Nothing has changed if it is not 0.
 */
int svq_request_add(Svq *q, const SvqBuffers *buffers,
                    VirtQueueElement *elem);

/** svq_request_used() - the device gave it back: table and lists */
void svq_request_used(Svq *q, SvqRequest *req, uint32_t raw_len);

/** svq_request_drop() - forget it; it is in @list */
void svq_request_drop(Svq *q, SvqRequestList *list, SvqRequest *req);

#endif /* HW_VIRTIO_VHOST_SVQ_INTERNAL_H */
