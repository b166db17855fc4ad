/*
 * A load on a disk.
 *
 * Each queue is a lane with memory for as many requests as shall be in flight;
 * a processor goes round its lanes: take what is back, put in what fits, kick
 * once.  With irq=msix it sleeps when a round brought nothing.
 *
 * Reads are poisoned before and compared after; a guard behind the data tells
 * of a device that writes too much.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "blk.h"

#define GUARD 0xfeedbacc0ffee000ULL
#define POISON 0x6b6b6b6b6b6b6b6bULL
#define STATUS_NONE 0xff
#define BS_PRESET 4096u

static BlkLoad load;

/* Where the guard of @slot lies: behind the longest request. */
static uint64_t *guard(const Slot *slot)
{
    return (uint64_t *)(slot->data + (uint64_t)load.max_blocks * BLOCK);
}

/* Data goes into as many descriptors as asked for, none of them empty. */
static unsigned cut(Piece *pieces, const uint8_t *data, uint32_t bytes)
{
    unsigned num = MIN(load.job->segments, bytes);

    for (unsigned i = 0; i < num; i++) {
        uint32_t length = i + 1 < num ? bytes / (num - i) : bytes;

        pieces[i] = (Piece) { (uintptr_t)data, length };
        data += length;
        bytes -= length;
    }
    return num;
}

static void make_chain(Slot *slot, const Request *request)
{
    const Framing *framing = load.disk.framing;
    Piece *at = slot->pieces;
    uint32_t bytes = request->num_blocks * BLOCK;
    bool is_read = request->op == OP_READ;
    const Piece status = { (uintptr_t)slot->status, framing->status_size };
    unsigned num_data;

    *at++ = (Piece) { (uintptr_t)slot->header, framing->header_size };
    if (is_read && framing->status_first) {
        *at++ = status;
    }
    num_data = cut(at, slot->data, bytes);
    at += num_data;
    if (!is_read || !framing->status_first) {
        *at++ = status;
    }
    slot->chain.pieces = slot->pieces;
    slot->chain.num_readable = is_read ? 1 : 1 + num_data;
    slot->chain.num_writable = is_read ? 1 + num_data : 1;
    slot->shape = *request;
}

static void prepare(Slot *slot)
{
    const Request *request = &slot->request;

    if (slot->shape.op != request->op ||
        slot->shape.num_blocks != request->num_blocks) {
        make_chain(slot, request);
    }
    load.disk.framing->header(&load.disk, slot->header, request->op,
                              request->block, request->num_blocks);
    *slot->status = STATUS_NONE;
    if (!load.content) {
        return;
    }
    if (request->op == OP_WRITE) {
        content_fill(load.content, request->block, request->num_blocks,
                     slot->data);
    } else {
        for (uint32_t i = 0; i < request->num_blocks; i++) {
            *(uint64_t *)(slot->data + i * BLOCK) = POISON;
        }
        *guard(slot) = GUARD;
    }
}

static void judge(Lane *lane, Slot *slot, bool ok)
{
    const Request *request = &slot->request;

    if (!load.content || request->op == OP_FLUSH) {
        return;
    }
    if (request->op == OP_WRITE) {
        content_written(load.content, request->block, request->num_blocks,
                        ok);
        return;
    }
    if (!ok) {
        content_release(load.content, request->block, request->num_blocks);
        return;
    }
    content_check(load.content, request->block, request->num_blocks,
                  slot->data, &lane->tally);
    if (*guard(slot) != GUARD) {
        virtqueue_broken(lane->vq, "wrote beyond the buffer, block",
                         request->block);
    }
}

/* Everything that is back.  Returns whether that was anything. */
static bool reap(Lane *lane)
{
    uint64_t now = 0;
    Used used;

    while (virtqueue_take(lane->vq, &used)) {
        Slot *slot = &lane->slots[used.token];
        bool ok = load.disk.framing->ok(slot->status);

        now = now ? now : ticks();
        tally_latency(&lane->tally, now - slot->begun);
        judge(lane, slot, ok);
        lane->tally.requests++;
        lane->tally.bytes += slot->request.num_blocks * BLOCK;
        lane->tally.errors += !ok;
        lane->free[lane->num_free++] = used.token;
    }
    if (now) {
        virtqueue_suppress(lane->vq);
    }
    return now;
}

/* Everything that fits.  Returns whether that was anything. */
static bool submit(Lane *lane)
{
    uint32_t before = lane->num_free;
    uint64_t now;

    if (before < MIN(load.job->batch, lane->num_slots)) {
        return false;
    }
    now = ticks();
    while (lane->num_free) {
        uint32_t token = lane->free[lane->num_free - 1];
        Slot *slot = &lane->slots[token];

        if (!choose(&load, lane, &slot->request, now)) {
            break;
        }
        prepare(slot);
        slot->begun = now;
        virtqueue_add(lane->vq, &slot->chain, token);
        lane->issued++;
        lane->num_free--;
    }
    if (lane->num_free == before) {
        return false;
    }
    lane->tally.batches++;
    virtqueue_publish(lane->vq);
    return true;
}

/* Sleep until a queue of @cpu has something. */
static void doze(unsigned cpu)
{
    bool quiet = true;

    for (unsigned i = cpu; i < load.num_lanes; i += load.num_cpus) {
        quiet &= virtqueue_arm(load.lanes[i].vq);
    }
    if (quiet) {
        cpu_sleep();
        load.lanes[cpu].tally.sleeps++;
    }
    for (unsigned i = cpu; i < load.num_lanes; i += load.num_cpus) {
        virtqueue_suppress(load.lanes[i].vq);
    }
}

