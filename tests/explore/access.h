/*
 * What the code under exploration calls: its accesses to shared memory, its
 * free choices, and the two signals.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_ACCESS_H
#define TESTS_EXPLORE_ACCESS_H

typedef enum ExploreOrder {
    EXPLORE_RELAXED,
    EXPLORE_ACQUIRE,
    EXPLORE_RELEASE,
    EXPLORE_SEQ_CST,
} ExploreOrder;

/** explore_load() - read @size bytes at @ptr, which must be shared memory */
uint64_t explore_load(const volatile void *ptr, unsigned size,
                      ExploreOrder order);

/** explore_store() - write @size bytes at @ptr, which must be shared memory */
void explore_store(volatile void *ptr, unsigned size, uint64_t value,
                   ExploreOrder order);

/** explore_fence() - order own accesses */
void explore_fence(ExploreOrder order);

/** explore_choose() - each number below @num is tried; @num is not 0 */
unsigned explore_choose(unsigned num);

/** explore_signal() - wake the other side, now or when it next sleeps */
void explore_signal(void);

/**
 * explore_wait() - sleep until the other side signals
 * @timer: something else can wake this side too
 *
 * Returns: true if it was something else.
 */
bool explore_wait(bool timer);

/** explore_fail() - what was promised does not hold; @why is a sentence */
void G_NORETURN explore_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

#endif /* TESTS_EXPLORE_ACCESS_H */
