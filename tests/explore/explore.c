/*
 * Explorer: depth-first search over all states that two actors and the memory
 * between them can get into.
 *
 * A state that was seen before is not looked into again.  What is remembered
 * of a state is a hash of 128 bits: among a billion states the chance that
 * two of them share one is below 1 in 10^20.
 *
 * The graph of states must not have a cycle: each run of the two sides ends,
 * whoever is how fast.  An edge back to a state on the way to here is a fault.
 * That is also why a step that may change places with everything that the
 * other side can do is done alone and at once (a partial order reduction): it
 * cannot put off the other side's steps for ever.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "actor.h"

/* How an actor's step can go, or a step that memory takes by itself. */
typedef struct Move {
    uint8_t actor;
    bool internal;
    bool timer;
    uint8_t choice;
} Move;

#define MOVES_MAX 24

typedef struct Frame {
    ExploreState state;
    Hash hash;
    Move moves[MOVES_MAX];
    unsigned num_moves;
    unsigned next_move;
    uint64_t said;            /* to the last move that was tried         */
} Frame;

/* All zero: nothing here.  The last bit of b: on the way to this state. */
typedef Hash Seen;

typedef struct Search {
    const MemoryModel *model;
    const ExploreActor *actors;
    bool reduce;
    size_t state_bytes;
    Frame **stack;
    size_t num_stack;
    size_t max_stack;
    Seen *seen;
    uint64_t seen_size;       /* a power of two                          */
    ExploreResult result;
} Search;

static uint64_t stir(uint64_t hash, uint64_t word, uint64_t odd)
{
    hash = (hash ^ word) * odd;
    return hash ^ (hash >> 29);
}

void hash_bytes(Hash *hash, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t word;

    for (; bytes >= 8; bytes -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash->a = stir(hash->a, word, 0x9e3779b97f4a7c15);
        hash->b = stir(hash->b, word, 0xd1342543de82ef95);
    }
    word = 0;
    memcpy(&word, at, bytes);
    word ^= (uint64_t)(bytes + 1) << 56;
    hash->a = stir(hash->a, word, 0x9e3779b97f4a7c15);
    hash->b = stir(hash->b, word, 0xd1342543de82ef95);
}

static Hash state_hash(const Search *s, const ExploreState *state)
{
    Hash hash = { .a = 0x243f6a8885a308d3, .b = 0x13198a2e03707344 };

    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        actor_hash(state, a, &hash);
    }
    s->model->hash(&state->memory, &hash);
    hash.a |= 1;
    hash.b &= ~1ull;
    return hash;
}

static Seen *seen_find(Seen *seen, uint64_t size, const Hash *hash)
{
    uint64_t i = (hash->b >> 1) & (size - 1);

    while (seen[i].a && (seen[i].a != hash->a ||
                         (seen[i].b ^ hash->b) & ~1ull)) {
        i = (i + 1) & (size - 1);
    }
    return &seen[i];
}

static void seen_grow(Search *s)
{
    Seen *old = s->seen;
    uint64_t old_size = s->seen_size;

    s->seen_size = old_size ? 2 * old_size : 1 << 16;
    s->seen = g_new0(Seen, s->seen_size);
    for (uint64_t i = 0; i < old_size; i++) {
        if (old[i].a) {
            *seen_find(s->seen, s->seen_size, &old[i]) = old[i];
        }
    }
    g_free(old);
}

static void add_move(Frame *f, Move move)
{
    g_assert_cmpuint(f->num_moves, <, MOVES_MAX);
    f->moves[f->num_moves++] = move;
}

/* Returns: whether nothing else needs to be tried here. */
static bool add_moves_of(const Search *s, Frame *f, unsigned a)
{
    const Step *step = &f->state.actor[a].next;
    unsigned num;

    if (step->kind == STEP_DONE) {
        return false;
    }
    num = step->kind == STEP_CHOOSE ? step->value :
          s->model->choices(&f->state.memory, a, step);
    for (unsigned i = 0; i < num; i++) {
        add_move(f, (Move) { .actor = a, .choice = i });
    }
    if (step->kind == STEP_WAIT && step->value) {
        add_move(f, (Move) { .actor = a, .timer = true });
    }
    return s->reduce &&
           (step->kind == STEP_CHOOSE ||
            (num && s->model->local(&f->state.memory, a, step)));
}

static void find_moves(const Search *s, Frame *f)
{
    f->num_moves = 0;
    f->next_move = 0;
    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        unsigned before = f->num_moves;

        if (add_moves_of(s, f, a)) {
            memmove(f->moves, &f->moves[before],
                    (f->num_moves - before) * sizeof(f->moves[0]));
            f->num_moves -= before;
            return;
        }
    }
    for (unsigned a = 0; s->model->internal && a < EXPLORE_ACTORS; a++) {
        if (s->model->internal(&f->state.memory, a)) {
            add_move(f, (Move) { .actor = a, .internal = true });
        }
    }
}

