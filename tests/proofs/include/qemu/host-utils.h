/*
 * Powers of two for the proofs, by a loop that CBMC unwinds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_QEMU_HOST_UTILS_H
#define PROOFS_QEMU_HOST_UTILS_H

static inline bool is_power_of_2(uint64_t value)
{
    return value && !(value & (value - 1));
}

/* The proofs use small rings. */
static inline uint64_t pow2ceil(uint64_t value)
{
    uint64_t power = 1;

    while (power < value) {
        power *= 2;
    }
    return power;
}

#endif /* PROOFS_QEMU_HOST_UTILS_H */
