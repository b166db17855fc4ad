/*
 * Fuzzing: the string of bytes that moves everybody.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_FUZZ_INPUT_H
#define TESTS_FUZZ_FUZZ_INPUT_H

/**
 * FuzzInput - what is left of the string
 *
 * At its end there are only zeros.
 */
typedef struct FuzzInput {
    const uint8_t *data;
    size_t left;
} FuzzInput;

/** fuzz_u8() - the next byte */
static inline uint8_t fuzz_u8(FuzzInput *in)
{
    if (!in->left) {
        return 0;
    }
    in->left--;
    return *in->data++;
}

/** fuzz_u16() - the next two bytes, the low one first */
static inline uint16_t fuzz_u16(FuzzInput *in)
{
    uint16_t low = fuzz_u8(in);

    return low | fuzz_u8(in) << 8;
}

/** fuzz_u32() - the next four bytes, the low one first */
static inline uint32_t fuzz_u32(FuzzInput *in)
{
    uint32_t low = fuzz_u16(in);

    return low | (uint32_t)fuzz_u16(in) << 16;
}

#endif /* TESTS_FUZZ_FUZZ_INPUT_H */
