/*
 * Harness for vhost-vdpa's shadow virtqueue: a mock virtqueue on one side, a
 * mock device on the other, and the owner that vhost-vdpa is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_SVQ_HARNESS_H
#define TESTS_UNIT_SVQ_HARNESS_H

#include "hw/virtio/vhost-svq.h"
#include "mock-device.h"
#include "mock-virtqueue.h"

/**
 * SvqParams - one case
 * @format: of the device's ring
 * @event_idx: of the device's ring
 * @indirect: of the device's ring
 * @size: descriptors of the guest's ring, and of the device's; 0: 64
 * @ops: NULL: requests are passed on
 */
typedef struct SvqParams {
    ShadowRingFormat format;
    bool event_idx;
    bool indirect;
    uint16_t size;
    const VhostShadowVirtqueueOps *ops;
} SvqParams;

/** What the device used; in this order the guest must see it. */
typedef struct SvqUsed {
    MockVqRequest *request;
    uint32_t len;
} SvqUsed;

/**
 * SvqHarness - everything a scenario needs
 *
 * The test is guest, device and owner at once; the queue runs when the main
 * loop does.
 */
typedef struct SvqHarness {
    SvqParams params;
    VirtIODevice vdev;            /* called SVQ_DEVICE                       */
    BusState bus;                 /* @vdev is on it, and it is on ...        */
    DeviceState proxy;
    VirtQueue *vq;                /* the guest's                             */
    VhostShadowVirtqueue *svq;
    VhostIOVATree *tree;
    DMAMap ram;                   /* of the guest, as the device has it      */

    DMAMap area;                  /* of the ring, as the device has it       */
    MockDevice device;
    MockRequest fetched;
    GArray *held;                 /* SvqHeld, fetched and not used           */
    GArray *used;                 /* SvqUsed                                 */
    uint64_t num_fetched;         /* since the start                         */
    bool running;
    bool keep_kick_fd;            /* the next start finds it bound           */
    unsigned num_handled;         /* for handlers                            */
} SvqHarness;

#define SVQ_DEVICE "net0"

/** A request at the device. */
typedef struct SvqHeld {
    uint16_t id;
    MockVqRequest *request;       /* NULL: it is not the guest's             */
    bool indirect;
} SvqHeld;

typedef void SvqScenario(SvqHarness *h);

/** Run @scenario for each kind of ring on a new, started queue. */
void svq_run_matrix(const SvqParams *params, SvqScenario *scenario);

/** A started queue. */
SvqHarness *svq_harness_new(const SvqParams *params);
void svq_harness_free(SvqHarness *h);

/** As vhost-vdpa does it, with the features of @h->params. */
void svq_start(SvqHarness *h);
void svq_stop(SvqHarness *h);

/** Let the queue do what it can. */
void svq_settle(void);

/** The guest: offer @num requests; -> the last one. */
MockVqRequest *svq_offer(SvqHarness *h, unsigned num, unsigned num_out,
                         unsigned num_in);
/** Take all completions; assert that they are what the device used. */
unsigned svq_collect(SvqHarness *h);

/** The device: fetch one, or all; assert that they are what was sent. */
bool svq_fetch(SvqHarness *h);
unsigned svq_fetch_all(SvqHarness *h);
/** Use the one that is @held-th, with a length that may be too large. */
void svq_use(SvqHarness *h, unsigned held, uint32_t len);
/** Show it, and call if that is asked for. */
void svq_publish_used(SvqHarness *h);
/** All, in random order. */
void svq_use_all(SvqHarness *h);

/** Writes to a notifier since the last call. */
uint64_t svq_take_events(EventNotifier *n);

/** Offer, fetch, use and collect until nothing is out. */
void svq_round_trips(SvqHarness *h, unsigned num);

#endif /* TESTS_UNIT_SVQ_HARNESS_H */
