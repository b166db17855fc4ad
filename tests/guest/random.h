/*
 * Small things that the guest's verifying programs share: random numbers that
 * repeat from a seed, options, and one way to fail.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef GUEST_RANDOM_H
#define GUEST_RANDOM_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number that looks random and follows from @value alone. */
static inline uint64_t scramble(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

static inline uint64_t draw(uint64_t *state, uint64_t limit)
{
    *state = scramble(*state);
    return *state % limit;
}

/* @size bytes that follow from @key. */
static inline void fill_from(uint8_t *to, size_t size, uint64_t key)
{
    for (size_t i = 0; i < size; i += sizeof(key)) {
        uint64_t word = scramble(key + i);
        size_t part = size - i < sizeof(word) ? size - i : sizeof(word);

        memcpy(to + i, &word, part);
    }
}

/* The value of option @name in @argv, else @preset. */
static inline uint64_t option(char **argv, const char *name, uint64_t preset)
{
    for (; *argv; argv++) {
        if (!strcmp(*argv, name) && argv[1]) {
            return strtoull(argv[1], NULL, 0);
        }
    }
    return preset;
}

__attribute__((noreturn, format(printf, 1, 2)))
static inline void die(const char *format, ...)
{
    int error = errno;
    va_list args;

    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (%s)\n", error ? strerror(error) : "no error");
    fflush(stdout);
    exit(1);
}

/* Go on only if the system call that returned @result succeeded. */
static inline long must(long result, const char *what)
{
    if (result < 0) {
        die("%s failed", what);
    }
    return result;
}

#endif
