/*
 * Memory models of the explorer: what a load may see.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_MEMORY_H
#define TESTS_EXPLORE_MEMORY_H

#include "access.h"
#include "locations.h"

#define EXPLORE_ACTORS 2
#define EXPLORE_SHARED_MAX 1024

/**
 * StepKind - what an actor does next
 *
 * LOAD, STORE and FENCE are the memory model's, SIGNAL and WAIT too, since a
 * signal carries what was stored before.  CHOOSE and DONE are the explorer's.
 */
typedef enum StepKind {
    STEP_LOAD,
    STEP_STORE,
    STEP_FENCE,
    STEP_SIGNAL,
    STEP_WAIT,
    STEP_CHOOSE,
    STEP_DONE,
} StepKind;

/**
 * Step - one step of an actor
 * @kind: see there
 * @order: ExploreOrder of LOAD, STORE and FENCE
 * @size: bytes of LOAD and STORE
 * @offset: in shared memory, of LOAD and STORE
 * @value: STORE: stored; CHOOSE: number of choices; WAIT: not 0 if something
 *     other than a signal can end it
 */
typedef struct Step {
    uint8_t kind;
    uint8_t order;
    uint8_t size;
    uint16_t offset;
    uint64_t value;
} Step;

/* Stores that nobody but their actor sees yet. */
#define TSO_BUFFER_MAX 96

typedef struct TsoStore {
    uint64_t value;
    uint16_t offset;
    uint8_t size;             /* 0: a signal                             */
} TsoStore;

typedef struct TsoMemory {
    bool signalled[EXPLORE_ACTORS];
    uint8_t num[EXPLORE_ACTORS];
    uint8_t bytes[EXPLORE_SHARED_MAX];
    TsoStore buffer[EXPLORE_ACTORS][TSO_BUFFER_MAX];
} TsoMemory;

#define VIEW_LOCATIONS LOCATIONS_MAX
#define VIEW_MESSAGES 15
#define VIEW_VIEWS 40

/* Per location: the oldest message that may still be read. */
typedef struct View {
    uint8_t at[VIEW_LOCATIONS];
} View;

/* The messages that somebody may still read, the oldest first. */
typedef struct ViewCell {
    uint8_t num;
    uint8_t view[VIEW_MESSAGES];   /* of the message: 1 + index, 0: none */
    uint64_t value[VIEW_MESSAGES];
} ViewCell;

typedef struct ViewMemory {
    bool signalled[EXPLORE_ACTORS];
    View current[EXPLORE_ACTORS];
    View acquire[EXPLORE_ACTORS];  /* current after an acquire fence     */
    View release[EXPLORE_ACTORS];  /* of the last release fence          */
    View signal[EXPLORE_ACTORS];
    View fence;                    /* what all seq_cst fences have seen  */
    View view[VIEW_VIEWS];
    ViewCell cell[VIEW_LOCATIONS];
} ViewMemory;

typedef union Memory {
    TsoMemory tso;
    ViewMemory view;
} Memory;

typedef struct Hash {
    uint64_t a;
    uint64_t b;
} Hash;

/** hash_bytes() - stir @bytes of memory at @data into @hash */
void hash_bytes(Hash *hash, const void *data, size_t bytes);

/**
 * MemoryModel - which interleavings there are
 * @name: for the user
 * @bytes: of Memory, that it uses
 * @init: begin with the contents @bytes of the shared memory
 * @choices: ways to do @step now; 0: not now
 * @local: whether @step and any step of the other actor may change places:
 *     then nothing is lost by doing it at once
 * @perform: do @step; returns what a load sees
 * @internal: steps that the memory may do by itself for @actor
 * @perform_internal: do it; returns the offset of what became visible
 * @hash: stir the state in, canonically
 */
typedef struct MemoryModel {
    const char *name;
    size_t (*bytes)(void);
    void (*init)(Memory *memory, const uint8_t *bytes);
    unsigned (*choices)(const Memory *memory, unsigned actor,
                        const Step *step);
    bool (*local)(const Memory *memory, unsigned actor, const Step *step);
    uint64_t (*perform)(Memory *memory, unsigned actor, const Step *step,
                        unsigned choice);
    bool (*internal)(const Memory *memory, unsigned actor);
    uint16_t (*perform_internal)(Memory *memory, unsigned actor);
    void (*hash)(const Memory *memory, Hash *hash);
} MemoryModel;

extern const MemoryModel memory_model_sc;
extern const MemoryModel memory_model_tso;
extern const MemoryModel memory_model_c11;

#endif /* TESTS_EXPLORE_MEMORY_H */
