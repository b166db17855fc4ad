/*
 * Count what a thread allocates, for tests of code that must not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_COUNT_MALLOC_H
#define TESTS_UNIT_COUNT_MALLOC_H

/** Does it work with this C library and sanitizer?  It tries. */
bool count_malloc_works(void);

/** Count this thread's allocations from here on. */
void count_malloc_start(void);

/** Returns: how many there were. */
unsigned count_malloc_stop(void);

#endif /* TESTS_UNIT_COUNT_MALLOC_H */