/* Returns: what the actor was told. */
static uint64_t make_move(const Search *s, ExploreState *state,
                          const Move *move)
{
    unsigned a = move->actor;
    Step step = state->actor[a].next;
    uint64_t said;

    if (move->internal) {
        return s->model->perform_internal(&state->memory, a);
    }
    if (step.kind == STEP_CHOOSE) {
        said = move->choice;
    } else if (move->timer) {
        said = true;
    } else {
        said = s->model->perform(&state->memory, a, &step, move->choice);
    }
    actor_answer(state, a, said);
    return said;
}

static void print_step(const Step *step, const Move *move, uint64_t said)
{
    static const char *const orders[] = { "", " acquire", " release", "" };
    const char *order = orders[step->order];

    switch (step->kind) {
    case STEP_LOAD:
        printf("load%s %s -> 0x%" PRIx64 "%s\n", order,
               location_name(step->offset), said,
               move->choice ? " (newer)" : "");
        break;
    case STEP_STORE:
        printf("store%s %s = 0x%" PRIx64 "\n", order,
               location_name(step->offset), step->value);
        break;
    case STEP_FENCE:
        printf("fence\n");
        break;
    case STEP_SIGNAL:
        printf("signal\n");
        break;
    case STEP_WAIT:
        printf("woken%s\n", move->timer ? " by something else" : "");
        break;
    case STEP_CHOOSE:
        printf("choice %u of %" PRIu64 "\n", move->choice, step->value);
        break;
    }
}

static void print_move(const Search *s, const Frame *f)
{
    const Move *move = &f->moves[f->next_move - 1];
    const ExploreActor *actor = &s->actors[move->actor];

    if (move->internal) {
        printf("#   %s: its store of %s becomes visible\n", actor->name,
               location_name(f->said));
        return;
    }
    actor_restore(&f->state, move->actor);
    printf("#   %s: %s: ", actor->name, actor->op_name(actor->opaque));
    print_step(&f->state.actor[move->actor].next, move, f->said);
}

static void search_fault(Search *s, const char *fault)
{
    s->result.fault = g_strdup(fault);
    for (size_t i = 0; i < s->num_stack; i++) {
        print_move(s, s->stack[i]);
    }
    printf("#   => %s\n", fault);
}

static Frame *push_frame(Search *s)
{
    if (s->num_stack == s->max_stack) {
        s->max_stack = s->max_stack ? 2 * s->max_stack : 256;
        s->stack = g_renew(Frame *, s->stack, s->max_stack);
        for (size_t i = s->num_stack; i < s->max_stack; i++) {
            s->stack[i] = g_new(Frame, 1);
        }
    }
    return s->stack[s->num_stack];
}

/* Nobody can move: is that how it may end? */
static void judge_end(Search *s, const Frame *f)
{
    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        if (s->actors[a].must_end &&
            f->state.actor[a].next.kind != STEP_DONE) {
            g_autofree char *fault = g_strdup_printf(
                "%s sleeps and nobody will wake it", s->actors[a].name);

            s->num_stack--;
            search_fault(s, fault);
            return;
        }
    }
}

/* @f lies above the stack; put it there if its state is new. */
static void visit(Search *s, Frame *f)
{
    Seen *seen;

    if (actor_fault()) {
        search_fault(s, actor_fault());
        return;
    }
    f->hash = state_hash(s, &f->state);
    if (s->result.states >= s->seen_size / 4 * 3) {
        seen_grow(s);
    }
    seen = seen_find(s->seen, s->seen_size, &f->hash);
    if (seen->a) {
        if (seen->b & 1) {
            search_fault(s, "this can go on for ever");
        }
        return;
    }
    *seen = (Seen) { .a = f->hash.a, .b = f->hash.b | 1 };
    s->result.states++;
    find_moves(s, f);
    s->num_stack++;
    s->result.depth = MAX(s->result.depth, s->num_stack);
    if (!f->num_moves) {
        judge_end(s, f);
    }
}

static void step(Search *s)
{
    Frame *f = s->stack[s->num_stack - 1];
    Frame *next;

    if (f->next_move == f->num_moves) {
        *seen_find(s->seen, s->seen_size, &f->hash) = f->hash;
        s->num_stack--;
        return;
    }
    next = push_frame(s);
    memcpy(&next->state, &f->state, s->state_bytes);
    s->result.steps++;
    f->said = make_move(s, &next->state, &f->moves[f->next_move++]);
    visit(s, next);
}

ExploreResult explore(const MemoryModel *model, const ExploreActor *actors,
                      uint64_t limit, bool reduce)
{
    Search s = {
        .model = model,
        .actors = actors,
        .reduce = reduce,
        .state_bytes = offsetof(ExploreState, memory) + model->bytes(),
    };
    Frame *f = push_frame(&s);

    actors_begin(&f->state, model, actors);
    visit(&s, f);
    while (s.num_stack && !s.result.fault) {
        if (s.result.states > limit) {
            s.result.fault = g_strdup("there are more states than the limit");
            break;
        }
        step(&s);
    }
    for (size_t i = 0; i < s.max_stack; i++) {
        g_free(s.stack[i]);
    }
    g_free(s.stack);
    g_free(s.seen);
    return s.result;
}
