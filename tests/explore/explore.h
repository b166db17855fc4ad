/*
 * Explorer: runs two actors in every order that a memory model allows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_EXPLORE_H
#define TESTS_EXPLORE_EXPLORE_H

#include "memory.h"

enum { DRIVER, DEVICE };

/**
 * ExploreActor - one side
 * @name: for the user
 * @op: do the next operation with @opaque, whose whole state lies in memory
 *     from explore_alloc(); false if there is none any more.  Deterministic
 *     but for what explore_load(), explore_choose() and explore_wait() say.
 * @opaque: for @op
 * @op_name: what @op would do now, for the user
 * @must_end: a fault if it sleeps for ever
 */
typedef struct ExploreActor {
    const char *name;
    bool (*op)(void *opaque);
    void *opaque;
    const char *(*op_name)(const void *opaque);
    bool must_end;
} ExploreActor;

/**
 * ExploreResult - what there was
 * @states: different states seen
 * @steps: steps from one to another
 * @depth: length of the longest run
 * @fault: NULL, or what went wrong; the caller's to free
 */
typedef struct ExploreResult {
    uint64_t states;
    uint64_t steps;
    uint64_t depth;
    char *fault;
} ExploreResult;

/** explore_reset() - forget everything; shared memory is zero afterwards */
void explore_reset(void);

/** explore_shared() - EXPLORE_SHARED_MAX bytes that both sides can access */
uint8_t *explore_shared(void);

/**
 * explore_alloc() - zeroed memory of @actor's state
 *
 * Only before explore().  The ring's own allocations come from here as well
 * between explore_alloc_for() with an actor and with -1.
 */
void *explore_alloc(unsigned actor, size_t bytes);
void explore_alloc_for(int actor);

/**
 * explore_directly() - outside of explore(), do operations at once
 * @actor: who accesses memory from now on
 *
 * Sleeping and choosing are faults then, signals are lost.
 */
void explore_directly(unsigned actor);

/**
 * explore() - all runs of @actors under @model
 * @limit: states; more is a fault too
 * @reduce: do at once, and alone, what may change places with everything that
 *     the other side can do; the verdict is the same, the states are fewer
 *
 * A run in which an actor that must end sleeps for ever is a fault, and so is
 * a run that does not end, and whatever explore_fail() was called for.  The
 * steps that lead to a fault are printed.
 */
ExploreResult explore(const MemoryModel *model, const ExploreActor *actors,
                      uint64_t limit, bool reduce);

#endif /* TESTS_EXPLORE_EXPLORE_H */
