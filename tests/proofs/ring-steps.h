/*
 * Proofs of the shadow ring that are alike in both formats: what a user may
 * do, one arbitrary step at a time, against a device that writes anything.
 *
 * Three proofs share this file; shadow-ring-split.c and -packed.c have them:
 *
 *   steps      NUM_STEPS steps from a new ring
 *   any-state  one step from any state that satisfies the invariant, which
 *              holds again afterwards: so all of this is true after any number
 *              of steps.  "steps" shows that the invariant is not too narrow
 *              to begin with, and does not depend on it.
 *   broken     one step of a ring that is broken: it changes nothing
 *
 * Foreign memory is not modelled at all: each read gives any value, each write
 * is checked and dropped.  That is every device there can be.
 *
 * A format gives, besides its sources: format_havoc(), any state of its part;
 * format_invariant(); format_unasked(), what was published since the last kick
 * check; format_kick_wanted(), the specification's answer to whether the
 * device that wrote @raw_event wants a kick for the last @num of these.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_RING_STEPS_H
#define PROOFS_RING_STEPS_H

/* Longer than the ring: an indirect table may be. */
#define MAX_BUFS (RING_SIZE + 2)
#define DESC_BYTES (RING_SIZE * SHADOW_RING_DESC_BYTES)

static void format_havoc(ShadowRing *ring);
static bool format_invariant(const ShadowRing *ring);
static uint64_t format_unasked(const ShadowRing *ring);
static bool format_kick_wanted(const ShadowRing *ring, uint64_t num,
                               uint64_t raw_event);

enum {
    STEP_ADD,
    STEP_PUBLISH,
    STEP_TAKE,
    STEP_KICK,
    STEP_UNFETCHED,
    STEP_TAKE_BACK,
    STEP_BASE,
    STEP_LOOK,
    STEP__MAX
};

/* One proof may be of one kind of step only. */
#ifndef STEP
#define STEP (nondet_u16() % STEP__MAX)
#endif

/* What the user of the ring knows of a request. */
typedef struct Token {
    bool out;
    bool published;
} Token;

static Token tokens[RING_SIZE + 1];
static uint8_t ring_mem[DESC_BYTES + 512];
static uint8_t table_mem[MAX_BUFS * SHADOW_RING_DESC_BYTES];
static ShadowRingLayout layout;
static uint64_t last_read;
/* Requests that the device said it had not fetched, so many are left. */
static uint16_t unfetched;

/* Is [@begin, @begin + @bytes) inside @size bytes at @area? */
static bool inside(uint64_t begin, size_t bytes, uint64_t area, uint64_t size)
{
    return begin >= area && begin + bytes <= area + size;
}

uint64_t proof_read(const volatile void *from, size_t bytes)
{
    uint64_t at = __CPROVER_POINTER_OFFSET(from);

    PROVE(__CPROVER_same_object(from, ring_mem) &&
          (inside(at, bytes, layout.desc, DESC_BYTES) ||
           inside(at, bytes, layout.device, DEVICE_BYTES)),
          "what is read is the ring's memory, where the device writes");
    last_read = nondet_u64();
    return last_read;
}

void proof_write(volatile void *to, size_t bytes, uint64_t value)
{
    uint64_t at = __CPROVER_POINTER_OFFSET(to);

    (void)value;
    PROVE(__CPROVER_same_object(to, table_mem) ?
          inside(at, bytes, 0, sizeof(table_mem)) :
          __CPROVER_same_object(to, ring_mem) &&
          (inside(at, bytes, layout.desc, DESC_BYTES) ||
           inside(at, bytes, layout.driver, DRIVER_BYTES)),
          "what is written is the ring's own memory, or the table lent to it");
}

static ShadowRing *new_ring(void)
{
    ShadowRingConfig config = {
        .format = RING_FORMAT,
        .size = RING_SIZE,
        .event_idx = nondet_bool(),
        .indirect = nondet_bool(),
        .mem = ring_mem,
    };

    layout = shadow_ring_layout(RING_FORMAT, RING_SIZE);
    PROVE(layout.bytes <= sizeof(ring_mem), "the proof's memory suffices");
    return shadow_ring_new(&config);
}

/* The token of request @id is one that is out, and no other request's. */
static bool token_invariant(const ShadowRing *ring, unsigned id, bool *seen)
{
    const ShadowRingEntry *entry = &ring->entry[id];

    for (unsigned i = 0; i <= RING_SIZE; i++) {
        if (entry->token == &tokens[i]) {
            bool first = !seen[i];

            seen[i] = true;
            return first && tokens[i].out &&
                   tokens[i].published == (entry->seq < ring->sent_seq);
        }
    }
    return false;
}

/* No two requests that are out have the same number. */
static bool seqs_differ(const ShadowRing *ring)
{
    for (unsigned i = 0; i < RING_SIZE; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (ring->entry[i].token && ring->entry[j].token &&
                ring->entry[i].seq == ring->entry[j].seq) {
                return false;
            }
        }
    }
    return true;
}

