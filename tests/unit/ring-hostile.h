/*
 * Ring harness: devices that do not play by the rules.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_RING_HOSTILE_H
#define TESTS_UNIT_RING_HOSTILE_H

#include "ring-harness.h"

/* Bits of a packed descriptor's flags. */
#define F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define F_USED (1 << VRING_PACKED_DESC_F_USED)

/* Formats that a move exists for. */
#define SPLIT (1 << SHADOW_RING_SPLIT)
#define PACKED (1 << SHADOW_RING_PACKED)
#define BOTH (SPLIT | PACKED)

/**
 * HostileMove - a row of a table
 * @formats: that it exists for
 * @name: a claim
 * @act: what the device does to a ring with up to three requests in flight
 * @fault: the sentence with which the ring breaks; NULL: it must take no
 *     notice
 * @num_ok: tokens that come back before that
 * @min_size: smallest ring that it can be done to
 */
typedef struct HostileMove {
    unsigned formats;
    const char *name;
    RingScenario *act;
    const char *fault;
    unsigned num_ok;
    uint16_t min_size;
} HostileMove;

/** A test for each of @num moves and each format it exists for. */
void hostile_add_tests(const HostileMove *moves, unsigned num);

#endif /* TESTS_UNIT_RING_HOSTILE_H */
