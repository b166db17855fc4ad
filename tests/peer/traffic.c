/*
 * Requests between a shadow ring and a device, and what is checked of them.
 *
 * Each request has a number, which its first readable word says (or nothing
 * does, if it has none) and from which all of its words follow.  The device
 * checks what it reads and writes an answer that follows from it; the driver
 * checks the answer, the length and that the request was out.  Payload is
 * plain memory: only the order that the ring brings makes it safe to touch,
 * so ThreadSanitizer sees a race where an order is missing.
 *
 * Both sides sleep whenever there is nothing to do.  A side that asks to be
 * woken and is not sleeps for ever.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "traffic.h"

#define BUF_WORDS 4

/* A request that is out, or could be. */
typedef struct Slot {
    bool out;
    uint64_t n;
    unsigned num_out;
    unsigned num_in;
    uint64_t words[PEER_BUFS][BUF_WORDS];
    uint8_t table[PEER_BUFS * SHADOW_RING_DESC_BYTES]
        __attribute__((aligned(16)));
} Slot;

struct Traffic {
    TrafficParams params;
    void *mem;
    void *peer;
    Bell kicked;
    Bell called;
    bool stopped;             /* atomic; the driver's, then a kick       */

    /* The driver's. */
    ShadowRing *ring;
    GRand *driver_dice;
    Slot *slot;               /* as many as the ring has descriptors     */
    Slot **idle;              /* those that are not out, a stack         */
    unsigned num_idle;
    uint64_t num_added;
    uint64_t num_taken;
    uint64_t num_kicks;
    uint64_t num_driver_sleeps;
    unsigned batch;           /* what the driver wants to add at once    */

    /* The device's. */
    GRand *device_dice;
    PeerRequest *held;
    unsigned num_held;
    uint64_t num_fetched;
    uint64_t num_bufs;
    uint64_t num_calls;
    uint64_t num_device_sleeps;
};

static void G_NORETURN wrong(const char *what, uint64_t n)
{
    fprintf(stderr, "request %" PRIu64 ": %s\n", n, what);
    abort();
}

static uint64_t word_of(uint64_t n, unsigned buf, unsigned i, bool answer)
{
    uint64_t word = n * 0x9e3779b97f4a7c15 + buf * 64 + i;

    return answer ? ~word : word;
}

/* Differs from buffer to buffer, so that none is taken for another. */
static uint32_t buf_words(uint64_t n, unsigned buf)
{
    return 1 + (n + buf) % BUF_WORDS;
}

static void bell_ring(Bell *bell)
{
    qatomic_set(&bell->rung, qatomic_read(&bell->rung) + 1);
}

bool bell_heard(Bell *bell)
{
    unsigned rung = qatomic_read(&bell->rung);
    bool heard = rung != bell->heard;

    bell->heard = rung;
    return heard;
}

Bell *traffic_kicked(Traffic *t)
{
    return &t->kicked;
}

Bell *traffic_called(Traffic *t)
{
    return &t->called;
}

static void *new_aligned(size_t bytes)
{
    void *memory;

    if (posix_memalign(&memory, 64, bytes)) {
        abort();
    }
    return memset(memory, 0, bytes);
}

Traffic *traffic_new(const TrafficParams *params, uint32_t seed)
{
    const ShadowRingConfig *config = &params->config;
    ShadowRingLayout layout = shadow_ring_layout(config->format,
                                                 config->size);
    Traffic *t = g_new0(Traffic, 1);
    PeerRing ring = {
        .packed = config->format == SHADOW_RING_PACKED,
        .event_idx = config->event_idx,
        .indirect = config->indirect,
        .size = config->size,
    };

    t->params = *params;
    t->mem = new_aligned(layout.bytes);
    t->params.config.mem = t->mem;
    ring.mem = t->mem;
    ring.desc = (uint8_t *)t->mem + layout.desc;
    ring.driver = (uint8_t *)t->mem + layout.driver;
    ring.device = (uint8_t *)t->mem + layout.device;
    t->peer = peer_ops.new(&ring);
    if (!t->peer) {
        free(t->mem);
        g_free(t);
        return NULL;
    }
    t->ring = shadow_ring_new(&t->params.config);
    t->driver_dice = g_rand_new_with_seed(seed);
    t->device_dice = g_rand_new_with_seed(seed + 1);
    t->slot = new_aligned(config->size * sizeof(Slot));
    t->idle = g_new(Slot *, config->size);
    t->held = g_new(PeerRequest, config->size);
    for (unsigned i = 0; i < config->size; i++) {
        t->idle[t->num_idle++] = &t->slot[i];
    }
    return t;
}