static bool entries_invariant(const ShadowRing *ring)
{
    bool seen[RING_SIZE + 1] = { false };
    unsigned num = 0, descs = ring->num_free, unpublished = 0, out = 0;

    for (unsigned id = 0; id < RING_SIZE; id++) {
        const ShadowRingEntry *entry = &ring->entry[id];

        if (!entry->token) {
            continue;
        }
        if (!token_invariant(ring, id, seen) || entry->num_descs == 0 ||
            entry->num_descs > RING_SIZE || entry->seq >= ring->next_seq) {
            return false;
        }
        num++;
        descs += entry->num_descs;
        unpublished += entry->seq >= ring->sent_seq;
    }
    for (unsigned i = 0; i <= RING_SIZE; i++) {
        out += tokens[i].out;
    }
    return num == ring->num_in_flight && num == out && descs == RING_SIZE &&
           ring->sent_seq <= ring->next_seq &&
           unpublished == ring->next_seq - ring->sent_seq &&
           seqs_differ(ring) &&
           (unfetched == 0 || ring->sent_seq == ring->next_seq) &&
           (ring->fault || unfetched <= shadow_ring_published(ring));
}

/* An id that was given again belongs to a newer request. */
static bool order_invariant(const ShadowRing *ring)
{
    for (unsigned i = 0; i <= ring->order_mask; i++) {
        uint64_t seq = ring->next_seq - 1 - i;
        uint16_t id = ring->order[seq & ring->order_mask];

        if (id >= RING_SIZE) {
            return false;
        }
        if (i < ring->next_seq && ring->entry[id].token &&
            ring->entry[id].seq < seq) {
            return false;
        }
    }
    return true;
}

static bool ring_invariant(const ShadowRing *ring)
{
    return entries_invariant(ring) && order_invariant(ring) &&
           format_invariant(ring);
}

static ShadowRing *any_ring(void)
{
    ShadowRing *ring = new_ring();

    ring->num_free = nondet_u16();
    ring->num_in_flight = nondet_u16();
    ring->next_seq = nondet_u64();
    ring->sent_seq = nondet_u64();
    for (unsigned i = 0; i < RING_SIZE; i++) {
        unsigned token = nondet_u16();

        ring->entry[i].token = token <= RING_SIZE ? &tokens[token] : NULL;
        ring->entry[i].seq = nondet_u64();
        ring->entry[i].num_descs = nondet_u16();
    }
    for (unsigned i = 0; i <= ring->order_mask; i++) {
        ring->order[i] = nondet_u16();
    }
    for (unsigned i = 0; i <= RING_SIZE; i++) {
        tokens[i].out = nondet_bool();
        tokens[i].published = nondet_bool();
    }
    unfetched = nondet_u16();
    format_havoc(ring);
    /* Numbers never wrap: 2^64 requests take longer than a machine lasts. */
    ASSUME(ring->next_seq < UINT64_MAX - RING_SIZE);
    ASSUME(ring_invariant(ring));
    return ring;
}

/* The caller's preconditions, see shadow_ring_add(). */
static void step_add(ShadowRing *ring)
{
    ShadowRingBuf bufs[MAX_BUFS];
    bool indirect = nondet_bool();
    ShadowRingChain chain = {
        .bufs = bufs,
        .num_out = nondet_u16(),
        .num_in = nondet_u16(),
        .table = indirect ? table_mem : NULL,
        .table_addr = nondet_u64(),
    };
    unsigned num = (unsigned)chain.num_out + chain.num_in;
    unsigned token = nondet_u16();
    uint16_t room = shadow_ring_room(ring);

    ASSUME(!indirect || ring->indirect);
    ASSUME(num > 0 && num <= (indirect ? MAX_BUFS : room));
    ASSUME(room > 0 && token <= RING_SIZE && !tokens[token].out);
    shadow_ring_add(ring, &chain, &tokens[token]);
    tokens[token] = (Token) { .out = true };
    PROVE(shadow_ring_room(ring) == room - (indirect ? 1 : num),
          "a request takes the room that it needs");
}

static void step_publish(ShadowRing *ring)
{
    bool broken = ring->fault;

    shadow_ring_publish(ring);
    for (unsigned i = 0; !broken && i <= RING_SIZE; i++) {
        tokens[i].published = tokens[i].out;
    }
}

/* A token came back from the ring; the user gives up what it names. */
static void token_back(void *token)
{
    unsigned i = 0;

    while (i <= RING_SIZE && token != &tokens[i]) {
        i++;
    }
    PROVE(i <= RING_SIZE, "what comes back is a token");
    PROVE(tokens[i].out, "a token comes back once");
    PROVE(tokens[i].published, "only what was published comes back");
    tokens[i].out = false;
}

