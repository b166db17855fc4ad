/*
 * A load on virtio-net: frames leave one NIC and arrive at another, or at the
 * same if what is behind it sends them back.
 *
 * Each lane is a pair of queues and sends a stream of its own.  With verify=on
 * at most "depth" of its frames are under way, so that nobody has to drop any.  With verify=off frames are sent
 * as fast as the NIC takes them and what arrives is counted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "net-port.h"

#define NET_HEADER 12u           /* virtio 1.2, 5.1.6.1 */
#define RX_BYTES (NET_HEADER + FRAME_MAX + 2)
#define MAX_LANES 16u
#define PATIENCE_MS 200u         /* for frames that may be lost */
#define MAX_TRIES 100u           /* until one arrives at all */

typedef struct Buffer {
    Chain chain;
    uint8_t *data;
    uint64_t begun;              /* ticks */
} Buffer;

typedef struct NetLane {
    Virtqueue *tx, *rx;
    Buffer *tx_buffers, *rx_buffers;
    uint32_t *free;              /* a stack of tx buffers */
    uint32_t num_free;
    uint32_t index;
    uint64_t sent;               /* frames of its stream */
    uint64_t quota;
    uint64_t forgiven;           /* of them, no longer waited for */
    unsigned tries;              /* before the first one arrived */
    uint64_t progress;           /* ticks of the last arrival */
    uint64_t next[MAX_LANES];    /* a stream: the sequence expected here */
    Tally tally;
} NetLane;

static struct {
    const Job *job;
    Port from, to;
    uint32_t length;             /* of a frame */
    NetLane *lanes;
    unsigned num_lanes;
    unsigned num_cpus;
    uint64_t deadline;
    /* A stream: frames that arrived, at whichever lane. */
    uint64_t arrived[MAX_LANES];
} net;

static uint64_t under_way(const NetLane *lane)
{
    uint64_t arrived = __atomic_load_n(&net.arrived[lane->index],
                                       __ATOMIC_RELAXED);
    uint64_t known = arrived + lane->forgiven;

    return lane->sent > known ? lane->sent - known : 0;
}

/* A buffer of @length bytes; the header is a descriptor of its own. */
static void make_buffer(Buffer *buffer, uint32_t length, bool is_tx)
{
    unsigned num = is_tx ? net.job->segments : 1;
    Piece *pieces = allocate((num + 1) * sizeof(Piece), 16);
    uint32_t left = length - NET_HEADER;
    uint64_t at;

    buffer->data = allocate(length, 64);
    at = (uintptr_t)buffer->data;
    pieces[0] = (Piece) { at, NET_HEADER };
    at += NET_HEADER;
    for (unsigned i = 0; i < num; i++) {
        uint32_t part = left / (num - i);

        pieces[1 + i] = (Piece) { at, part };
        at += part;
        left -= part;
    }
    buffer->chain = (Chain) { pieces, is_tx ? num + 1 : 0,
                              is_tx ? 0 : num + 1 };
}

static void check(NetLane *lane, const Frame *frame, uint32_t length,
                  uint64_t now)
{
    uint32_t stream = frame->stream;

    if (!frame_is_ours(frame, length)) {
        return;
    }
    lane->progress = now;
    if (!net.job->verify) {
        lane->tally.verified++;
        return;
    }
    /* Out of order or twice is as wrong as changed. */
    if (stream >= net.num_lanes || frame->sequence < lane->next[stream] ||
        !frame_is_right(frame, length, net.job->seed)) {
        if (!lane->tally.bad++) {
            say("LOADVM frame of %u bytes, stream %u, sequence %lu is wrong\n",
                length, stream, frame->sequence);
        }
        return;
    }
    lane->next[stream] = frame->sequence + 1;
    lane->tally.verified++;
    tally_latency(&lane->tally, now - frame->sent);
    __atomic_fetch_add(&net.arrived[stream], 1, __ATOMIC_RELAXED);
}

/* Everything that has arrived; the buffers go back at once. */
static bool receive(NetLane *lane)
{
    uint64_t now = 0;
    Used used;

    while (virtqueue_take(lane->rx, &used)) {
        Buffer *buffer = &lane->rx_buffers[used.token];

        now = now ? now : ticks();
        if (used.length >= NET_HEADER && used.length <= RX_BYTES) {
            check(lane, (const Frame *)(buffer->data + NET_HEADER),
                  used.length - NET_HEADER, now);
        } else {
            lane->tally.bad++;
        }
        virtqueue_add(lane->rx, &buffer->chain, used.token);
    }
    if (now) {
        virtqueue_suppress(lane->rx);
        virtqueue_publish(lane->rx);
    }
    return now;
}

