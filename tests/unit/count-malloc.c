/*
 * Count what a thread allocates, for tests of code that must not.
 *
 * Sums of bytes in use do not show an allocation that is freed again, so each
 * call is counted, by functions that stand before the C library's.  Where a
 * sanitizer has put its own there, nothing can be counted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "count-malloc.h"

static __thread bool counting;
static __thread unsigned count;

#if defined(__GLIBC__) && !defined(QEMU_SANITIZE_ADDRESS) && \
    !defined(QEMU_SANITIZE_THREAD)

/* The C library's other names for its own. */
typeof(malloc) __libc_malloc;
typeof(calloc) __libc_calloc;
typeof(realloc) __libc_realloc;

void *malloc(size_t size)
{
    count += counting;
    return __libc_malloc(size);
}

void *calloc(size_t num, size_t size)
{
    count += counting;
    return __libc_calloc(num, size);
}

void *realloc(void *ptr, size_t size)
{
    count += counting;
    return __libc_realloc(ptr, size);
}

#endif

void count_malloc_start(void)
{
    count = 0;
    counting = true;
}

unsigned count_malloc_stop(void)
{
    counting = false;
    return count;
}

bool count_malloc_works(void)
{
    count_malloc_start();
    g_free(g_malloc(1));
    return count_malloc_stop() > 0;
}