static void step_take(ShadowRing *ring)
{
    bool broken = ring->fault;
    uint16_t in_flight = shadow_ring_in_flight(ring);
    void *token = NULL;
    uint32_t raw_len;
    ShadowRingResult result = shadow_ring_take(ring, &token, &raw_len);

    PROVE((result == SHADOW_RING_BROKEN) == !!ring->fault,
          "BROKEN is said of a broken ring, and of no other");
    PROVE(!broken || result == SHADOW_RING_BROKEN, "broken stays broken");
    if (result == SHADOW_RING_OK) {
        token_back(token);
    }
    PROVE(shadow_ring_in_flight(ring) ==
          in_flight - (result == SHADOW_RING_OK),
          "a take counts one request less, or changes nothing");
}

static void step_kick(ShadowRing *ring)
{
    bool broken = ring->fault;
    uint64_t num = format_unasked(ring);
    bool kick = shadow_ring_should_kick(ring);

    PROVE(kick == (!broken && num &&
                   format_kick_wanted(ring, num, last_read)),
          "a kick is wanted exactly when the specification says so");
    PROVE(broken || format_unasked(ring) == 0,
          "each published request is asked about once");
}

/* The device has stopped and answers GET_VRING_BASE with anything. */
static void step_unfetched(ShadowRing *ring)
{
    bool broken = ring->fault;
    uint16_t num;

    if (shadow_ring_unfetched(ring, nondet_u32(), &num)) {
        PROVE(!broken, "broken stays broken");
        PROVE(num <= shadow_ring_published(ring),
              "no more is unfetched than was published");
        /* Nothing can be taken back before all that was added is shown. */
        unfetched = ring->sent_seq == ring->next_seq ? num : 0;
    } else {
        PROVE(ring->fault, "an answer that cannot be true breaks the ring");
    }
}

static void step_take_back(ShadowRing *ring)
{
    bool broken = ring->fault;
    void *token;

    token = shadow_ring_take_back(ring);
    PROVE(!token == !!ring->fault, "nothing to take back breaks the ring");
    PROVE(!broken || !token, "broken stays broken");
    if (token) {
        token_back(token);
    }
}

static void step_look(ShadowRing *ring)
{
    if (nondet_bool()) {
        shadow_ring_suppress_calls(ring);
        return;
    }
    if (nondet_bool()) {
        PROVE(!shadow_ring_has_used(ring) || !ring->fault,
              "a broken ring has nothing");
        return;
    }
    PROVE(!shadow_ring_arm_calls(ring) || !ring->fault,
          "a broken ring has nothing");
}

/* Anything that a user may do, at any time or when the device has stopped. */
static void step(ShadowRing *ring, unsigned what)
{
    /* Only at once: whatever else is done, the device goes on. */
    uint16_t left = unfetched;

    unfetched = 0;
    switch (what) {
    case STEP_ADD:
        ASSUME(!ring->fault);
        step_add(ring);
        break;
    case STEP_PUBLISH:
        step_publish(ring);
        break;
    case STEP_TAKE:
        step_take(ring);
        break;
    case STEP_KICK:
        step_kick(ring);
        break;
    case STEP_UNFETCHED:
        step_unfetched(ring);
        break;
    case STEP_TAKE_BACK:
        ASSUME(left > 0);
        step_take_back(ring);
        unfetched = left - 1;
        break;
    case STEP_BASE:
        ASSUME(ring->sent_seq == ring->next_seq);
        shadow_ring_base(ring);
        break;
    default:
        step_look(ring);
    }
}

void proof_steps(void)
{
    ShadowRing *ring = new_ring();

    PROVE(ring_invariant(ring), "a new ring satisfies the invariant");
    for (unsigned i = 0; i < NUM_STEPS; i++) {
        const char *fault = ring->fault;

        step(ring, STEP);
        PROVE(!fault || ring->fault == fault, "the first fault stays");
    }
    PROVE(ring_invariant(ring), "the invariant holds after the last step");
}

void proof_any_state(void)
{
    ShadowRing *ring = any_ring();

    step(ring, STEP);
    PROVE(entries_invariant(ring), "requests, tokens and room add up again");
    PROVE(order_invariant(ring), "the order of requests is kept");
    PROVE(format_invariant(ring), "the format's own invariant holds again");
}

void proof_broken(void)
{
    ShadowRing *ring = any_ring();
    ShadowRing before;

    ring->fault = "some fault";
    before = *ring;
    step(ring, STEP);
    PROVE(ring->fault == before.fault, "the first fault stays");
    PROVE(ring->num_free == before.num_free &&
          ring->num_in_flight == before.num_in_flight &&
          ring->next_seq == before.next_seq &&
          ring->sent_seq == before.sent_seq,
          "a broken ring's counts stay as they are");
    PROVE(entries_invariant(ring) && format_invariant(ring),
          "a broken ring is still whole");
}

#endif /* PROOFS_RING_STEPS_H */
