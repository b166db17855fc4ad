/*
 * What a guest does to one disk, and what must come of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_MOVE_H
#define TESTS_QTEST_ISOLATION_MOVE_H

#include "isolation-disk.h"

#define WRITE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

/* What victims read, and where they may write. */
#define SECTOR 3
#define SCRATCH_SECTOR 6000
#define LEN 4096

/* For GuestMove.says: the disk goes on, and QEMU says nothing. */
#define WORKS ""

/**
 * GuestMove - one thing that a guest can do
 * @claim: test name
 * @move: does it, to a disk that is running
 * @arg: for @move
 * @rings: formats that it is for
 * @says: what QEMU says, once, when the disk then needs a reset; or WORKS; or
 *     NULL: what becomes of the disk is not laid down
 * @iommu: for a disk that is behind an IOMMU, and only for it
 */
typedef struct GuestMove {
    const char *claim;
    void (*move)(Disk *disk, uint64_t arg);
    uint64_t arg;
    enum { ON_BOTH, ON_SPLIT, ON_PACKED } rings;
    const char *says;
    bool iommu;
} GuestMove;

/**
 * guest_moves_run() - main() of a test program
 * @path: part of the test paths
 *
 * Each move becomes a test on split and packed rings, with the disks' queues
 * in the main loop and in an IOThread.  The move is made on one disk.  Then:
 * QEMU lives, the other disk gives right data, the first one is as expected,
 * and gives right data after a reset.
 */
int guest_moves_run(int *argc, char ***argv, const char *path,
                    const GuestMove *moves, size_t num);

#endif /* TESTS_QTEST_ISOLATION_MOVE_H */