void traffic_free(Traffic *t)
{
    peer_ops.free(t->peer);
    shadow_ring_free(t->ring);
    g_rand_free(t->driver_dice);
    g_rand_free(t->device_dice);
    free(t->slot);
    free(t->mem);
    g_free(t->idle);
    g_free(t->held);
    g_free(t);
}

void traffic_stop(Traffic *t)
{
    qatomic_store_release(&t->stopped, true);
    bell_ring(&t->kicked);
}

static bool driver_dice(Traffic *t, unsigned one_in)
{
    return !(g_rand_int(t->driver_dice) % one_in);
}

/* Let the other side run in the middle of things, if it has no processor. */
static void driver_pause(Traffic *t)
{
    if (driver_dice(t, 512)) {
        sched_yield();
    }
}

static void check_answer(const Slot *slot, uint32_t raw_len)
{
    uint32_t len = 0;

    for (unsigned b = slot->num_out; b < slot->num_out + slot->num_in; b++) {
        for (unsigned i = 0; i < buf_words(slot->n, b); i++) {
            if (slot->words[b][i] != word_of(slot->n, b, i, true)) {
                wrong("the answer is not the device's", slot->n);
            }
        }
        len += buf_words(slot->n, b) * sizeof(uint64_t);
    }
    if (raw_len != len) {
        wrong("the length is not the device's", slot->n);
    }
}

static void driver_take(Traffic *t)
{
    ShadowRingResult result;
    uint32_t raw_len;
    void *token;

    while ((result = shadow_ring_take(t->ring, &token, &raw_len)) ==
           SHADOW_RING_OK) {
        Slot *slot = token;

        if (slot < t->slot || slot >= t->slot + t->params.config.size ||
            !slot->out) {
            wrong("a token came back that is not out", t->num_taken);
        }
        check_answer(slot, raw_len);
        slot->out = false;
        t->idle[t->num_idle++] = slot;
        t->num_taken++;
    }
    if (result == SHADOW_RING_BROKEN) {
        wrong(shadow_ring_fault(t->ring), t->num_taken);
    }
}

/* The first word of the first buffer is the request's number. */
static void fill_slot(Traffic *t, Slot *slot, ShadowRingBuf *bufs)
{
    unsigned num = slot->num_out + slot->num_in;

    for (unsigned b = 0; b < num; b++) {
        for (unsigned i = 0; i < buf_words(slot->n, b); i++) {
            slot->words[b][i] = b || i ? word_of(slot->n, b, i, false) :
                                         slot->n;
        }
        bufs[b] = (ShadowRingBuf) {
            .addr = (uintptr_t)slot->words[b],
            .len = buf_words(slot->n, b) * sizeof(uint64_t),
        };
    }
}

/* Returns: false if there is no room. */
static bool driver_add(Traffic *t)
{
    const ShadowRingConfig *config = &t->params.config;
    unsigned most = MIN(t->params.max_bufs, config->size);
    unsigned num = 1 + t->num_added % most;
    bool table = config->indirect && (num > 1 || driver_dice(t, 2));
    ShadowRingBuf bufs[PEER_BUFS];
    ShadowRingChain chain;
    Slot *slot;

    if (shadow_ring_room(t->ring) < (table ? 1 : num)) {
        return false;
    }
    slot = t->idle[--t->num_idle];
    slot->out = true;
    slot->n = t->num_added++;
    slot->num_out = g_rand_int(t->driver_dice) % (num + 1);
    slot->num_in = num - slot->num_out;
    fill_slot(t, slot, bufs);
    chain = (ShadowRingChain) {
        .bufs = bufs,
        .num_out = slot->num_out,
        .num_in = slot->num_in,
        .table = table ? slot->table : NULL,
        .table_addr = (uintptr_t)slot->table,
    };
    shadow_ring_add(t->ring, &chain, slot);
    return true;
}

static void driver_forward(Traffic *t)
{
    unsigned batch = 1 + g_rand_int(t->driver_dice) % 24;

    while (batch-- && t->num_added < t->params.num && driver_add(t)) {
        if (driver_dice(t, 8)) {
            shadow_ring_publish(t->ring);
        }
    }
    driver_pause(t);
    shadow_ring_publish(t->ring);
    driver_pause(t);
    if (shadow_ring_should_kick(t->ring)) {
        t->num_kicks++;
        bell_ring(&t->kicked);
    }
    driver_pause(t);
}