static void work(unsigned cpu)
{
    /* There is no timer to wake up by when a request is due. */
    bool sleeps = load.job->msix && !load.job->pace;
    unsigned looks = 0;

    for (;;) {
        bool busy = false, waits = false, more = false;

        for (unsigned i = cpu; i < load.num_lanes; i += load.num_cpus) {
            Lane *lane = &load.lanes[i];

            busy |= reap(lane);
            busy |= submit(lane);
            waits |= lane->num_free < lane->num_slots;
            more |= !choose_done(&load, lane, ticks());
        }
        if (!waits && !more) {
            return;
        }
        if (busy) {
            looks = 0;
        } else if (waits) {
            virtio_idle(load.disk.dev, &looks, sleeps);
            if (sleeps) {
                doze(cpu);
            }
        }
    }
}

static void make_slot(Slot *slot)
{
    const Framing *framing = load.disk.framing;
    uint64_t bytes = (uint64_t)load.max_blocks * BLOCK;

    slot->pieces = allocate((load.job->segments + 2) * sizeof(Piece), 16);
    slot->header = allocate(framing->header_size, 64);
    slot->status = allocate(framing->status_size, 8);
    slot->data = allocate(bytes + sizeof(uint64_t),
                          bytes < PAGE ? BLOCK : PAGE);
    make_chain(slot, &(Request) { 0, load.max_blocks, OP_READ });
}

static void make_lane(unsigned index)
{
    const Job *job = load.job;
    VirtioDevice *dev = load.disk.dev;
    unsigned queue = load.disk.framing->first_queue + index;
    uint16_t most = virtio_queue_size(dev, queue);
    uint16_t size = job->size ? job->size : most;
    uint32_t max_pieces = job->segments + 2;
    Lane *lane = &load.lanes[index];

    if (!most || size > most) {
        die("queue %u has %u descriptors, not %u", queue, most, size);
    }
    lane->num_slots = lane->num_free = job->depth;
    lane->vq = virtio_queue(dev, queue, size, job->depth, max_pieces,
                            job->msix ? (int)(index % load.num_cpus) : -1);
    if (job->depth * virtqueue_needs(lane->vq, max_pieces) > size) {
        die("depth=%lu and segments=%lu do not fit a ring of %u", job->depth,
            job->segments, size);
    }
    lane->slots = allocate(job->depth * sizeof(Slot), 64);
    lane->free = allocate(job->depth * sizeof(*lane->free), 64);
    for (uint32_t i = 0; i < job->depth; i++) {
        make_slot(&lane->slots[i]);
        lane->free[i] = job->depth - 1 - i;
    }
}

static void open_disk(const Job *job)
{
    uint64_t mark;

    load = (BlkLoad) { .job = job };
    load.disk.framing = job->type == VIRTIO_SCSI ? &scsi_framing
                                                 : &blk_framing;
    load.disk.dev = virtio_device(job->type, job->dev);
    if (!load.disk.dev) {
        die("there is no such disk (dev=%lu)", job->dev);
    }
    mark = memory_mark();
    load.disk.framing->open(&load.disk);
    memory_release(mark);
    if (job->verify) {
        uint64_t blocks = load.disk.num_blocks;

        if (job->area) {
            blocks = MIN(blocks, job->area / BLOCK);
        }
        load.content = content_get(load.disk.dev->slot >> 3, blocks,
                                   job->seed, job->filled);
    }
    if (job->bs % BLOCK) {
        die("bs=%lu is no multiple of %u", job->bs, BLOCK);
    }
    load.num_blocks = (job->bs ? job->bs : BS_PRESET) / BLOCK;
    load.max_blocks = load.num_blocks;
    if (job->rw == PATTERN_TRACE) {
        load.trace = trace_open();
        load.max_blocks = load.trace.max_length / BLOCK;
    }
}

static void start(const Job *job)
{
    uint64_t features = load.disk.framing->features |
        (job->packed ? F_PACKED : 0) | (job->event_idx ? F_EVENT_IDX : 0) |
        (job->indirect ? F_INDIRECT : 0);

    load.num_lanes = job->queues;
    load.num_cpus = MIN(job->cpus ? job->cpus : cpu_count(), cpu_count());
    load.num_cpus = MIN(load.num_cpus, load.num_lanes);
    if (job->rw == PATTERN_TRACE) {
        load.num_cpus = 1;
    }
    load.lanes = allocate(job->queues * sizeof(Lane), 64);
    virtio_begin(load.disk.dev, features);
    if (job->packed && !(load.disk.dev->features & F_PACKED)) {
        die("the device has no packed rings (see packed=on)");
    }
    choose_begin(&load);
    for (unsigned i = 0; i < load.num_lanes; i++) {
        make_lane(i);
    }
    virtio_run(load.disk.dev);
    if (load.disk.framing->settle) {
        load.disk.framing->settle(load.lanes[0].vq);
    }
}

void blk_run(const Job *job)
{
    static Tally sum;
    uint64_t mark, span, interrupts = irq_count();

    open_disk(job);
    mark = memory_mark();
    start(job);
    load.begin = ticks();
    load.deadline = job->time ? load.begin + job->time * ticks_per_ms()
                              : UINT64_MAX;
    cpu_run(load.num_cpus, work);
    span = ticks() - load.begin;
    virtio_end(load.disk.dev);

    memset(&sum, 0, sizeof(sum));
    for (unsigned i = 0; i < load.num_lanes; i++) {
        load.lanes[i].tally.kicks = load.lanes[i].vq->kicks;
        tally_add(&sum, &load.lanes[i].tally);
    }
    report(job, &sum, span, irq_count() - interrupts);
    memory_release(mark);
}
