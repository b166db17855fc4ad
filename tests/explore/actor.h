/*
 * Explorer: states, and how an actor gets from one to the next.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_ACTOR_H
#define TESTS_EXPLORE_ACTOR_H

#include "explore.h"

#define ACTOR_BYTES 1024
#define ACTOR_LOG 96

/**
 * ExploreState - everything that the future depends on
 * @actor: private memory when the operation at hand began; what the
 *     operation's steps said so far; the step that comes next
 * @memory: shared memory; the model uses the beginning of it
 */
typedef struct ExploreState {
    struct {
        uint8_t bytes[ACTOR_BYTES];
        uint64_t log[ACTOR_LOG];
        uint16_t num_log;
        Step next;
    } actor[EXPLORE_ACTORS];
    Memory memory;
} ExploreState;

/** actors_begin() - make @state the first one, out of what was set up */
void actors_begin(ExploreState *state, const MemoryModel *model,
                  const ExploreActor *actors);

/**
 * actor_answer() - the next step of @actor was done and said @value
 *
 * Runs the actor up to its next step.
 */
void actor_answer(ExploreState *state, unsigned actor, uint64_t value);

/** actor_fault() - why a run must not go on, NULL if it may */
const char *actor_fault(void);

/** actor_restore() - make @actor's private memory what it was in @state */
void actor_restore(const ExploreState *state, unsigned actor);

/** actor_hash() - stir in what @state says of @actor */
void actor_hash(const ExploreState *state, unsigned actor, Hash *hash);

#endif /* TESTS_EXPLORE_ACTOR_H */
