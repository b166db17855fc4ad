/*
 * What the proofs put in the place of QEMU's atomic.h: each access goes to the
 * harness, which checks where it goes and, for a read, says what is there.
 * Memory that somebody else writes holds any value at any time, so order does
 * not matter here: the proofs hold for every order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_QEMU_ATOMIC_H
#define PROOFS_QEMU_ATOMIC_H

/* Defined by each harness. */
uint64_t proof_read(const volatile void *from, size_t bytes);
void proof_write(volatile void *to, size_t bytes, uint64_t value);

#define qatomic_read(ptr) \
    ((__typeof__(*(ptr)))proof_read((ptr), sizeof(*(ptr))))
#define qatomic_load_acquire(ptr) qatomic_read(ptr)
#define qatomic_set(ptr, value) proof_write((ptr), sizeof(*(ptr)), (value))
#define qatomic_set_u64(ptr, value) qatomic_set(ptr, value)
#define qatomic_store_release(ptr, value) qatomic_set(ptr, value)

#define smp_mb() ((void)0)
#define smp_rmb() ((void)0)
#define smp_wmb() ((void)0)

#endif /* PROOFS_QEMU_ATOMIC_H */