static bool reap_sent(NetLane *lane)
{
    uint64_t now = 0;
    Used used;

    while (virtqueue_take(lane->tx, &used)) {
        now = now ? now : ticks();
        if (!net.job->verify) {
            tally_latency(&lane->tally,
                          now - lane->tx_buffers[used.token].begun);
        }
        lane->tally.requests++;
        lane->tally.bytes += net.length;
        lane->free[lane->num_free++] = used.token;
    }
    if (now) {
        virtqueue_suppress(lane->tx);
    }
    return now;
}

static bool is_done(const NetLane *lane, uint64_t now)
{
    return lane->sent >= lane->quota || now >= net.deadline;
}

static bool send(NetLane *lane, uint64_t now)
{
    const Job *job = net.job;
    uint32_t before = lane->num_free;

    if (before < MIN(job->batch, job->depth)) {
        return false;
    }
    while (lane->num_free && !is_done(lane, now) &&
           (!job->verify || under_way(lane) < job->depth)) {
        uint32_t token = lane->free[--lane->num_free];
        Buffer *buffer = &lane->tx_buffers[token];
        Frame *frame = (Frame *)(buffer->data + NET_HEADER);

        frame_make(frame, net.length, lane->index, lane->sent++, job->seed);
        frame->sent = buffer->begun = now;
        virtqueue_add(lane->tx, &buffer->chain, token);
    }
    if (lane->num_free == before) {
        return false;
    }
    lane->tally.batches++;
    virtqueue_publish(lane->tx);
    return true;
}

/*
 * When nothing has arrived for long, what is under way is waited for no longer.
 * It may come all the same: what is lost is counted at the end.  Before the
 * first arrival the way may not be open yet; those frames are sent in vain, and
 * are none of the frames that the job asks for.
 */
static void give_up_late(NetLane *lane, uint64_t now)
{
    uint64_t late = under_way(lane);

    if (late && now > lane->progress + PATIENCE_MS * ticks_per_ms()) {
        lane->forgiven += late;
        if (!net.arrived[lane->index]) {
            if (++lane->tries == MAX_TRIES) {
                die("no frame of stream %u arrives", lane->index);
            }
            lane->quota += lane->quota == UINT64_MAX ? 0 : late;
        }
        lane->progress = now;
    }
}

static void doze(unsigned cpu)
{
    bool quiet = true;

    for (unsigned i = cpu; i < net.num_lanes; i += net.num_cpus) {
        quiet &= virtqueue_arm(net.lanes[i].rx);
        quiet &= virtqueue_arm(net.lanes[i].tx);
    }
    if (quiet) {
        cpu_sleep();
        net.lanes[cpu].tally.sleeps++;
    }
    for (unsigned i = cpu; i < net.num_lanes; i += net.num_cpus) {
        virtqueue_suppress(net.lanes[i].rx);
        virtqueue_suppress(net.lanes[i].tx);
    }
}

static void work(unsigned cpu)
{
    unsigned looks = 0;

    for (;;) {
        bool busy = false, sending = false, more = false;
        uint64_t now = ticks();

        for (unsigned i = cpu; i < net.num_lanes; i += net.num_cpus) {
            NetLane *lane = &net.lanes[i];

            busy |= receive(lane);
            busy |= reap_sent(lane);
            busy |= send(lane, now);
            sending |= lane->num_free < net.job->depth;
            more |= !is_done(lane, now);
            if (net.job->verify) {
                give_up_late(lane, now);
                more |= under_way(lane) > 0;
            }
        }
        if (!sending && !more) {
            return;
        }
        if (busy) {
            looks = 0;
            continue;
        }
        virtio_idle(net.from.dev, &looks, net.job->msix);
        /* Nothing would end a sleep if a frame were lost. */
        if (sending && net.job->msix) {
            doze(cpu);
        }
    }
}

