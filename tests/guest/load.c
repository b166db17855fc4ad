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
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 512u
#define WORDS (BLOCK / sizeof(uint64_t))
#define PAGE 4096u
#define GUARD 64u
#define POISON 0xa5
#define MAX_DEPTH 1024u
#define MAX_SEGMENTS 1024u

/* Exit status; the test script passes it on. */
enum { LOAD_OK, LOAD_MISMATCH, LOAD_IO_ERROR, LOAD_USAGE };

typedef enum Mode { MODE_WRITE, MODE_VERIFY, MODE_STRESS } Mode;

typedef struct Options {
    Mode mode;
    const char *device;
    uint64_t seed;
    uint64_t size;           /* bytes used, from the start of the device */
    uint64_t max_request;    /* bytes */
    uint32_t depth;          /* threads, one request each */
    uint32_t segments;       /* longest iovec */
    uint32_t generation;     /* written by "write" and at the end of "stress" */
    uint32_t seconds;        /* length of "stress" */
    bool buffered;           /* no O_DIRECT: for images on the host */
    bool progress;           /* a line each second */
} Options;

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

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    return mix(*state);
}

/* A number from 1 to @max, small ones far more often than large ones. */
static uint64_t skewed(uint64_t *state, uint64_t max)
{
    unsigned bits = 0;

    while (bits < 63 && (max >> bits) > 1) {
        bits++;
    }
    bits = next_random(state) % (bits + 1);
    return 1 + next_random(state) % ((2ull << bits) < max ?
                                     (2ull << bits) : max);
}

static void block_content(uint64_t *out, uint64_t seed, uint64_t block,
                          uint32_t generation)
{
    uint64_t state = mix(seed ^ mix(block)) + generation;

    out[0] = block;
    out[1] = generation;
    for (unsigned i = 2; i < WORDS; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out[i] = state + i;
    }
}

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

static void report_block(Load *load, uint64_t block, uint32_t generation,
                         const uint8_t *seen, const uint8_t *right)
{
    const uint64_t *words = (const uint64_t *)seen;
    uint64_t other[WORDS];
    unsigned at = 0;

    while (at < BLOCK && seen[at] == right[at]) {
        at++;
    }
    block_content(other, load->opt.seed, words[0], words[1]);
    printf("LOAD mismatch at offset %" PRIu64 " (block %" PRIu64
           " generation %" PRIu32 "), byte %u: ", block * BLOCK, block,
           generation, at);
    if (!memcmp(other, seen, BLOCK)) {
        printf("holds block %" PRIu64 " generation %" PRIu64 "\n",
               words[0], words[1]);
    } else if (seen[at] == POISON && seen[BLOCK - 1] == POISON) {
        printf("was not written by the device\n");
    } else {
        printf("holds %02x, expected %02x\n", seen[at], right[at]);
    }
    fflush(stdout);
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
    report_block(load, block, generation, seen, (const uint8_t *)right);
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

static bool time_is_up(const Load *load)
{
    struct timespec now;

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
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 128 * 1024);
    for (uint32_t i = 0; i < load->opt.depth; i++) {
        errno = pthread_create(&workers[i].thread, &attr, body, &workers[i]);
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

static uint64_t device_size(int fd, const char *name)
{
    struct stat st;
    uint64_t size = 0;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        return st.st_size;
    }
    must(ioctl(fd, BLKGETSIZE64, &size) ? NULL : &size, name);
    return size;
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
    size = device_size(load->fd, load->opt.device);
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

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    switch (*end) {
    case 'G':
        value <<= 10;
        /* fall through */
    case 'M':
        value <<= 10;
        /* fall through */
    case 'K':
        value <<= 10;
    }
    return value;
}

static bool parse_mode(const char *text, Mode *mode)
{
    static const char *const names[] = { "write", "verify", "stress" };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(text, names[i])) {
            *mode = i;
            return true;
        }
    }
    return false;
}

static bool parse_option(Options *opt, const char *name, const char *value)
{
    uint64_t v = number(value);

    if (!strcmp(name, "--seed")) {
        opt->seed = v;
    } else if (!strcmp(name, "--size")) {
        opt->size = v;
    } else if (!strcmp(name, "--max-request")) {
        opt->max_request = v;
    } else if (!strcmp(name, "--depth")) {
        opt->depth = v;
    } else if (!strcmp(name, "--segments")) {
        opt->segments = v;
    } else if (!strcmp(name, "--generation")) {
        opt->generation = v;
    } else if (!strcmp(name, "--seconds")) {
        opt->seconds = v;
    } else if (!strcmp(name, "--buffered")) {
        opt->buffered = v;
    } else if (!strcmp(name, "--progress")) {
        opt->progress = v;
    } else {
        return false;
    }
    return true;
}

static void usage(void)
{
    printf("usage: load write|verify|stress DEVICE [--seed N] [--size BYTES]"
           " [--max-request BYTES]\n"
           "            [--depth N] [--segments N] [--generation N]"
           " [--seconds N]\n"
           "            [--buffered 0|1] [--progress 0|1]\n");
    exit(LOAD_USAGE);
}

static void parse(Options *opt, int argc, char **argv)
{
    *opt = (Options) {
        .seed = 1, .max_request = 256 * 1024, .depth = 16, .segments = 64,
        .generation = 1, .seconds = 5,
    };
    if (argc < 3 || !parse_mode(argv[1], &opt->mode)) {
        usage();
    }
    opt->device = argv[2];
    for (int i = 3; i < argc; i += 2) {
        if (i + 1 == argc || !parse_option(opt, argv[i], argv[i + 1])) {
            usage();
        }
    }
    if (!opt->depth || opt->depth > MAX_DEPTH || !opt->generation ||
        opt->segments > MAX_SEGMENTS || opt->max_request < BLOCK) {
        usage();
    }
}

int main(int argc, char **argv)
{
    static Load load = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    struct timespec begin, end;
    pthread_t progress;

    parse(&load.opt, argc, argv);
    open_device(&load);
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
