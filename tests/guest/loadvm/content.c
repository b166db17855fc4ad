/*
 * What every block must hold.
 *
 * A block of 512 bytes begins with a word that names it: block number and
 * generation, scrambled with the seed.  The other words follow from that one
 * by addition, which costs next to nothing to make and to compare.  So a block
 * that is wrong usually tells what it is: an older one, or another one's.
 *
 * State, a byte a block: 0 nothing known, 1 to 127 its generation; CLAIMED is
 * set while a request has it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "load.h"

#define WORDS (BLOCK / 8)
#define CLAIMED 0x80u
#define GENERATIONS 127u
#define NUMBER_BITS 48
#define MAX_SAID 4u              /* wrong blocks that are described */

static Content contents[MAX_DEVICES];
static unsigned num_said;

static uint64_t name_of(const Content *content, uint64_t block,
                        uint8_t generation)
{
    return ((uint64_t)generation << NUMBER_BITS | block) ^
           scramble(content->seed);
}

static uint64_t step_of(uint64_t name)
{
    return scramble(name) | 1;
}

static uint8_t next_generation(uint8_t generation)
{
    return generation % GENERATIONS + 1;
}

/* Tables live as long as the VM: blk_run() gets them before its own memory. */
Content *content_get(unsigned dev, uint64_t num_blocks, uint64_t seed,
                     uint8_t filled)
{
    Content *content = &contents[dev];
    bool is_new = content->num_blocks != num_blocks;

    if (is_new) {
        content->state = allocate(num_blocks, 64);
    }
    if (is_new || content->seed != seed || filled) {
        memset(content->state, filled, num_blocks);
    }
    content->num_blocks = num_blocks;
    content->seed = seed;
    return content;
}

bool content_claim(Content *content, uint64_t block, uint32_t num)
{
    uint8_t *state = content->state + block;

    for (uint32_t i = 0; i < num; i++) {
        if (state[i] & CLAIMED) {
            return false;
        }
    }
    for (uint32_t i = 0; i < num; i++) {
        state[i] |= CLAIMED;
    }
    return true;
}

void content_fill(Content *content, uint64_t block, uint32_t num, void *data)
{
    uint64_t *words = data;

    for (uint32_t i = 0; i < num; i++) {
        uint8_t generation = content->state[block + i] & ~CLAIMED;
        uint64_t word = name_of(content, block + i,
                                next_generation(generation));
        uint64_t step = step_of(word);

        for (unsigned n = 0; n < WORDS; n++) {
            *words++ = word;
            word += step;
        }
    }
}

void content_written(Content *content, uint64_t block, uint32_t num, bool ok)
{
    uint8_t *state = content->state + block;

    for (uint32_t i = 0; i < num; i++) {
        /* A write that failed may have been made or not. */
        state[i] = ok ? next_generation(state[i] & ~CLAIMED) : 0;
    }
}

void content_release(Content *content, uint64_t block, uint32_t num)
{
    for (uint32_t i = 0; i < num; i++) {
        content->state[block + i] &= ~CLAIMED;
    }
}

/* What a block is that is whole, but not the one that it should be. */
static void say_what_it_is(const Content *content, const uint64_t *words)
{
    uint64_t found = words[0] ^ scramble(content->seed);
    uint64_t block = found & ((1UL << NUMBER_BITS) - 1);
    uint64_t generation = found >> NUMBER_BITS;

    if (block < content->num_blocks && generation <= GENERATIONS) {
        say(", it is block %lu generation %lu", block, generation);
    } else {
        say(", it is of another seed");
    }
}

static void describe(const Content *content, uint64_t block,
                     uint8_t generation, const uint64_t *words)
{
    uint64_t wanted = name_of(content, block, generation);
    uint64_t step = step_of(wanted);
    unsigned n = 0;

    if (__atomic_fetch_add(&num_said, 1, __ATOMIC_RELAXED) >= MAX_SAID) {
        return;
    }
    while (n + 1 < WORDS && words[n] == wanted + n * step) {
        n++;
    }
    say("LOADVM block %lu generation %u: word %u is 0x%lx instead of 0x%lx",
        block, generation, n, words[n], wanted + n * step);
    if (words[0] != wanted && words[1] == words[0] + step_of(words[0])) {
        say_what_it_is(content, words);
    }
    say("\n");
}

static bool is_right(const uint64_t *words, uint64_t word)
{
    uint64_t step = step_of(word), different = 0;

    for (unsigned n = 0; n < WORDS; n++) {
        different |= words[n] ^ word;
        word += step;
    }
    return !different;
}

void content_check(Content *content, uint64_t block, uint32_t num,
                   const void *data, Tally *tally)
{
    const uint64_t *words = data;

    for (uint32_t i = 0; i < num; i++, words += WORDS) {
        uint8_t generation = content->state[block + i] &= ~CLAIMED;

        if (!generation) {
            tally->unknown++;
        } else if (is_right(words, name_of(content, block + i, generation))) {
            tally->verified++;
        } else {
            tally->bad++;
            describe(content, block + i, generation, words);
        }
    }
}
