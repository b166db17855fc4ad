/*
 * Frames that know what they must hold.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_NET_H
#define LOADVM_NET_H

#include "load.h"

#define MAC_SIZE 6u
#define FRAME_MIN 60u
#define FRAME_MAX 1514u

/**
 * struct Frame - Ethernet, and what tells one frame from all others
 * @stream: the lane that sent it
 * @sequence: its number in the stream, from 0
 * @sent: ticks; not part of what is compared
 */
typedef struct Frame {
    uint8_t to[MAC_SIZE];
    uint8_t from[MAC_SIZE];
    uint16_t type;
    uint16_t length;
    uint32_t stream;
    uint64_t sequence;
    uint64_t sent;
    uint8_t filling[];
} __attribute__((packed)) Frame;

/** frame_make() - frame @sequence of @stream; its addresses are there */
void frame_make(Frame *frame, uint32_t length, uint32_t stream,
                uint64_t sequence, uint64_t seed);

/** frame_is_ours() - is it of this job at all?  Others send frames as well. */
bool frame_is_ours(const Frame *frame, uint32_t length);

/** frame_is_right() - is it what frame_make() made? */
bool frame_is_right(const Frame *frame, uint32_t length, uint64_t seed);

#endif
