/*
 * Explorer: states, and how an actor gets from one to the next.
 *
 * An actor is ordinary C code that must be stopped in the middle of a function
 * and gone on with later, more than once and in different ways.  Stacks are
 * not copied for that.  An operation begins with private memory that is known
 * and is deterministic from there on, but for what its accesses say; so "in
 * the middle" is that memory and the list of what was said.  To go on, the
 * memory is put back and the operation begins anew; accesses that are on the
 * list are answered from it, without effect, and the first that is not becomes
 * the next step.  Operations are short, so that costs little.
 *
 * Memory that an operation writes is process memory at fixed addresses, which
 * pointers between its parts survive.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <setjmp.h>
#include "actor.h"

static uint8_t shared[EXPLORE_SHARED_MAX] __attribute__((aligned(64)));
static uint8_t arena[EXPLORE_ACTORS][ACTOR_BYTES] __attribute__((aligned(64)));
static size_t arena_used[EXPLORE_ACTORS];
static int alloc_for = -1;
static bool exploring;

static struct {
    const ExploreActor *actors;
    ExploreState *state;
    unsigned actor;
    unsigned num_said;
    jmp_buf stop;
    char fault[256];
} run;

void explore_reset(void)
{
    memset(shared, 0, sizeof(shared));
    memset(arena, 0, sizeof(arena));
    memset(arena_used, 0, sizeof(arena_used));
    exploring = false;
    run.fault[0] = 0;
}

uint8_t *explore_shared(void)
{
    return shared;
}

void *explore_alloc(unsigned actor, size_t bytes)
{
    void *result = &arena[actor][arena_used[actor]];

    arena_used[actor] += ROUND_UP(bytes, 8);
    g_assert_cmpuint(arena_used[actor], <=, ACTOR_BYTES);
    return result;
}

void explore_alloc_for(int actor)
{
    alloc_for = actor;
}

/* The linker sends the ring's allocations here. */
void *__real_g_malloc0(size_t bytes);
void *__wrap_g_malloc0(size_t bytes);
void *__real_g_malloc0_n(size_t num, size_t bytes);
void *__wrap_g_malloc0_n(size_t num, size_t bytes);
void __real_g_free(void *memory);
void __wrap_g_free(void *memory);

void *__wrap_g_malloc0(size_t bytes)
{
    return alloc_for < 0 ? __real_g_malloc0(bytes) :
                           explore_alloc(alloc_for, bytes);
}

void *__wrap_g_malloc0_n(size_t num, size_t bytes)
{
    return alloc_for < 0 ? __real_g_malloc0_n(num, bytes) :
                           explore_alloc(alloc_for, num * bytes);
}

void __wrap_g_free(void *memory)
{
    uintptr_t at = (uintptr_t)memory - (uintptr_t)arena;

    if (at >= sizeof(arena)) {
        __real_g_free(memory);
    }
}

void explore_directly(unsigned actor)
{
    run.actor = actor;
    exploring = false;
}

void explore_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(run.fault, sizeof(run.fault), fmt, ap);
    va_end(ap);
    if (!exploring) {
        fprintf(stderr, "while setting up: %s\n", run.fault);
        abort();
    }
    longjmp(run.stop, 1);
}

/* Assertions of the ring are faults with a trace, too. */
void __wrap___assert_fail(const char *what, const char *file, unsigned line,
                          const char *function);
void __wrap_g_assertion_message_expr(const char *domain, const char *file,
                                     int line, const char *function,
                                     const char *what);

void __wrap___assert_fail(const char *what, const char *file, unsigned line,
                          const char *function)
{
    explore_fail("assertion in %s: %s", function, what);
}

void __wrap_g_assertion_message_expr(const char *domain, const char *file,
                                     int line, const char *function,
                                     const char *what)
{
    explore_fail("assertion in %s: %s", function, what ? what : "?");
}

const char *actor_fault(void)
{
    return run.fault[0] ? run.fault : NULL;
}

static uint64_t do_directly(const Step *step)
{
    uint64_t value = 0;

    switch (step->kind) {
    case STEP_LOAD:
        memcpy(&value, &shared[step->offset], step->size);
        break;
    case STEP_STORE:
        memcpy(&shared[step->offset], &step->value, step->size);
        break;
    case STEP_CHOOSE:
    case STEP_WAIT:
        explore_fail("nothing to choose from, nobody to wait for");
    }
    return value;
}

