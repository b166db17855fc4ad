/*
 * Writes, discards, write-zeroes and flushes on a block device, against a
 * model of what each block holds.
 *
 * A block is known (the key that its content follows from), zero, or, after a
 * discard, anything.  Every step but a flush is followed by a look at its range
 * and at the blocks on both sides of it, and the end by a look at everything.
 *
 *     blk-ops DEVICE [--ops N] [--seed N] [--blocks N]
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "random.h"

#define BLOCK 512
#define MOST 256

/* Keys: 0 is zeroes, ANY is whatever a discard left. */
#define ZERO 0
#define ANY UINT64_MAX

static uint64_t *model;
static uint64_t num_blocks;
static uint8_t *buffer;
static int fd;

typedef struct Range {
    uint64_t first;
    uint64_t count;
} Range;

static Range choose(uint64_t *seed)
{
    Range range;

    range.count = 1 + draw(seed, draw(seed, 4) ? 16 : MOST);
    range.first = draw(seed, num_blocks - range.count);
    return range;
}

static void look(Range range)
{
    uint8_t right[BLOCK];
    off_t at = (off_t)range.first * BLOCK;
    ssize_t size = (ssize_t)range.count * BLOCK;

    memset(buffer, 0x5a, size);
    if (pread(fd, buffer, size, at) != size) {
        die("BLKOPS read of %zd bytes at %jd", size, (intmax_t)at);
    }
    for (uint64_t i = 0; i < range.count; i++) {
        uint64_t key = model[range.first + i];

        if (key == ANY) {
            continue;
        }
        memset(right, 0, BLOCK);
        if (key != ZERO) {
            fill_from(right, BLOCK, key);
        }
        if (memcmp(right, buffer + i * BLOCK, BLOCK)) {
            errno = 0;
            die("BLKOPS mismatch in block %" PRIu64 ", wanted %s",
                range.first + i, key == ZERO ? "zeroes" : "data");
        }
    }
}

/* @range and one block on both sides of it. */
static void look_around(Range range)
{
    uint64_t end = range.first + range.count;

    range.first -= range.first > 0;
    end += end < num_blocks;
    range.count = end - range.first;
    look(range);
}

static void write_range(Range range, uint64_t key)
{
    off_t at = (off_t)range.first * BLOCK;
    ssize_t size = (ssize_t)range.count * BLOCK;

    for (uint64_t i = 0; i < range.count; i++) {
        model[range.first + i] = key + (i << 32);
        fill_from(buffer + i * BLOCK, BLOCK, model[range.first + i]);
    }
    if (pwrite(fd, buffer, size, at) != size) {
        die("BLKOPS write of %zd bytes at %jd", size, (intmax_t)at);
    }
}

static void empty_range(Range range, unsigned long request, uint64_t key)
{
    uint64_t where[2] = { range.first * BLOCK, range.count * BLOCK };

    must(ioctl(fd, request, where), request == BLKZEROOUT ?
         "BLKOPS write zeroes" : "BLKOPS discard");
    for (uint64_t i = 0; i < range.count; i++) {
        model[range.first + i] = key;
    }
}

static void step(uint64_t *seed, uint64_t number)
{
    Range range = choose(seed);

    switch (draw(seed, 8)) {
    case 0:
        empty_range(range, BLKDISCARD, ANY);
        break;
    case 1:
    case 2:
        empty_range(range, BLKZEROOUT, ZERO);
        break;
    case 3:
        must(fdatasync(fd), "BLKOPS flush");
        return;
    default:
        write_range(range, number + 1);
        break;
    }
    look_around(range);
}

int main(int argc, char **argv)
{
    uint64_t seed = option(argv, "--seed", 1);
    uint64_t ops = option(argv, "--ops", 300);

    if (argc < 2) {
        die("usage: blk-ops DEVICE [--ops N] [--seed N] [--blocks N]");
    }
    num_blocks = option(argv, "--blocks", 4096);
    fd = must(open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC), argv[1]);
    model = calloc(num_blocks, sizeof(*model));
    if (!model || posix_memalign((void **)&buffer, 4096,
                                 (MOST + 2) * BLOCK)) {
        die("BLKOPS memory");
    }
    for (uint64_t at = 0; at < num_blocks; at += MOST) {
        uint64_t left = num_blocks - at;

        write_range((Range) { at, left < MOST ? left : MOST }, 1 + at);
    }
    for (uint64_t i = 0; i < ops; i++) {
        step(&seed, num_blocks + i);
    }
    for (uint64_t at = 0; at < num_blocks; at += MOST) {
        uint64_t left = num_blocks - at;

        look((Range) { at, left < MOST ? left : MOST });
    }
    must(fsync(fd), "BLKOPS last flush");
    printf("BLKOPS ok %" PRIu64 " steps\n", ops);
    return 0;
}
