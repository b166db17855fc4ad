/*
 * Load for a block device that knows what every block must hold.
 *
 * The content of a 512-byte block follows from seed, block number and
 * generation alone, so every read is compared with the only right answer: a
 * lost, torn, misplaced, stale or repeated write is told from a good one, and
 * the same program checks the raw image on the host afterwards.
 *
 * A number of threads (--depth) with one synchronous O_DIRECT request each
 * keep that many requests in flight.  Requests go to distinct ranges: a range
 * is locked from before a request until its result was checked.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "load-content.h"

/* A contiguous run of blocks, and what a write puts there. */
typedef struct Range {
    uint64_t first;
    uint32_t count;
    uint32_t generation;
} Range;

typedef struct Load {
    Options opt;
    int fd;
    uint64_t num_blocks;

    /* Protected by the lock. */
    pthread_mutex_t lock;
    uint8_t *busy;           /* per block */
    uint32_t *generation;    /* per block; 0: never written */
    uint64_t next_block;     /* of a sweep over the whole area */
    uint64_t sweep_random;
    int status;              /* first failure */
    uint64_t requests;
    uint64_t bytes;
    uint32_t next_generation;

    bool sweep_writes;       /* set between sweeps */
    struct timespec end;     /* of "stress" */
} Load;

/* What one thread works with. */
typedef struct Worker {
    Load *load;
    pthread_t thread;
    uint64_t random;
    uint8_t *flat;           /* max_request, a page to slide in, a guard */
    uint8_t *pages;          /* one page a segment */
    struct iovec iov[MAX_SEGMENTS];
    int num_iov;
} Worker;

/* Buffers: a flat one, or many segments scattered over pages. */

static void layout_flat(Worker *w, uint64_t bytes)
{
    uint64_t slide = next_random(&w->random) % (PAGE / BLOCK) * BLOCK;

    w->iov[0] = (struct iovec) { w->flat + slide, bytes };
    w->num_iov = 1;
}

static void layout_segments(Worker *w, uint64_t bytes)
{
    uint32_t max = w->load->opt.segments;
    int n = 0;

    while (bytes && n < (int)max) {
        uint64_t rest = max - n - 1;
        uint64_t slide = next_random(&w->random) % (PAGE / BLOCK) * BLOCK;
        uint64_t length = BLOCK;

        /* Short segments while what is left still fits into the others. */
        if (bytes > BLOCK + rest * BLOCK) {
            slide = 0;
            length = bytes < PAGE ? bytes : PAGE;
        }
        w->iov[n].iov_base = w->pages + (uint64_t)n * PAGE + slide;
        w->iov[n].iov_len = length;
        bytes -= length;
        n++;
    }
    w->num_iov = n;
}

static void choose_layout(Worker *w, Range range)
{
    const Options *opt = &w->load->opt;
    uint64_t bytes = (uint64_t)range.count * BLOCK;

    if (opt->segments > 1 && range.count > 1 &&
        bytes <= (uint64_t)opt->segments * PAGE &&
        next_random(&w->random) % 2) {
        layout_segments(w, bytes);
    } else {
        layout_flat(w, bytes);
    }
}

static void fill(Worker *w, Range range)
{
    uint64_t block = range.first;

    for (int i = 0; i < w->num_iov; i++) {
        uint8_t *at = w->iov[i].iov_base;

        for (size_t done = 0; done < w->iov[i].iov_len; done += BLOCK) {
            block_content((uint64_t *)(at + done), w->load->opt.seed, block,
                          range.generation);
            block++;
        }
    }
}

static void poison(Worker *w)
{
    for (int i = 0; i < w->num_iov; i++) {
        memset(w->iov[i].iov_base, POISON, w->iov[i].iov_len);
    }
    memset((uint8_t *)w->iov[0].iov_base + w->iov[0].iov_len, POISON, GUARD);
}

/* Failures */

static void fail(Load *load, int status)
{
    pthread_mutex_lock(&load->lock);
    if (!load->status) {
        load->status = status;
    }
    pthread_mutex_unlock(&load->lock);
}

static bool check_block(Load *load, uint64_t block, const uint8_t *seen)
{
    uint32_t generation = load->generation[block];
    uint64_t right[WORDS];

    if (!generation) {
        return true;
    }
    block_content(right, load->opt.seed, block, generation);
    if (!memcmp(seen, right, BLOCK)) {
        return true;
    }
    report_block(load->opt.seed, block, generation, seen);
    fail(load, LOAD_MISMATCH);
    return false;
}

