/*
 * Random operations on one file, compared with a copy of it in memory.
 *
 * In the manner of fsx: reads, writes, reads and writes through a mapping,
 * truncation both ways, holes, fsync, and closing, forgetting and opening
 * again.  What the file holds must be what the same operations made of the
 * copy, after each read and at the end.
 *
 *     file-ops FILE [--ops N] [--seed N] [--size BYTES] [--holes 0|1]
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "random.h"

#define PAGE 4096

static const char *path;
static uint8_t *copy, *buffer;
static uint64_t size, largest;
static bool holes;
static int fd;

static void open_again(int flags)
{
    fd = must(open(path, flags | O_RDWR | O_CLOEXEC, 0644), path);
}

static void compare(const uint8_t *seen, uint64_t at, uint64_t length,
                    const char *how)
{
    for (uint64_t i = 0; i < length; i++) {
        if (seen[i] != copy[at + i]) {
            errno = 0;
            die("FILEOPS %s: byte %" PRIu64 " of %" PRIu64
                " is 0x%02x, not 0x%02x", how, at + i, size, seen[i],
                copy[at + i]);
        }
    }
}

static void check_read(uint64_t at, uint64_t length)
{
    ssize_t got = must(pread(fd, buffer, length, at), "FILEOPS read");
    uint64_t end = at + length < size ? at + length : size;
    uint64_t want = at < end ? end - at : 0;

    if ((uint64_t)got != want) {
        errno = 0;
        die("FILEOPS read %zd bytes at %" PRIu64 ", not %" PRIu64, got, at,
            want);
    }
    compare(buffer, at, want, "read");
}

/* What lies between the old end and a write behind it is zero. */
static void grow(uint64_t to)
{
    if (to > size) {
        memset(copy + size, 0, to - size);
        size = to;
    }
}

static void do_write(uint64_t at, uint64_t length, uint64_t key)
{
    grow(at + length);
    fill_from(copy + at, length, key);
    if (pwrite(fd, copy + at, length, at) != (ssize_t)length) {
        die("FILEOPS write of %" PRIu64 " bytes at %" PRIu64, length, at);
    }
}

static void do_mapped(uint64_t at, uint64_t length, uint64_t key)
{
    uint64_t base = at & ~(uint64_t)(PAGE - 1);
    uint8_t *map;

    if (at >= size) {
        return;
    }
    length = at + length > size ? size - at : length;
    map = mmap(NULL, at + length - base, PROT_READ | PROT_WRITE, MAP_SHARED,
               fd, base);
    if (map == MAP_FAILED) {
        die("FILEOPS mmap at %" PRIu64, base);
    }
    compare(map + (at - base), at, length, "mapped read");
    if (key & 1) {
        fill_from(copy + at, length, key);
        memcpy(map + (at - base), copy + at, length);
        must(msync(map, at + length - base, MS_SYNC), "FILEOPS msync");
    }
    munmap(map, at + length - base);
}

static void do_truncate(uint64_t to)
{
    must(ftruncate(fd, to), "FILEOPS ftruncate");
    grow(to);
    size = to;
}

static void do_hole(uint64_t at, uint64_t length)
{
    if (at >= size || !holes) {
        return;
    }
    must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
                   length), "FILEOPS hole");
    memset(copy + at, 0, at + length > size ? size - at : length);
}

static void forget(void)
{
    must(fsync(fd), "FILEOPS fsync");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    open_again(0);
}

static void check_size(void)
{
    struct stat st;

    must(fstat(fd, &st), "FILEOPS fstat");
    if ((uint64_t)st.st_size != size) {
        errno = 0;
        die("FILEOPS has %jd bytes, not %" PRIu64, (intmax_t)st.st_size, size);
    }
}

static void step(uint64_t *seed, uint64_t number)
{
    uint64_t length = 1 + draw(seed, draw(seed, 3) ? 8 * PAGE : 64 * PAGE);
    uint64_t at = draw(seed, largest - length);
    uint64_t key = scramble(number);

    switch (draw(seed, 16)) {
    case 0:
        do_truncate(draw(seed, largest));
        break;
    case 1:
        do_hole(at, length);
        break;
    case 2:
        forget();
        break;
    case 3:
    case 4:
        do_mapped(at, length, key);
        break;
    case 5 ... 9:
        check_read(at, length);
        break;
    default:
        do_write(at, length, key);
        break;
    }
    check_size();
}

int main(int argc, char **argv)
{
    uint64_t seed = option(argv, "--seed", 1);
    uint64_t ops = option(argv, "--ops", 400);

    if (argc < 2) {
        die("usage: file-ops FILE [--ops N] [--seed N] [--size BYTES] "
            "[--holes 0|1]");
    }
    path = argv[1];
    largest = option(argv, "--size", 4 << 20);
    holes = option(argv, "--holes", 1);
    copy = malloc(largest);
    buffer = malloc(largest);
    if (!copy || !buffer || largest <= 64 * PAGE) {
        die("FILEOPS memory");
    }
    open_again(O_CREAT | O_TRUNC);
    for (uint64_t i = 0; i < ops; i++) {
        step(&seed, i);
    }
    forget();
    check_size();
    for (uint64_t at = 0; at < size; at += 16 * PAGE) {
        check_read(at, 16 * PAGE);
    }
    printf("FILEOPS ok %" PRIu64 " steps, %" PRIu64 " bytes\n", ops, size);
    return 0;
}
