/*
 * Mock virtqueue: the guest's queue behind virtqueue_pop() and its like, for
 * tests of devices that map elements.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_VIRTQUEUE_H
#define TESTS_UNIT_MOCK_VIRTQUEUE_H

#include "qemu/event_notifier.h"
#include "hw/virtio/virtio.h"

/** Memory of one request, at a fixed place. */
#define MOCK_VQ_SLOT (64 * 1024)

/** The most buffers of a request, and the length of each. */
#define MOCK_VQ_BUFS VIRTQUEUE_MAX_SIZE
#define MOCK_VQ_BUF_LEN 48

/**
 * MockVqState - where a request is
 *
 * IDLE     the driver has it.     mock_vq_offer() -> OFFERED
 * OFFERED  in the ring.           virtqueue_pop() -> POPPED
 * POPPED   mapped.                virtqueue_fill() -> FILLED
 *                                 virtqueue_unpop_chain() -> OFFERED
 *                                 virtqueue_detach_element() -> LOST
 * FILLED                          virtqueue_flush() -> USED
 * USED     in the used ring.      mock_vq_take() -> IDLE
 * LOST     nobody will ever say.
 */
typedef enum MockVqState {
    MOCK_VQ_IDLE,
    MOCK_VQ_OFFERED,
    MOCK_VQ_POPPED,
    MOCK_VQ_FILLED,
    MOCK_VQ_USED,
    MOCK_VQ_LOST,
} MockVqState;

/**
 * MockVqRequest - one request
 * @id: fixed; head index that the device sees
 * @state: see there
 * @mapped: its buffers are
 * @outside: its first buffer is in no memory that the device can reach
 * @num_out: device-readable buffers, of MOCK_VQ_BUF_LEN each
 * @num_in: device-writable ones
 * @ndescs: descriptors of the ring that it takes
 * @len: that it was completed with
 */
typedef struct MockVqRequest {
    uint16_t id;
    MockVqState state;
    bool mapped;
    bool outside;
    unsigned num_out;
    unsigned num_in;
    unsigned ndescs;
    uint32_t len;
} MockVqRequest;

/**
 * VirtQueue - the guest's ring
 *
 * A list of requests and positions in it; how a ring is laid out is of no
 * interest here, how many descriptors are out is.  Requests are not bounded by
 * the ring's size, as with indirect descriptors.  The main loop is the owner.
 */
struct VirtQueue {
    VirtIODevice *vdev;
    uint16_t size;
    unsigned num_requests;
    uint8_t *ram;                 /* MOCK_VQ_SLOT for each request           */
    hwaddr gpa;                   /* of its first byte                       */
    uint64_t ram_bytes;
    MockVqRequest *requests;      /* @num_requests of them                   */
    EventNotifier kick;
    EventNotifier call;

    MockVqRequest **avail;        /* all that were offered, ever             */
    unsigned sent_avail;
    unsigned next_pop;
    unsigned inuse;               /* descriptors                             */
    GPtrArray *used;              /* filled or flushed, not taken            */
    unsigned num_filled;          /* at the end of @used                     */
    bool notify;                  /* the device wants kicks                  */
    unsigned flickers;            /* times that the ring is seen not empty,  */
                                  /* and nothing is in it then              */
    unsigned num_kicks;
    unsigned num_flushes;
    void (*flushed)(void *opaque);  /* NULL, or called once, at the next     */
    void *opaque;
    char *error;                  /* that broke the device                   */
};

VirtQueue *mock_vq_new(VirtIODevice *vdev, uint16_t size,
                       unsigned num_requests, hwaddr gpa);
void mock_vq_free(VirtQueue *vq);

/** An idle request of so many buffers, or NULL. */
MockVqRequest *mock_vq_get(VirtQueue *vq, unsigned num_out, unsigned num_in);

/** Make it available; kick if that is asked for. */
void mock_vq_offer(VirtQueue *vq, MockVqRequest *r);

/** The next completion, which is idle then; NULL if there is none. */
MockVqRequest *mock_vq_take(VirtQueue *vq);

/** Bytes from the first byte of memory to buffer @i of @r. */
uint64_t mock_vq_offset(const MockVqRequest *r, unsigned i);

/** Requests that are offered and not popped. */
unsigned mock_vq_num_offered(const VirtQueue *vq);

/** Errors that were reported since the last call. */
unsigned mock_num_error_reports(void);

/** The last one, with all that the error module puts around it. */
const char *mock_error_report(void);

#endif /* TESTS_UNIT_MOCK_VIRTQUEUE_H */
