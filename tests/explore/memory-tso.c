/*
 * Memory models of the explorer: sequential consistency and total store order.
 *
 * Under total store order (x86) an actor's stores wait in a queue of its own
 * before everybody sees them; its own loads see them at once.  A full barrier
 * waits until the queue is empty.  A signal is a system call; it is counted
 * as a store here and not as a barrier, which is the weaker assumption.
 *
 * Sequential consistency is the same without the queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "memory.h"

static size_t tso_bytes(void)
{
    return sizeof(TsoMemory);
}

/* Nothing waits in a queue. */
static size_t sc_bytes(void)
{
    return offsetof(TsoMemory, buffer);
}

static void tso_init(Memory *memory, const uint8_t *bytes)
{
    memset(memory, 0, sizeof(*memory));
    memcpy(memory->tso.bytes, bytes, EXPLORE_SHARED_MAX);
}

static void tso_apply(TsoMemory *m, unsigned actor, const TsoStore *store)
{
    if (store->size) {
        /* The explorer runs on little-endian hosts. */
        memcpy(&m->bytes[store->offset], &store->value, store->size);
    } else {
        m->signalled[!actor] = true;
    }
}

static unsigned any_choices(const TsoMemory *m, unsigned actor,
                            const Step *step)
{
    return step->kind == STEP_WAIT ? m->signalled[actor] : 1;
}

static unsigned tso_choices(const Memory *memory, unsigned actor,
                            const Step *step)
{
    const TsoMemory *m = &memory->tso;

    switch (step->kind) {
    case STEP_FENCE:
        return step->order != EXPLORE_SEQ_CST || !m->num[actor];
    case STEP_STORE:
    case STEP_SIGNAL:
        return m->num[actor] < TSO_BUFFER_MAX;
    default:
        return any_choices(m, actor, step);
    }
}

static unsigned sc_choices(const Memory *memory, unsigned actor,
                           const Step *step)
{
    return any_choices(&memory->tso, actor, step);
}

/* Into the queue, out of the queue: nobody else can tell when. */
static bool tso_local(const Memory *memory, unsigned actor, const Step *step)
{
    return step->kind == STEP_STORE || step->kind == STEP_SIGNAL ||
           step->kind == STEP_FENCE;
}

static bool sc_local(const Memory *memory, unsigned actor, const Step *step)
{
    return step->kind == STEP_FENCE;
}

static uint64_t tso_load(const TsoMemory *m, unsigned actor, const Step *step)
{
    uint8_t bytes[8] = { 0 };
    uint64_t value;

    memcpy(bytes, &m->bytes[step->offset], step->size);
    for (unsigned i = 0; i < m->num[actor]; i++) {
        const TsoStore *store = &m->buffer[actor][i];

        for (unsigned n = 0; n < store->size; n++) {
            unsigned at = store->offset + n - step->offset;

            if (at < step->size) {
                bytes[at] = store->value >> (8 * n);
            }
        }
    }
    memcpy(&value, bytes, sizeof(value));
    return value;
}

static TsoStore tso_store_of(const Step *step)
{
    return (TsoStore) {
        .value = step->kind == STEP_STORE ? step->value : 0,
        .offset = step->offset,
        .size = step->kind == STEP_STORE ? step->size : 0,
    };
}

static uint64_t any_perform(TsoMemory *m, unsigned actor, const Step *step)
{
    if (step->kind == STEP_WAIT) {
        m->signalled[actor] = false;
    }
    return step->kind == STEP_LOAD ? tso_load(m, actor, step) : 0;
}

static uint64_t tso_perform(Memory *memory, unsigned actor, const Step *step,
                            unsigned choice)
{
    TsoMemory *m = &memory->tso;

    if (step->kind == STEP_STORE || step->kind == STEP_SIGNAL) {
        m->buffer[actor][m->num[actor]++] = tso_store_of(step);
        return 0;
    }
    return any_perform(m, actor, step);
}

static uint64_t sc_perform(Memory *memory, unsigned actor, const Step *step,
                           unsigned choice)
{
    TsoMemory *m = &memory->tso;

    if (step->kind == STEP_STORE || step->kind == STEP_SIGNAL) {
        TsoStore store = tso_store_of(step);

        tso_apply(m, actor, &store);
        return 0;
    }
    return any_perform(m, actor, step);
}

static bool tso_internal(const Memory *memory, unsigned actor)
{
    return memory->tso.num[actor] > 0;
}

static uint16_t tso_perform_internal(Memory *memory, unsigned actor)
{
    TsoMemory *m = &memory->tso;
    TsoStore *buffer = m->buffer[actor];
    uint16_t offset = buffer[0].size ? buffer[0].offset : UINT16_MAX;

    tso_apply(m, actor, &buffer[0]);
    m->num[actor]--;
    memmove(&buffer[0], &buffer[1], m->num[actor] * sizeof(*buffer));
    buffer[m->num[actor]] = (TsoStore) { 0 };
    return offset;
}

static void tso_hash(const Memory *memory, Hash *hash)
{
    const TsoMemory *m = &memory->tso;

    hash_bytes(hash, m, offsetof(TsoMemory, bytes) + locations_end());
    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        for (unsigned i = 0; i < m->num[a]; i++) {
            const TsoStore *store = &m->buffer[a][i];
            uint64_t word[] = { store->value, store->offset, store->size };

            hash_bytes(hash, word, sizeof(word));
        }
    }
}

const MemoryModel memory_model_tso = {
    .name = "tso",
    .bytes = tso_bytes,
    .init = tso_init,
    .choices = tso_choices,
    .local = tso_local,
    .perform = tso_perform,
    .internal = tso_internal,
    .perform_internal = tso_perform_internal,
    .hash = tso_hash,
};

const MemoryModel memory_model_sc = {
    .name = "sc",
    .bytes = sc_bytes,
    .init = tso_init,
    .choices = sc_choices,
    .local = sc_local,
    .perform = sc_perform,
    .internal = NULL,
    .perform_internal = NULL,
    .hash = tso_hash,
};
