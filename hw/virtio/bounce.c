/*
 * Bounce region.
 *
 * The region is the whole of what an isolated backend can map: one memfd,
 * sealed before anybody else has its descriptor.  Without the seals a backend
 * could truncate the file, and the next access of QEMU would be its last; so
 * a host that cannot seal gets an error, not a region.
 *
 * Neither a host pointer nor a guest address may appear on the socket, so the
 * region's two addresses are made up, from an epoch that each new region
 * moves on:
 *
 *   "guest physical"   1 TiB + epoch * 64 GiB     (ends at 33 TiB)
 *   "userspace"       64 TiB + epoch * 64 GiB     (ends at 96 TiB < 2^47)
 *
 * The two ranges do not meet, and a region is never longer than half a step:
 * an address of an earlier connection, or one with the other base, is outside
 * the region instead of somewhere in it.
 *
 * Not here: which part of the region belongs to whom.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/madvise.h"
#include "qemu/memfd.h"
#include "hw/virtio/bounce.h"

#define BOUNCE_REGION_SIZE_MAX (32 * GiB)
#define BOUNCE_GUEST_BASE (1 * TiB)
#define BOUNCE_USER_BASE (64 * TiB)
#define BOUNCE_EPOCH_STEP (64 * GiB)
#define BOUNCE_EPOCHS 512

QEMU_BUILD_BUG_ON(BOUNCE_REGION_SIZE_MAX >= BOUNCE_EPOCH_STEP);
QEMU_BUILD_BUG_ON(BOUNCE_GUEST_BASE + BOUNCE_EPOCHS * BOUNCE_EPOCH_STEP >
                  BOUNCE_USER_BASE);
QEMU_BUILD_BUG_ON(BOUNCE_USER_BASE + BOUNCE_EPOCHS * BOUNCE_EPOCH_STEP >
                  (1ULL << 47));
QEMU_BUILD_BUG_ON(BOUNCE_EPOCH_STEP % BOUNCE_REGION_UNIT);

/* BQL */
static unsigned next_epoch;

/* Returns: the sealed file, or -1. */
static int bounce_region_create_fd(uint64_t size, Error **errp)
{
    ERRP_GUARD();
    int fd = qemu_memfd_create("memory-isolation", size, false, 0,
                               F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL,
                               errp);

    if (fd < 0) {
        error_prepend(errp, "memory-isolation needs sealed shared memory: ");
    }
    return fd;
}

BounceRegion *bounce_region_new(uint64_t size, Error **errp)
{
    BounceRegion *region;
    void *host;
    int fd;

    /* On a 32-bit host the address space is the limit. */
    if (size == 0 || size > MIN(BOUNCE_REGION_SIZE_MAX, SIZE_MAX / 2)) {
        error_setg(errp, "memory-isolation region of %" PRIu64 " bytes is not "
                   "between 1 byte and 32 GiB", size);
        return NULL;
    }
    size = ROUND_UP(size, BOUNCE_REGION_UNIT);

    fd = bounce_region_create_fd(size, errp);
    if (fd < 0) {
        return NULL;
    }
    host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (host == MAP_FAILED) {
        error_setg_errno(errp, errno, "memory-isolation cannot map a region "
                         "of %" PRIu64 " bytes", size);
        close(fd);
        return NULL;
    }
    /* Guest data: not for core dumps, not for children.  Best effort. */
    qemu_madvise(host, size, QEMU_MADV_DONTDUMP);
    qemu_madvise(host, size, QEMU_MADV_DONTFORK);

    region = g_new(BounceRegion, 1);
    *region = (BounceRegion) {
        .fd = fd,
        .host = host,
        .size = size,
        .guest_base = BOUNCE_GUEST_BASE + next_epoch * BOUNCE_EPOCH_STEP,
        .user_base = BOUNCE_USER_BASE + next_epoch * BOUNCE_EPOCH_STEP,
    };
    next_epoch = (next_epoch + 1) % BOUNCE_EPOCHS;
    return region;
}

void bounce_region_free(BounceRegion *region)
{
    if (region) {
        munmap(region->host, region->size);
        close(region->fd);
        g_free(region);
    }
}

void bounce_region_clear(const BounceRegion *region, uint64_t offset,
                         uint64_t size)
{
    assert(offset <= region->size && size <= region->size - offset);
#ifdef CONFIG_FALLOCATE_PUNCH_HOLE
    /* Of pages that are not whole in the range it clears their part. */
    if (!fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   offset, size)) {
        return;
    }
#endif
    memset(region->host + offset, 0, size);
}
