/*
 * Block contents and options of the load tool.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "load-content.h"

uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    return mix(*state);
}

uint64_t skewed(uint64_t *state, uint64_t max)
{
    unsigned bits = 0;

    while (bits < 63 && (max >> bits) > 1) {
        bits++;
    }
    bits = next_random(state) % (bits + 1);
    return 1 + next_random(state) % ((2ull << bits) < max ?
                                     (2ull << bits) : max);
}

void block_content(uint64_t *out, uint64_t seed, uint64_t block,
                   uint32_t generation)
{
    uint64_t state = mix(seed ^ mix(block)) + generation;

    out[0] = block;
    out[1] = generation;
    for (unsigned i = 2; i < WORDS; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out[i] = state + i;
    }
}

void report_block(uint64_t seed, uint64_t block, uint32_t generation,
                  const uint8_t *seen)
{
    const uint64_t *words = (const uint64_t *)seen;
    uint64_t expected[WORDS], other[WORDS];
    const uint8_t *right = (const uint8_t *)expected;
    unsigned at = 0;

    block_content(expected, seed, block, generation);
    while (at < BLOCK && seen[at] == right[at]) {
        at++;
    }
    block_content(other, seed, words[0], words[1]);
    printf("LOAD mismatch at offset %" PRIu64 " (block %" PRIu64
           " generation %" PRIu32 "), byte %u: ", block * BLOCK, block,
           generation, at);
    if (!memcmp(other, seen, BLOCK)) {
        printf("holds block %" PRIu64 " generation %" PRIu64 "\n",
               words[0], words[1]);
    } else if (seen[at] == POISON && seen[BLOCK - 1] == POISON) {
        printf("was not written by the device\n");
    } else {
        printf("holds %02x, expected %02x\n", seen[at], right[at]);
    }
    fflush(stdout);
}

uint64_t device_size(int fd)
{
    struct stat st;
    uint64_t size = 0;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        return st.st_size;
    }
    return ioctl(fd, BLKGETSIZE64, &size) == 0 ? size : 0;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    switch (*end) {
    case 'G':
        value <<= 10;
        /* fall through */
    case 'M':
        value <<= 10;
        /* fall through */
    case 'K':
        value <<= 10;
    }
    return value;
}

static bool parse_mode(const char *text, Mode *mode)
{
    static const char *const names[] = { "write", "verify", "stress" };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(text, names[i])) {
            *mode = i;
            return true;
        }
    }
    return false;
}

static bool parse_option(Options *opt, const char *name, const char *value)
{
    uint64_t v = number(value);

    if (!strcmp(name, "--seed")) {
        opt->seed = v;
    } else if (!strcmp(name, "--size")) {
        opt->size = v;
    } else if (!strcmp(name, "--max-request")) {
        opt->max_request = v;
    } else if (!strcmp(name, "--depth")) {
        opt->depth = v;
    } else if (!strcmp(name, "--segments")) {
        opt->segments = v;
    } else if (!strcmp(name, "--generation")) {
        opt->generation = v;
    } else if (!strcmp(name, "--seconds")) {
        opt->seconds = v;
    } else if (!strcmp(name, "--buffered")) {
        opt->buffered = v;
    } else if (!strcmp(name, "--progress")) {
        opt->progress = v;
    } else {
        return false;
    }
    return true;
}

static void usage(void)
{
    printf("usage: load write|verify|stress DEVICE [--seed N] [--size BYTES]"
           " [--max-request BYTES]\n"
           "            [--depth N] [--segments N] [--generation N]"
           " [--seconds N]\n"
           "            [--buffered 0|1] [--progress 0|1]\n");
    exit(LOAD_USAGE);
}

void parse_options(Options *opt, int argc, char **argv)
{
    *opt = (Options) {
        .seed = 1, .max_request = 256 * 1024, .depth = 16, .segments = 64,
        .generation = 1, .seconds = 5,
    };
    if (argc < 3 || !parse_mode(argv[1], &opt->mode)) {
        usage();
    }
    opt->device = argv[2];
    for (int i = 3; i < argc; i += 2) {
        if (i + 1 == argc || !parse_option(opt, argv[i], argv[i + 1])) {
            usage();
        }
    }
    if (!opt->depth || opt->depth > MAX_DEPTH || !opt->generation ||
        opt->segments > MAX_SEGMENTS || opt->max_request < BLOCK) {
        usage();
    }
}
