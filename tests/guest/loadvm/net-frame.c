/*
 * Frames: made and compared.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "net.h"

#define TYPE_EXPERIMENT 0xb588u  /* 0x88b5, for local experiments */

/* What follows the head: words that go up by a step. */
typedef struct Filling {
    uint64_t word, step;
    uint32_t words, rest;        /* whole words, and bytes behind them */
} Filling;

static Filling filling_of(uint32_t length, uint32_t stream,
                          uint64_t sequence, uint64_t seed)
{
    uint64_t word = scramble(seed ^ scramble((uint64_t)stream << 48 ^
                                             sequence));
    uint32_t bytes = length - sizeof(Frame);

    return (Filling) { word, scramble(word) | 1, bytes / 8, bytes % 8 };
}

void frame_make(Frame *frame, uint32_t length, uint32_t stream,
                uint64_t sequence, uint64_t seed)
{
    Filling f = filling_of(length, stream, sequence, seed);
    uint8_t *at = frame->filling;

    frame->type = TYPE_EXPERIMENT;
    frame->length = length;
    frame->stream = stream;
    frame->sequence = sequence;
    for (uint32_t i = 0; i < f.words; i++, at += 8, f.word += f.step) {
        *(uint64_t *)at = f.word;
    }
    memcpy(at, &f.word, f.rest);
}

bool frame_is_ours(const Frame *frame, uint32_t length)
{
    return length >= sizeof(*frame) && frame->type == TYPE_EXPERIMENT;
}

bool frame_is_right(const Frame *frame, uint32_t length, uint64_t seed)
{
    Filling f = filling_of(length, frame->stream, frame->sequence, seed);
    const uint8_t *at = frame->filling;
    uint64_t different = frame->length ^ length;

    for (uint32_t i = 0; i < f.words; i++, at += 8, f.word += f.step) {
        different |= *(const uint64_t *)at ^ f.word;
    }
    for (uint32_t i = 0; i < f.rest; i++) {
        different |= at[i] ^ (uint8_t)(f.word >> 8 * i);
    }
    return !different;
}
