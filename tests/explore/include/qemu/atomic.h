/*
 * Atomics of the sources under exploration: each access to shared memory
 * becomes a step that the explorer schedules.
 *
 * Found before QEMU's own header of the same name, which it builds on; only
 * what the ring files and their device use is replaced.  Whatever else they
 * came to use would have to be added here: the explorer would not see it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef EXPLORE_QEMU_ATOMIC_H
#define EXPLORE_QEMU_ATOMIC_H

#include_next "qemu/atomic.h"
#include "../../access.h"

#define EXPLORE_LOAD(ptr, order)                                        \
    ((typeof_strip_qual(*(ptr)))explore_load((ptr), sizeof(*(ptr)), order))
#define EXPLORE_STORE(ptr, value, order)                                \
    explore_store((ptr), sizeof(*(ptr)), (value), order)

#undef qatomic_read
#undef qatomic_read_u64
#undef qatomic_load_acquire
#undef qatomic_set
#undef qatomic_set_u64
#undef qatomic_store_release
#undef smp_mb
#undef smp_wmb
#undef smp_rmb
#undef smp_mb_release
#undef smp_mb_acquire

#define qatomic_read(ptr)             EXPLORE_LOAD(ptr, EXPLORE_RELAXED)
#define qatomic_read_u64(ptr)         EXPLORE_LOAD(ptr, EXPLORE_RELAXED)
#define qatomic_load_acquire(ptr)     EXPLORE_LOAD(ptr, EXPLORE_ACQUIRE)
#define qatomic_set(ptr, i)           EXPLORE_STORE(ptr, i, EXPLORE_RELAXED)
#define qatomic_set_u64(ptr, i)       EXPLORE_STORE(ptr, i, EXPLORE_RELAXED)
#define qatomic_store_release(ptr, i) EXPLORE_STORE(ptr, i, EXPLORE_RELEASE)
#define smp_mb()                      explore_fence(EXPLORE_SEQ_CST)
#define smp_mb_release()              explore_fence(EXPLORE_RELEASE)
#define smp_mb_acquire()              explore_fence(EXPLORE_ACQUIRE)
#define smp_wmb()                     explore_fence(EXPLORE_RELEASE)
#define smp_rmb()                     explore_fence(EXPLORE_ACQUIRE)

#endif /* EXPLORE_QEMU_ATOMIC_H */
