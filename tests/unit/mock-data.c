/*
 * Mock guest: what its memory holds.
 *
 * The contents of each request follow from its number.  Memory around the
 * buffers, and in those that the guest wants to have written, holds a mark.
 * It must never get to the backend, and must still be there after the
 * completion where nothing was written.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "mock-data.h"

/* No two halves alike, so that a shifted copy is found too. */
static const char mark[8] = "\xde\xc0GuArD!";

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t data_word(uint64_t serial, bool in, uint64_t n)
{
    return mix((serial << 33) ^ ((uint64_t)in << 32) ^ n);
}

void mock_data_fill(uint64_t serial, bool in, uint64_t pos, void *mem,
                    size_t len)
{
    uint8_t *to = mem;

    while (len) {
        uint64_t word = data_word(serial, in, pos / 8);
        size_t part = MIN(len, 8 - pos % 8);

        memcpy(to, (uint8_t *)&word + pos % 8, part);
        to += part;
        pos += part;
        len -= part;
    }
}

void mock_data_check(uint64_t serial, bool in, uint64_t pos, const void *mem,
                     size_t len)
{
    const uint8_t *from = mem;

    while (len) {
        uint64_t word = data_word(serial, in, pos / 8);
        size_t part = MIN(len, 8 - pos % 8);

        g_assert_cmpint(memcmp(from, (uint8_t *)&word + pos % 8, part), ==, 0);
        from += part;
        pos += part;
        len -= part;
    }
}

void mock_mark_fill(uint8_t *mem, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        mem[i] = mark[i % sizeof(mark)];
    }
}

void mock_mark_check(const uint8_t *mem, size_t pos, size_t len)
{
    for (size_t i = pos; i < len; i++) {
        g_assert_cmphex(mem[i], ==, (uint8_t)mark[i % sizeof(mark)]);
    }
}

void mock_mark_check_secret(const void *mem, size_t len)
{
    g_assert_null(memmem(mem, len, mark, sizeof(mark)));
}
