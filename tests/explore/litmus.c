/*
 * What the explorer's memory models allow, by small programs with known
 * answers: a model that allows too little would prove anything.
 *
 * Each program is two threads on two words, x and y.  It is known which models
 * allow the outcome that is watched for; the explorer must see it with those
 * and must not see it with the others.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "explore.h"

/* Any words of a ring will do. */
#define X 66
#define Y 130
#define RESULT 64
#define SEEN "the outcome that is watched for"

typedef struct Program {
    const char *name;
    int (*thread[EXPLORE_ACTORS])(const struct Program *p);
    int watched;              /* what both threads together return       */
    ExploreOrder store;
    ExploreOrder load;
    bool fence[EXPLORE_ACTORS];
    bool allowed[3];          /* by sc, tso, c11                         */
} Program;

typedef struct Thread {
    bool ended;
    int result;
} Thread;

static const Program *program;

static void *word(unsigned offset)
{
    return explore_shared() + offset;
}

static int load(unsigned offset, ExploreOrder order)
{
    return explore_load(word(offset), 2, order);
}

static void store(unsigned offset, ExploreOrder order)
{
    explore_store(word(offset), 2, 1, order);
}

static void maybe_fence(bool fence, ExploreOrder order)
{
    if (fence) {
        explore_fence(order);
    }
}

/* Store buffering: 3 if each loads 0 although each has stored. */
static int buffering_0(const Program *p)
{
    store(X, p->store);
    maybe_fence(p->fence[0], EXPLORE_SEQ_CST);
    return load(Y, p->load) ? 0 : 1;
}

static int buffering_1(const Program *p)
{
    store(Y, p->store);
    maybe_fence(p->fence[1], EXPLORE_SEQ_CST);
    return load(X, p->load) ? 0 : 2;
}

/* Message passing: 1 if the flag y is there and the message x is not. */
static int message_0(const Program *p)
{
    store(X, EXPLORE_RELAXED);
    maybe_fence(p->fence[0], EXPLORE_RELEASE);
    store(Y, p->store);
    return 0;
}

static int message_1(const Program *p)
{
    if (!load(Y, p->load)) {
        return 0;
    }
    maybe_fence(p->fence[1], EXPLORE_ACQUIRE);
    return load(X, EXPLORE_RELAXED) ? 0 : 1;
}

/* Coherence: 1 if a word is seen to go back. */
static int coherence_1(const Program *p)
{
    return load(X, p->load) && !load(X, p->load);
}

/* A signal carries what was stored before: 1 if it did not. */
static int signal_0(const Program *p)
{
    store(X, p->store);
    explore_signal();
    return 0;
}

static int signal_1(const Program *p)
{
    explore_wait(false);
    return !load(X, p->load);
}

static const Program programs[] = {
    { "buffering", { buffering_0, buffering_1 }, 3,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { false, false },
      { false, true, true } },
    { "buffering-release-acquire", { buffering_0, buffering_1 }, 3,
      EXPLORE_RELEASE, EXPLORE_ACQUIRE, { false, false },
      { false, true, true } },
    { "buffering-one-fence", { buffering_0, buffering_1 }, 3,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { true, false },
      { false, true, true } },
    { "buffering-other-fence", { buffering_0, buffering_1 }, 3,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { false, true },
      { false, true, true } },
    { "buffering-fences", { buffering_0, buffering_1 }, 3,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { true, true },
      { false, false, false } },
    { "buffering-none-loads-late", { buffering_0, buffering_1 }, 0,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { true, true },
      { true, true, true } },
    { "message", { message_0, message_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { false, false },
      { false, false, true } },
    { "message-release", { message_0, message_1 }, 1,
      EXPLORE_RELEASE, EXPLORE_RELAXED, { false, false },
      { false, false, true } },
    { "message-acquire", { message_0, message_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_ACQUIRE, { false, false },
      { false, false, true } },
    { "message-release-acquire", { message_0, message_1 }, 1,
      EXPLORE_RELEASE, EXPLORE_ACQUIRE, { false, false },
      { false, false, false } },
    { "message-fences", { message_0, message_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { true, true },
      { false, false, false } },
    { "message-fence-acquire", { message_0, message_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_ACQUIRE, { true, false },
      { false, false, false } },
    { "message-release-fence", { message_0, message_1 }, 1,
      EXPLORE_RELEASE, EXPLORE_RELAXED, { false, true },
      { false, false, false } },
    { "coherence", { message_0, coherence_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { false, false },
      { false, false, false } },
    { "signal", { signal_0, signal_1 }, 1,
      EXPLORE_RELAXED, EXPLORE_RELAXED, { false, false },
      { false, false, false } },
};

static bool thread_op(void *opaque, unsigned a)
{
    Thread *t = opaque;

    if (!t->ended) {
        t->result = program->thread[a](program);
        t->ended = true;
        return true;
    }
    if (a == 0) {
        explore_store(word(RESULT), 2, t->result, EXPLORE_RELAXED);
        explore_signal();
    } else {
        explore_wait(false);
        if (t->result + load(RESULT, EXPLORE_RELAXED) == program->watched) {
            explore_fail(SEEN);
        }
    }
    return false;
}

static bool thread_op_0(void *opaque)
{
    return thread_op(opaque, 0);
}

static bool thread_op_1(void *opaque)
{
    return thread_op(opaque, 1);
}

static const char *thread_op_name(const void *opaque)
{
    return program->name;
}

static bool is_seen(const MemoryModel *model)
{
    ExploreActor actors[EXPLORE_ACTORS] = {
        { .name = "thread 0", .op = thread_op_0, .op_name = thread_op_name,
          .must_end = true },
        { .name = "thread 1", .op = thread_op_1, .op_name = thread_op_name },
    };
    ExploreResult result;
    bool seen;

    explore_reset();
    locations_init(SHADOW_RING_SPLIT, 1, 0, 0);
    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        actors[a].opaque = explore_alloc(a, sizeof(Thread));
    }
    result = explore(model, actors, 1000000, true);
    g_assert_true(!result.fault || !strcmp(result.fault, SEEN));
    seen = result.fault != NULL;
    g_free(result.fault);
    return seen;
}

int main(void)
{
    static const MemoryModel *const models[] = {
        &memory_model_sc, &memory_model_tso, &memory_model_c11,
    };
    unsigned num = 0;
    bool bad = false;

    for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
        for (unsigned m = 0; m < ARRAY_SIZE(models); m++) {
            bool seen;

            program = &programs[i];
            seen = is_seen(models[m]);
            bad |= seen != program->allowed[m];
            printf("%s %u %s %s: %s\n",
                   seen == program->allowed[m] ? "ok" : "not ok", ++num,
                   program->name, models[m]->name,
                   seen ? "allowed" : "forbidden");
        }
    }
    printf("1..%u\n", num);
    return bad;
}