Turn traffic_driver_turn(Traffic *t)
{
    if (!driver_dice(t, 4)) {
        shadow_ring_suppress_calls(t->ring);
    }
    driver_take(t);
    if (t->num_taken == t->params.num) {
        return TURN_DONE;
    }
    driver_forward(t);
    /* Now and then waits for an answer though it could go on. */
    if ((t->num_added < t->params.num && shadow_ring_room(t->ring) &&
         !driver_dice(t, 16)) || shadow_ring_arm_calls(t->ring)) {
        return TURN_AGAIN;
    }
    t->num_driver_sleeps++;
    return TURN_SLEEPS;
}

static bool device_dice(Traffic *t, unsigned one_in)
{
    return !(g_rand_int(t->device_dice) % one_in);
}

static void device_pause(Traffic *t)
{
    if (device_dice(t, 512)) {
        sched_yield();
    }
}

static void check_words(const PeerRequest *r, uint64_t n, unsigned b)
{
    const uint64_t *words = r->buf[b].base;

    if (r->buf[b].len != buf_words(n, b) * sizeof(uint64_t)) {
        wrong("a buffer is not as long as it was made", n);
    }
    for (unsigned i = 0; b < r->num_out && i < buf_words(n, b); i++) {
        if (words[i] != (b || i ? word_of(n, b, i, false) : n)) {
            wrong("the device reads something else", n);
        }
    }
}

/* Requests are fetched in the order in which they were added. */
static bool device_fetch(Traffic *t)
{
    PeerRequest *r = &t->held[t->num_held];
    unsigned most = MIN(t->params.max_bufs, t->params.config.size);
    uint64_t n = t->num_fetched;
    int result;

    if (t->num_held == t->params.config.size) {
        return false;
    }
    result = peer_ops.fetch(t->peer, r);
    if (result <= 0) {
        if (result < 0) {
            wrong("the device does not understand it", n);
        }
        return false;
    }
    if (r->num_out + r->num_in != 1 + n % most) {
        wrong("the device sees another number of buffers", n);
    }
    for (unsigned b = 0; b < r->num_out + r->num_in; b++) {
        check_words(r, n, b);
    }
    t->num_bufs += r->num_out + r->num_in;
    t->num_held++;
    t->num_fetched++;
    return true;
}

static void device_answer(const PeerRequest *r, uint64_t n)
{
    for (unsigned b = r->num_out; b < r->num_out + r->num_in; b++) {
        uint64_t *words = r->buf[b].base;

        for (unsigned i = 0; i < r->buf[b].len / sizeof(uint64_t); i++) {
            words[i] = word_of(n, b, i, true);
        }
    }
}

/* Answers when it is fetched, gives back at any time and in any order. */
static void device_return(Traffic *t, unsigned keep)
{
    bool hidden = false;

    while (t->num_held > keep) {
        unsigned i = t->params.in_order ? 0 :
                     g_rand_int(t->device_dice) % t->num_held;
        PeerRequest r = t->held[i];
        uint32_t len = 0;

        for (unsigned b = r.num_out; b < r.num_out + r.num_in; b++) {
            len += r.buf[b].len;
        }
        t->num_held--;
        memmove(&t->held[i], &t->held[i + 1],
                (t->num_held - i) * sizeof(t->held[0]));
        peer_ops.use(t->peer, &r, len);
        hidden = true;
        if (device_dice(t, 8)) {
            peer_ops.publish(t->peer);
            hidden = false;
        }
    }
    if (hidden) {
        peer_ops.publish(t->peer);
    }
    device_pause(t);
    if (peer_ops.should_call(t->peer)) {
        t->num_calls++;
        bell_ring(&t->called);
    }
    device_pause(t);
}

Turn traffic_device_turn(Traffic *t)
{
    if (qatomic_load_acquire(&t->stopped)) {
        return TURN_DONE;
    }
    peer_ops.suppress_kicks(t->peer);
    while (device_fetch(t)) {
        device_answer(&t->held[t->num_held - 1], t->num_fetched - 1);
        device_pause(t);
        if (device_dice(t, 16)) {
            break;
        }
    }
    if (t->num_held) {
        device_return(t, device_dice(t, 2) ? t->num_held / 2 : 0);
    }
    if (t->num_held == t->params.config.size || peer_ops.arm_kicks(t->peer)) {
        return TURN_AGAIN;
    }
    if (t->num_held) {
        /* A kick may come now, while something is given back late. */
        device_return(t, 0);
    }
    t->num_device_sleeps++;
    return TURN_SLEEPS;
}

char *traffic_report(const Traffic *t)
{
    return g_strdup_printf("%" PRIu64 " requests, %" PRIu64 " buffers, %"
                           PRIu64 " kicks, %" PRIu64 " calls, driver slept %"
                           PRIu64 " times, device %" PRIu64, t->num_taken,
                           t->num_bufs, t->num_kicks, t->num_calls,
                           t->num_driver_sleeps, t->num_device_sleeps);
}
