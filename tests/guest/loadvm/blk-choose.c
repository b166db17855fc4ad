/*
 * Which request comes next.
 *
 * Each lane has a part of the area to itself, so that processors share
 * nothing.  A trace has one order, so one processor replays it, whatever the
 * number of queues.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "blk.h"

#define DRAWS 8u                 /* before a random request waits */

static bool is_random(const Job *job)
{
    return job->rw == PATTERN_RANDREAD || job->rw == PATTERN_RANDWRITE ||
           job->rw == PATTERN_RANDRW;
}

static bool writes(const Job *job)
{
    return job->rw == PATTERN_WRITE || job->rw == PATTERN_RANDWRITE ||
           job->rw == PATTERN_RANDRW;
}

static uint64_t share(uint64_t total, unsigned index, unsigned num)
{
    return total * index / num;
}

static void begin_lane(BlkLoad *load, unsigned index, uint64_t units)
{
    const Job *job = load->job;
    Lane *lane = &load->lanes[index];
    unsigned num = load->num_lanes;
    uint64_t per_pass, passes = job->passes;

    lane->first = share(units, index, num) * load->disk.unit;
    lane->end = share(units, index + 1, num) * load->disk.unit;
    lane->next = lane->first;
    lane->random = scramble(job->seed + index);
    lane->num_places = (lane->end - lane->first) / load->num_blocks;
    per_pass = lane->num_places;
    if (!is_random(job)) {
        /* The last one of a pass may be shorter. */
        per_pass = (lane->end - lane->first + load->num_blocks - 1) /
                   load->num_blocks;
    }
    if (!per_pass) {
        die("an area too small for %u queue(s) and bs=%lu", num, job->bs);
    }
    lane->quota = passes ? passes * per_pass : UINT64_MAX;
    if (job->requests) {
        lane->quota = MIN(lane->quota, share(job->requests, index + 1, num) -
                          share(job->requests, index, num));
    }
}

static void begin_trace(BlkLoad *load)
{
    const Job *job = load->job;
    uint64_t quota = load->trace.num_entries * job->passes;

    if (load->trace.end > load->disk.num_blocks * BLOCK) {
        die("the trace needs a disk of %lu bytes", load->trace.end);
    }
    if (!quota || (job->requests && job->requests < quota)) {
        quota = job->requests ? job->requests : UINT64_MAX;
    }
    /* Lanes take turns as they have room; they count together. */
    for (unsigned i = 0; i < load->num_lanes; i++) {
        load->lanes[i].quota = quota;
    }
}

void choose_begin(BlkLoad *load)
{
    const Job *job = load->job;
    uint64_t blocks = load->disk.num_blocks;

    if (job->rw == PATTERN_TRACE) {
        begin_trace(load);
        return;
    }
    if (load->disk.read_only && writes(job)) {
        die("the disk is read-only");
    }
    if (job->area) {
        blocks = MIN(blocks, job->area / BLOCK);
    }
    if (load->num_blocks % load->disk.unit) {
        die("bs=%u is no multiple of the disk's %u", load->num_blocks * BLOCK,
            load->disk.unit * BLOCK);
    }
    for (unsigned i = 0; i < load->num_lanes; i++) {
        begin_lane(load, i, blocks / load->disk.unit);
    }
}

static bool claim(BlkLoad *load, const Request *request)
{
    return !load->content || content_claim(load->content, request->block,
                                           request->num_blocks);
}

static bool choose_sequential(BlkLoad *load, Lane *lane, Request *request)
{
    if (lane->next == lane->end) {
        lane->next = lane->first;
    }
    request->op = load->job->rw == PATTERN_WRITE ? OP_WRITE : OP_READ;
    request->block = lane->next;
    request->num_blocks = MIN(load->num_blocks, lane->end - lane->next);
    if (!claim(load, request)) {
        return false;
    }
    lane->next += request->num_blocks;
    return true;
}

static bool choose_random(BlkLoad *load, Lane *lane, Request *request)
{
    const Job *job = load->job;

    request->op = job->rw == PATTERN_RANDWRITE ? OP_WRITE : OP_READ;
    if (job->rw == PATTERN_RANDRW && draw(&lane->random, 100) >= job->mix) {
        request->op = OP_WRITE;
    }
    request->num_blocks = load->num_blocks;
    for (unsigned i = 0; i < DRAWS; i++) {
        request->block = lane->first + load->num_blocks *
            draw(&lane->random, lane->num_places);
        if (claim(load, request)) {
            return true;
        }
    }
    return false;
}

/* When the trace's next request is due, in ticks. */
static uint64_t due(const BlkLoad *load, uint64_t time)
{
    uint64_t us = time / 1000 * 100 / load->job->pace;

    return load->begin + us * ticks_per_ms() / 1000;
}

static bool choose_traced(BlkLoad *load, Lane *lane, Request *request,
                          uint64_t now)
{
    uint64_t index = load->next_entry % load->trace.num_entries;
    uint64_t round = load->next_entry / load->trace.num_entries;
    const TraceEntry *entry = &load->trace.entries[index];
    const TraceEntry *last = &load->trace.entries[load->trace.num_entries - 1];

    (void)lane;
    if (load->job->pace && now < due(load, round * last->time + entry->time)) {
        return false;
    }
    *request = (Request) { entry->offset / BLOCK, entry->length / BLOCK,
                           entry->op };
    if (request->op != OP_FLUSH && !claim(load, request)) {
        return false;
    }
    load->next_entry++;
    /* What the disk cannot do is passed over. */
    return request->op != OP_FLUSH || load->disk.can_flush;
}

bool choose_done(const BlkLoad *load, const Lane *lane, uint64_t now)
{
    uint64_t issued = load->job->rw == PATTERN_TRACE ? load->next_entry
                                                     : lane->issued;

    return issued >= lane->quota || now >= load->deadline;
}

bool choose(BlkLoad *load, Lane *lane, Request *request, uint64_t now)
{
    if (choose_done(load, lane, now)) {
        return false;
    }
    if (load->job->rw == PATTERN_TRACE) {
        return choose_traced(load, lane, request, now);
    }
    if (is_random(load->job)) {
        return choose_random(load, lane, request);
    }
    return choose_sequential(load, lane, request);
}