static uint64_t do_step(const Step *step)
{
    unsigned a = run.actor;

    if (!exploring) {
        return do_directly(step);
    }
    if (run.num_said < run.state->actor[a].num_log) {
        return run.state->actor[a].log[run.num_said++];
    }
    run.state->actor[a].next = *step;
    longjmp(run.stop, 1);
}

static uint16_t shared_offset(const volatile void *ptr, unsigned size)
{
    uintptr_t offset = (uintptr_t)ptr - (uintptr_t)shared;

    if (offset > sizeof(shared) - size ||
        !strcmp(location_name(offset), "nowhere")) {
        explore_fail("access outside of the shared memory");
    }
    if (offset % size) {
        explore_fail("access of %s that is not aligned",
                     location_name(offset));
    }
    return offset;
}

uint64_t explore_load(const volatile void *ptr, unsigned size,
                      ExploreOrder order)
{
    return do_step(&(Step) { .kind = STEP_LOAD, .order = order, .size = size,
                             .offset = shared_offset(ptr, size) });
}

void explore_store(volatile void *ptr, unsigned size, uint64_t value,
                   ExploreOrder order)
{
    do_step(&(Step) { .kind = STEP_STORE, .order = order, .size = size,
                      .offset = shared_offset(ptr, size), .value = value });
}

void explore_fence(ExploreOrder order)
{
    do_step(&(Step) { .kind = STEP_FENCE, .order = order });
}

unsigned explore_choose(unsigned num)
{
    return num < 2 ? 0 : do_step(&(Step) { .kind = STEP_CHOOSE,
                                           .value = num });
}

void explore_signal(void)
{
    do_step(&(Step) { .kind = STEP_SIGNAL });
}

bool explore_wait(bool timer)
{
    return do_step(&(Step) { .kind = STEP_WAIT, .value = timer });
}

/* Run @a from the beginning of its operation up to its next step. */
static void actor_run(ExploreState *state, unsigned a)
{
    run.state = state;
    run.actor = a;
    if (setjmp(run.stop)) {
        exploring = false;
        return;
    }
    while (true) {
        bool more;

        memcpy(arena[a], state->actor[a].bytes, arena_used[a]);
        run.num_said = 0;
        exploring = true;
        more = run.actors[a].op(run.actors[a].opaque);
        g_assert_cmpuint(run.num_said, ==, state->actor[a].num_log);
        memcpy(state->actor[a].bytes, arena[a], arena_used[a]);
        state->actor[a].num_log = 0;
        if (!more) {
            state->actor[a].next = (Step) { .kind = STEP_DONE };
            longjmp(run.stop, 1);
        }
    }
}

void actors_begin(ExploreState *state, const MemoryModel *model,
                  const ExploreActor *actors)
{
    memset(state, 0, sizeof(*state));
    model->init(&state->memory, shared);
    run.actors = actors;
    for (unsigned a = 0; a < EXPLORE_ACTORS && !actor_fault(); a++) {
        memcpy(state->actor[a].bytes, arena[a], arena_used[a]);
        actor_run(state, a);
    }
}

void actor_answer(ExploreState *state, unsigned a, uint64_t value)
{
    g_assert_cmpuint(state->actor[a].num_log, <, ACTOR_LOG);
    state->actor[a].log[state->actor[a].num_log++] = value;
    actor_run(state, a);
}

void actor_restore(const ExploreState *state, unsigned a)
{
    memcpy(arena[a], state->actor[a].bytes, arena_used[a]);
}

void actor_hash(const ExploreState *state, unsigned a, Hash *hash)
{
    const uint64_t words[] = {
        state->actor[a].next.kind == STEP_DONE, state->actor[a].num_log,
    };

    hash_bytes(hash, words, sizeof(words));
    hash_bytes(hash, state->actor[a].bytes, arena_used[a]);
    hash_bytes(hash, state->actor[a].log, state->actor[a].num_log *
               sizeof(state->actor[a].log[0]));
}
