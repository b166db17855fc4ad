/*
 * What a job is, how it is measured, and what the parts of a load share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_LOAD_H
#define LOADVM_LOAD_H

#include "virtio.h"

#define BLOCK 512u

typedef enum Pattern {
    PATTERN_READ, PATTERN_WRITE, PATTERN_RANDREAD, PATTERN_RANDWRITE,
    PATTERN_RANDRW, PATTERN_TRACE,
} Pattern;

/**
 * struct Job - a line of options, see options.c and README.rst
 *
 * Sizes in bytes; 0 stands for "as large as can be" where README.rst says so.
 */
typedef struct Job {
    /* What is driven. */
    uint64_t type;
    uint64_t dev;                /* of its type, counted from 0 */
    uint64_t to;                 /* net: where the frames arrive */
    /* What is asked for. */
    uint64_t rw;                 /* Pattern */
    uint64_t mix;                /* randrw: reads, percent */
    uint64_t bs;
    uint64_t area;
    uint64_t depth;              /* requests in flight, a queue */
    uint64_t batch;              /* requests that are submitted together */
    uint64_t segments;           /* data descriptors of a request */
    uint64_t pace;               /* trace: percent of its speed, 0: none */
    /* Rings. */
    uint64_t queues;
    uint64_t cpus;
    uint64_t size;
    uint64_t packed;
    uint64_t event_idx;
    uint64_t indirect;
    uint64_t msix;
    /* How long: whatever comes first; 0: no limit. */
    uint64_t requests;
    uint64_t time;               /* milliseconds */
    uint64_t passes;
    /* Content. */
    uint64_t verify;
    uint64_t seed;
    uint64_t filled;             /* generation of all blocks, 0: unknown */
} Job;

/**
 * job_parse() - read a job
 * @text: up to its end or a ';'
 * Returns what follows; ends the VM if an option is wrong.
 */
const char *job_parse(Job *job, const char *text);

/* Latencies: report.c */

#define HISTOGRAM_STEPS 8u       /* a power of two */
#define HISTOGRAM_SIZE (64u * HISTOGRAM_STEPS)

/**
 * struct Tally - what a queue did; one processor writes it
 * @latency: requests by time from publishing to taking, in ticks
 */
typedef struct Tally {
    uint64_t requests;
    uint64_t bytes;
    uint64_t errors;             /* the device said no */
    uint64_t verified;           /* blocks or frames that were right */
    uint64_t unknown;            /* blocks whose content nobody knows */
    uint64_t bad;                /* blocks or frames that were wrong */
    uint64_t lost;               /* frames that did not arrive */
    uint64_t sleeps;
    uint64_t kicks;
    uint64_t batches;            /* times that something was published */
    uint64_t latency[HISTOGRAM_SIZE];
} Tally;

/** tally_latency() - one more request that took @span ticks */
static inline void tally_latency(Tally *tally, uint64_t span)
{
    unsigned top = 63 - __builtin_clzll(span | HISTOGRAM_STEPS);
    unsigned shift = top - 3;

    tally->latency[shift * HISTOGRAM_STEPS + (span >> shift)]++;
}

/** tally_add() - add @from to @to */
void tally_add(Tally *to, const Tally *from);

/**
 * report() - the RESULT line of a job
 * @span: ticks that it took
 * @interrupts: that were taken meanwhile
 */
void report(const Job *job, const Tally *tally, uint64_t span,
            uint64_t interrupts);

/* Content of blocks: content.c */

/**
 * struct Content - what each block of a device holds
 *
 * The content of a block follows from seed, block number and generation; each
 * write makes the next generation.  A block whose request is in flight is
 * claimed: there is one right answer to every read.
 */
typedef struct Content {
    uint64_t seed;
    uint64_t num_blocks;
    uint8_t *state;              /* a block: generation and "claimed" */
} Content;

/**
 * content_get() - what is known of device @dev
 *
 * Survives the job, so that a later one verifies what an earlier one wrote,
 * unless seed or @num_blocks is another, or @filled says what is there.
 */
Content *content_get(unsigned dev, uint64_t num_blocks, uint64_t seed,
                     uint8_t filled);

/** content_claim() - false if one of the blocks is claimed already */
bool content_claim(Content *content, uint64_t block, uint32_t num);

/** content_fill() - the next generation of claimed blocks */
void content_fill(Content *content, uint64_t block, uint32_t num, void *data);

/** content_written() - a write is done: release the blocks */
void content_written(Content *content, uint64_t block, uint32_t num, bool ok);

/** content_release() - a read failed: release the blocks */
void content_release(Content *content, uint64_t block, uint32_t num);

/** content_check() - compare what was read, count it, release the blocks */
void content_check(Content *content, uint64_t block, uint32_t num,
                   const void *data, Tally *tally);

/* Traces: trace.c */

enum { OP_READ = 0, OP_WRITE = 1, OP_FLUSH = 2 };

/** struct TraceEntry - one request, as in the module (README.rst) */
typedef struct TraceEntry {
    uint64_t time;               /* nanoseconds since the first */
    uint64_t offset;
    uint32_t length;
    uint32_t op;
} TraceEntry;

/** struct Trace - the module, validated */
typedef struct Trace {
    const TraceEntry *entries;
    uint64_t num_entries;
    uint64_t max_length;
    uint64_t end;                /* bytes that the device must have */
} Trace;

/** trace_open() - the trace that -initrd gave; ends the VM if there is none */
Trace trace_open(void);

/* Loads */

/** blk_run() - a job on virtio-blk or virtio-scsi */
void blk_run(const Job *job);

/** net_run() - a job on virtio-net */
void net_run(const Job *job);

#endif
