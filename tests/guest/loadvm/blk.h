/*
 * The parts of a load on a disk: who chooses requests, who carries them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_BLK_H
#define LOADVM_BLK_H

#include "disk.h"

/** struct Request - @op: OP_READ, ... */
typedef struct Request {
    uint64_t block;
    uint32_t num_blocks;
    uint32_t op;
} Request;

/**
 * struct Slot - memory of one request in flight
 * @pieces: made for @shape, a request with the same op and length
 */
typedef struct Slot {
    Request request;
    Request shape;
    uint64_t begun;              /* ticks */
    Piece *pieces;
    Chain chain;
    uint8_t *header;
    uint8_t *status;
    uint8_t *data;
} Slot;

/**
 * struct Lane - a queue and the part of the area that it works on
 *
 * One processor has it.  Blocks from @first to before @end are nobody else's.
 */
typedef struct Lane {
    Virtqueue *vq;
    Slot *slots;
    uint32_t *free;              /* a stack of slots */
    uint32_t num_free;
    uint32_t num_slots;

    uint64_t first;
    uint64_t end;
    uint64_t next;               /* sequential */
    uint64_t num_places;         /* random: requests that fit side by side */
    uint64_t random;
    uint64_t issued;
    uint64_t quota;              /* requests at most */
    Tally tally;
} Lane;

/** struct BlkLoad - a job while it runs; what is not in a lane is constant */
typedef struct BlkLoad {
    const Job *job;
    Disk disk;
    Content *content;            /* NULL: nothing is verified */
    uint32_t max_blocks;         /* of a request */
    uint32_t num_blocks;         /* of a request of a fixed size */
    Lane *lanes;
    unsigned num_lanes;
    unsigned num_cpus;
    uint64_t begin;              /* ticks */
    uint64_t deadline;           /* ticks */
    /* Of the one processor that replays. */
    Trace trace;
    uint64_t next_entry;
} BlkLoad;

/** choose_begin() - lanes get their parts, quotas and seeds */
void choose_begin(BlkLoad *load);

/**
 * choose() - the next request of @lane
 *
 * Claims its blocks.  False: none now, or no more.
 */
bool choose(BlkLoad *load, Lane *lane, Request *request, uint64_t now);

/** choose_done() - are there no more requests for @lane? */
bool choose_done(const BlkLoad *load, const Lane *lane, uint64_t now);

#endif