static void make_buffers(NetLane *lane)
{
    uint32_t depth = net.job->depth;
    uint32_t num_rx = MIN(2 * depth, lane->rx->num_tokens);

    lane->tx_buffers = allocate(depth * sizeof(Buffer), 64);
    lane->free = allocate(depth * sizeof(*lane->free), 64);
    for (uint32_t i = 0; i < depth; i++) {
        Buffer *buffer = &lane->tx_buffers[i];
        Frame *frame;

        make_buffer(buffer, NET_HEADER + net.length, true);
        frame = (Frame *)(buffer->data + NET_HEADER);
        memcpy(frame->to, net.to.mac, MAC_SIZE);
        memcpy(frame->from, net.from.mac, MAC_SIZE);
        lane->free[i] = i;
    }
    lane->num_free = depth;
    lane->rx_buffers = allocate(num_rx * sizeof(Buffer), 64);
    for (uint32_t i = 0; i < num_rx; i++) {
        make_buffer(&lane->rx_buffers[i], RX_BYTES, false);
        virtqueue_add(lane->rx, &lane->rx_buffers[i].chain, i);
    }
}

static void make_lane(unsigned index)
{
    const Job *job = net.job;
    NetLane *lane = &net.lanes[index];
    int cpu = index % net.num_cpus;
    unsigned per_frame;

    lane->index = index;
    lane->quota = UINT64_MAX;
    if (job->requests) {
        lane->quota = job->requests * (index + 1) / net.num_lanes -
                      job->requests * index / net.num_lanes;
    }
    lane->tx = port_queue(&net.from, job, 2 * index + 1, job->depth, cpu);
    lane->rx = port_queue(&net.to, job, 2 * index, 2 * job->depth, cpu);
    if (net.from.dev != net.to.dev) {
        /* A backend may wait until both queues of a pair are there. */
        port_queue(&net.from, job, 2 * index, 1, cpu);
        port_queue(&net.to, job, 2 * index + 1, 1, cpu);
    }
    per_frame = virtqueue_needs(lane->tx, job->segments + 1);
    if (job->depth * per_frame > lane->tx->size ||
        2 * job->depth * virtqueue_needs(lane->rx, 2) > lane->rx->size) {
        die("depth=%lu does not fit a ring of %u", job->depth,
            MIN(lane->tx->size, lane->rx->size));
    }
    make_buffers(lane);
}

static void start(const Job *job)
{
    net.job = job;
    net.length = job->bs ? job->bs : FRAME_MAX;
    if (net.length < FRAME_MIN || net.length > FRAME_MAX ||
        job->queues > MAX_LANES) {
        die("bs= from %u to %u and queues= up to %u are what a NIC can do",
            FRAME_MIN, FRAME_MAX, MAX_LANES);
    }
    memset(net.arrived, 0, sizeof(net.arrived));
    net.num_lanes = job->queues;
    net.num_cpus = MIN(job->cpus ? job->cpus : cpu_count(), cpu_count());
    net.num_cpus = MIN(net.num_cpus, net.num_lanes);
    net.lanes = allocate(net.num_lanes * sizeof(NetLane), 64);
    port_begin(&net.from, job, job->dev);
    net.to = net.from;
    if (job->to != job->dev) {
        port_begin(&net.to, job, job->to);
    }
    for (unsigned i = 0; i < net.num_lanes; i++) {
        make_lane(i);
    }
    port_run(&net.from);
    if (job->to != job->dev) {
        port_run(&net.to);
    }
    for (unsigned i = 0; i < net.num_lanes; i++) {
        virtqueue_publish(net.lanes[i].rx);
    }
}

void net_run(const Job *job)
{
    static Tally sum;
    uint64_t mark = memory_mark(), interrupts = irq_count(), begin, span;

    start(job);
    begin = ticks();
    net.deadline = job->time ? begin + job->time * ticks_per_ms() : UINT64_MAX;
    for (unsigned i = 0; i < net.num_lanes; i++) {
        net.lanes[i].progress = begin;
    }
    cpu_run(net.num_cpus, work);
    span = ticks() - begin;
    virtio_end(net.from.dev);
    virtio_end(net.to.dev);

    memset(&sum, 0, sizeof(sum));
    for (unsigned i = 0; i < net.num_lanes; i++) {
        NetLane *lane = &net.lanes[i];

        lane->tally.kicks = lane->tx->kicks + lane->rx->kicks;
        if (job->verify) {
            lane->tally.lost = lane->sent - net.arrived[i];
        }
        tally_add(&sum, &lane->tally);
    }
    report(job, &sum, span, irq_count() - interrupts);
    memory_release(mark);
}
