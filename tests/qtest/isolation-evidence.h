/*
 * What a vhost-user backend was given: is there anything of the guest in it?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_EVIDENCE_H
#define TESTS_QTEST_ISOLATION_EVIDENCE_H

#include "libqtest.h"
#include "isolation-backend.h"

/**
 * Breach - a promise of memory isolation that was not kept
 *
 * PATTERN   what guest RAM was filled with is in a descriptor
 * REGIONS   not exactly one region, or not one descriptor for it
 * FILE      the descriptor's file is not as large as the region, or one of
 *           them is no multiple of 2 MiB
 * SEALS     the file can be resized, or sealed further
 * ADDRESS   the region's userspace address is one of QEMU's own
 * RINGS     a ring is outside of the region, or two of them overlap, or
 *           something is to be logged
 * LOG       the backend is to log what it writes
 */
typedef enum Breach {
    BREACH_PATTERN = 1 << 0,
    BREACH_REGIONS = 1 << 1,
    BREACH_FILE = 1 << 2,
    BREACH_SEALS = 1 << 3,
    BREACH_ADDRESS = 1 << 4,
    BREACH_RINGS = 1 << 5,
    BREACH_LOG = 1 << 6,
} Breach;

/**
 * GuestPattern - what all of guest RAM is filled with, again and again
 */
typedef struct GuestPattern {
    uint8_t bytes[8];
} GuestPattern;

/** Fill guest RAM, @size bytes from address @ram on, with a new pattern. */
GuestPattern guest_pattern_fill_at(QTestState *qts, uint64_t ram,
                                   uint64_t size);
/** The same from address 0 on. */
GuestPattern guest_pattern_fill(QTestState *qts, uint64_t size);

/**
 * evidence_breaches() - all promises that were not kept until now
 * @qemu: process whose addresses the backend must not know
 *
 * Looks into every descriptor that ever came.  Returns: a mask of Breach.
 */
unsigned evidence_breaches(MockBackend *b, pid_t qemu,
                           const GuestPattern *pattern);

/** Assert that there is none, or say which. */
void evidence_assert_isolated(MockBackend *b, pid_t qemu,
                              const GuestPattern *pattern);

#endif /* TESTS_QTEST_ISOLATION_EVIDENCE_H */