static void check_range(Worker *w, Range range)
{
    const uint8_t *guard = (uint8_t *)w->iov[0].iov_base + w->iov[0].iov_len;
    uint64_t block = range.first;

    for (int i = 0; i < w->num_iov; i++) {
        const uint8_t *at = w->iov[i].iov_base;

        for (size_t done = 0; done < w->iov[i].iov_len; done += BLOCK) {
            if (!check_block(w->load, block++, at + done)) {
                return;
            }
        }
    }
    for (unsigned i = 0; w->num_iov == 1 && i < GUARD; i++) {
        if (guard[i] != POISON) {
            printf("LOAD mismatch at offset %" PRIu64
                   ": written beyond the request\n", range.first * BLOCK);
            fail(w->load, LOAD_MISMATCH);
            return;
        }
    }
}

/* Requests */

static bool transfer(Worker *w, Range range, bool is_write)
{
    off_t offset = (off_t)range.first * BLOCK;
    ssize_t want = (ssize_t)range.count * BLOCK;
    ssize_t done;

    do {
        done = is_write ? pwritev(w->load->fd, w->iov, w->num_iov, offset)
                        : preadv(w->load->fd, w->iov, w->num_iov, offset);
    } while (done < 0 && errno == EINTR);
    if (done == want) {
        return true;
    }
    printf("LOAD %s of %zd bytes at offset %jd: %s\n",
           is_write ? "write" : "read", want, (intmax_t)offset,
           done < 0 ? strerror(errno) : "short");
    fflush(stdout);
    fail(w->load, LOAD_IO_ERROR);
    return false;
}

static void do_request(Worker *w, Range range, bool is_write)
{
    choose_layout(w, range);
    if (is_write) {
        fill(w, range);
        if (transfer(w, range, true)) {
            for (uint32_t i = 0; i < range.count; i++) {
                w->load->generation[range.first + i] = range.generation;
            }
        }
    } else {
        poison(w);
        if (transfer(w, range, false)) {
            check_range(w, range);
        }
    }
}

/* Sweeps: every block of the area once, in pieces of random length. */

static bool take_sweep_range(Load *load, Range *range)
{
    uint64_t left, max;
    bool more;

    pthread_mutex_lock(&load->lock);
    left = load->num_blocks - load->next_block;
    max = load->opt.max_request / BLOCK;
    more = left && !load->status;
    if (more) {
        range->first = load->next_block;
        range->count = skewed(&load->sweep_random, left < max ? left : max);
        range->generation = load->opt.generation;
        load->next_block += range->count;
        load->requests++;
        load->bytes += (uint64_t)range->count * BLOCK;
    }
    pthread_mutex_unlock(&load->lock);
    return more;
}

static void *sweep_thread(void *opaque)
{
    Worker *w = opaque;
    Range range;

    while (take_sweep_range(w->load, &range)) {
        do_request(w, range, w->load->sweep_writes);
    }
    return NULL;
}

/* Stress: random requests on ranges that nobody else uses. */

static bool try_lock_range(Load *load, Range *range)
{
    bool free = true;

    pthread_mutex_lock(&load->lock);
    for (uint32_t i = 0; i < range->count && free; i++) {
        free = !load->busy[range->first + i];
    }
    if (free) {
        memset(load->busy + range->first, 1, range->count);
        range->generation = ++load->next_generation;
        load->requests++;
        load->bytes += (uint64_t)range->count * BLOCK;
    }
    pthread_mutex_unlock(&load->lock);
    return free;
}

static void unlock_range(Load *load, Range range)
{
    pthread_mutex_lock(&load->lock);
    memset(load->busy + range.first, 0, range.count);
    pthread_mutex_unlock(&load->lock);
}

static Range random_range(Worker *w)
{
    uint64_t max = w->load->opt.max_request / BLOCK;
    Range range = { 0 };

    range.count = skewed(&w->random, max);
    range.first = next_random(&w->random) %
                  (w->load->num_blocks - range.count + 1);
    return range;
}

/* SIGTERM ends "stress" early: what was written is verified all the same. */
static volatile sig_atomic_t asked_to_end;

static void on_sigterm(int signal)
{
    (void)signal;
    asked_to_end = 1;
}

