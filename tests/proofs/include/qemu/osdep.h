/*
 * What the proofs put in the place of QEMU's osdep.h: the few names that the
 * proven files use, in a form that CBMC understands.
 *
 * An assertion of the code is a property: it must hold in every run.  What
 * follows it may rely on it, as in a real run.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_QEMU_OSDEP_H
#define PROOFS_QEMU_OSDEP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Must hold in every run, for the reason that the second argument gives. */
#define PROVE(condition, claim)                                         \
    do {                                                                \
        bool holds_ = (condition);                                      \
        __CPROVER_assert(holds_, claim);                                \
        __CPROVER_assume(holds_);                                       \
    } while (0)

/* Precondition: only runs in which this is so are looked at. */
#define ASSUME(condition) __CPROVER_assume(condition)

/* Any value at all; a new one each time. */
uint64_t nondet_u64(void);
uint32_t nondet_u32(void);
uint16_t nondet_u16(void);
bool nondet_bool(void);

#define assert(condition) PROVE(condition, "assert: " #condition)
#define g_assert_not_reached() PROVE(false, "a place that is never reached")

/* GLib's end the process when there is no memory, so they never fail. */
#define g_malloc0(bytes) __CPROVER_allocate((bytes), true)
#define g_new0(type, num) \
    ((type *)__CPROVER_allocate(sizeof(type) * (num), true))
#define g_free(ptr) free(ptr)

void free(void *ptr);

typedef struct Error Error;

typedef uint64_t aligned_uint64_t __attribute__((aligned(8)));

#define container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))
#define QEMU_BUILD_BUG_ON(condition) \
    _Static_assert(!(condition), "not " #condition)
#define QEMU_IS_ALIGNED(n, m) ((n) % (m) == 0)
#define QEMU_PTR_IS_ALIGNED(p, n) QEMU_IS_ALIGNED((uintptr_t)(p), (n))
#define ROUND_UP(n, d) (((n) + (d) - 1) & -(0 ? (n) : (d)))
/* Each argument once: it may be a question with another answer each time. */
#define MIN(a, b)                                                       \
    ({                                                                  \
        __typeof__(a) a_ = (a);                                         \
        __typeof__(b) b_ = (b);                                         \
        a_ < b_ ? a_ : b_;                                              \
    })
#define MAX(a, b)                                                       \
    ({                                                                  \
        __typeof__(a) a_ = (a);                                         \
        __typeof__(b) b_ = (b);                                         \
        a_ > b_ ? a_ : b_;                                              \
    })
#define likely(x) (x)
#define unlikely(x) (x)
#define barrier() ((void)0)

#endif /* PROOFS_QEMU_OSDEP_H */
