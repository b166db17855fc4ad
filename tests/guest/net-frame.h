/*
 * A frame that follows from a number, and from nothing else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NET_FRAME_H
#define NET_FRAME_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

/* Lengths in bytes, the Ethernet header counted, the checksum not. */
enum {
    IP_BYTES = 20,
    TCP_BYTES = 20,
    HEADERS = ETH_HLEN + IP_BYTES + TCP_BYTES,
    SMALLEST = HEADERS + 16,
    LARGEST = ETH_HLEN + 65535,
    LARGEST_GSO = 65535,         /* Linux cuts a longer one up itself */
};

/**
 * FrameRule - what all frames of a run have in common
 * @seed: of the content
 * @largest: bytes, from SMALLEST to LARGEST
 * @gso: segment size of super-frames, 0: no offload asked for
 * @address: of the two interfaces
 */
typedef struct FrameRule {
    uint64_t seed;
    uint32_t largest;
    uint32_t gso;
    uint8_t address[2][ETH_ALEN];
} FrameRule;

/**
 * make_frame - the frame number @number of a lane and direction
 * @frame: filled in; LARGEST bytes
 * @from: the interface that sends it, 0 or 1
 *
 * Returns its length in bytes.
 */
uint32_t make_frame(const FrameRule *rule, uint8_t *frame, uint32_t lane,
                    int from, uint32_t number);

/** number_of_frame - the number that the content of @frame claims */
uint32_t number_of_frame(const uint8_t *frame);

/** lane_of_frame - the lane that @frame claims; no lane has -1 */
int lane_of_frame(const uint8_t *frame, uint32_t length);

/** is_super_frame - whether one of @length bytes is for the device to cut */
bool is_super_frame(const FrameRule *rule, uint32_t length);

/** offload_of_frame - what the device is asked to do with it */
struct virtio_net_hdr offload_of_frame(const FrameRule *rule,
                                       uint32_t length);

#endif
