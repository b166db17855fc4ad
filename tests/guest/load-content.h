/*
 * What the load tool writes, and what it was told to do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOAD_CONTENT_H
#define LOAD_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK 512u
#define WORDS (BLOCK / sizeof(uint64_t))
#define PAGE 4096u
#define GUARD 64u
#define POISON 0xa5
#define MAX_DEPTH 1024u
#define MAX_SEGMENTS 1024u

/* Exit status; the test script passes it on. */
enum { LOAD_OK, LOAD_MISMATCH, LOAD_IO_ERROR, LOAD_USAGE };

typedef enum Mode { MODE_WRITE, MODE_VERIFY, MODE_STRESS } Mode;

typedef struct Options {
    Mode mode;
    const char *device;
    uint64_t seed;
    uint64_t size;           /* bytes used, from the start of the device */
    uint64_t max_request;    /* bytes */
    uint32_t depth;          /* threads, one request each */
    uint32_t segments;       /* longest iovec */
    uint32_t generation;     /* written by "write" and at the end of "stress" */
    uint32_t seconds;        /* length of "stress" */
    bool buffered;           /* no O_DIRECT: for images on the host */
    bool progress;           /* a line each second */
} Options;

/* A pseudo-random number; @state moves on. */
uint64_t next_random(uint64_t *state);

/* A well mixed function of @x. */
uint64_t mix(uint64_t x);

/* A number from 1 to @max, small ones far more often than large ones. */
uint64_t skewed(uint64_t *state, uint64_t max);

/* The 512 bytes that block @block holds after write number @generation. */
void block_content(uint64_t *out, uint64_t seed, uint64_t block,
                   uint32_t generation);

/* Say how @seen differs from what @block must hold. */
void report_block(uint64_t seed, uint64_t block, uint32_t generation,
                  const uint8_t *seen);

/* Bytes of a block device or an image; 0 if that cannot be told. */
uint64_t device_size(int fd);

/* Fill @opt from the command line; ends the program if it is wrong. */
void parse_options(Options *opt, int argc, char **argv);

#endif
