/*
 * Requests between a shadow ring and a device, and what is checked of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_PEER_TRAFFIC_H
#define TESTS_PEER_TRAFFIC_H

#include "hw/virtio/shadow-ring.h"
#include "peer.h"

/**
 * Bell - wakes the other side
 *
 * Relaxed on purpose: no order comes from here, the ring alone must bring it.
 */
typedef struct Bell {
    unsigned rung;            /* atomic; whoever rings                   */
    unsigned heard;           /* whoever sleeps                          */
} Bell;

typedef struct Traffic Traffic;

/**
 * TrafficParams - what is run
 * @config: of the ring; mem is traffic_new()'s business
 * @num: requests
 * @in_order: the device gives back in the order of publication
 * @max_bufs: of one request, 1 to PEER_BUFS
 */
typedef struct TrafficParams {
    ShadowRingConfig config;
    uint64_t num;
    bool in_order;
    unsigned max_bufs;
} TrafficParams;

/**
 * Outcome of one turn of a side
 * @TURN_AGAIN: it has more to do
 * @TURN_SLEEPS: it waits for its bell
 * @TURN_DONE: its work is done
 */
typedef enum Turn {
    TURN_AGAIN,
    TURN_SLEEPS,
    TURN_DONE,
} Turn;

/** traffic_new() - a ring with a device; NULL if the device cannot do it */
Traffic *traffic_new(const TrafficParams *params, uint32_t seed);

/** traffic_free() - both sides have ended */
void traffic_free(Traffic *t);

/** traffic_driver_turn() - take, check, add, publish, kick; or arm */
Turn traffic_driver_turn(Traffic *t);

/** traffic_device_turn() - fetch, check, answer, give back, call; or arm */
Turn traffic_device_turn(Traffic *t);

/** traffic_kicked() - the device's bell */
Bell *traffic_kicked(Traffic *t);

/** traffic_called() - the driver's bell */
Bell *traffic_called(Traffic *t);

/** traffic_stop() - tell the device that there is no more to come */
void traffic_stop(Traffic *t);

/** traffic_report() - counts, in one line */
char *traffic_report(const Traffic *t);

/** bell_heard() - was it rung?  Then it is silent again. */
bool bell_heard(Bell *bell);

#endif /* TESTS_PEER_TRAFFIC_H */