static bool time_is_up(const Load *load)
{
    struct timespec now;

    if (asked_to_end) {
        return true;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > load->end.tv_sec ||
           (now.tv_sec == load->end.tv_sec &&
            now.tv_nsec >= load->end.tv_nsec);
}

static void *stress_thread(void *opaque)
{
    Worker *w = opaque;
    Load *load = w->load;

    while (!load->status && !time_is_up(load)) {
        Range range = random_range(w);
        uint64_t dice = next_random(&w->random) % 128;

        if (!try_lock_range(load, &range)) {
            continue;
        }
        if (dice == 0 && fdatasync(load->fd) < 0) {
            printf("LOAD flush: %s\n", strerror(errno));
            fail(load, LOAD_IO_ERROR);
        }
        do_request(w, range, dice % 2);
        unlock_range(load, range);
    }
    return NULL;
}

static void *progress_thread(void *opaque)
{
    Load *load = opaque;

    for (;;) {
        sleep(1);
        printf("LOAD progress %" PRIu64 "\n", load->requests);
        fflush(stdout);
    }
    return NULL;
}

/* Setting up */

static void *must(void *pointer, const char *what)
{
    if (!pointer || pointer == MAP_FAILED) {
        printf("LOAD %s: %s\n", what, strerror(errno));
        exit(LOAD_USAGE);
    }
    return pointer;
}

static uint8_t *map(uint64_t bytes)
{
    uint8_t *at = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "memory");

    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

static Worker *make_workers(Load *load)
{
    Worker *workers = must(calloc(load->opt.depth, sizeof(Worker)), "memory");

    for (uint32_t i = 0; i < load->opt.depth; i++) {
        workers[i].load = load;
        workers[i].random = mix(load->opt.seed + i + 1);
        workers[i].flat = map(load->opt.max_request + 2 * PAGE);
        workers[i].pages = map((uint64_t)(load->opt.segments + 1) * PAGE);
    }
    return workers;
}

static void run_workers(Load *load, Worker *workers, void *(*body)(void *))
{
    for (uint32_t i = 0; i < load->opt.depth; i++) {
        errno = pthread_create(&workers[i].thread, NULL, body, &workers[i]);
        must(errno ? NULL : workers, "thread");
    }
    for (uint32_t i = 0; i < load->opt.depth; i++) {
        pthread_join(workers[i].thread, NULL);
    }
}

static void sweep(Load *load, Worker *workers, bool writes)
{
    load->next_block = 0;
    load->sweep_random = mix(load->opt.seed + writes);
    load->sweep_writes = writes;
    run_workers(load, workers, sweep_thread);
}

static void expect_generation(Load *load)
{
    for (uint64_t i = 0; i < load->num_blocks; i++) {
        load->generation[i] = load->opt.generation;
    }
}

static void run(Load *load)
{
    Worker *workers = make_workers(load);

    switch (load->opt.mode) {
    case MODE_WRITE:
        sweep(load, workers, true);
        break;
    case MODE_VERIFY:
        expect_generation(load);
        sweep(load, workers, false);
        break;
    case MODE_STRESS:
        load->next_generation = load->opt.generation;
        clock_gettime(CLOCK_MONOTONIC, &load->end);
        load->end.tv_sec += load->opt.seconds;
        run_workers(load, workers, stress_thread);
        sweep(load, workers, false);
        sweep(load, workers, true);
        break;
    }
    if (load->opt.mode != MODE_VERIFY && !load->status &&
        fsync(load->fd) < 0) {
        printf("LOAD flush: %s\n", strerror(errno));
        load->status = LOAD_IO_ERROR;
    }
}

static void open_device(Load *load)
{
    int flags = load->opt.mode == MODE_VERIFY ? O_RDONLY : O_RDWR;
    uint64_t size;

    if (!load->opt.buffered) {
        flags |= O_DIRECT;
    }
    load->fd = open(load->opt.device, flags | O_CLOEXEC);
    must(load->fd < 0 ? NULL : load, load->opt.device);
    size = device_size(load->fd);
    must(size ? load : NULL, load->opt.device);
    if (!load->opt.size || load->opt.size > size) {
        load->opt.size = size;
    }
    load->num_blocks = load->opt.size / BLOCK;
    if (load->opt.max_request > load->num_blocks * BLOCK) {
        load->opt.max_request = load->num_blocks * BLOCK;
    }
    load->busy = must(calloc(load->num_blocks + 1, 1), "memory");
    load->generation = must(calloc(load->num_blocks + 1,
                                   sizeof(*load->generation)), "memory");
}

int main(int argc, char **argv)
{
    static Load load = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    struct timespec begin, end;
    pthread_t progress;

    parse_options(&load.opt, argc, argv);
    open_device(&load);
    signal(SIGTERM, on_sigterm);
    printf("LOAD started\n");
    fflush(stdout);
    if (load.opt.progress) {
        pthread_create(&progress, NULL, progress_thread, &load);
    }
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run(&load);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("LOAD %s %s: %" PRIu64 " requests, %" PRIu64 " KiB, %.2f s\n",
           load.status ? "failed" : "ok", argv[1], load.requests,
           load.bytes >> 10,
           end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9);
    fflush(stdout);
    return load.status;
}
