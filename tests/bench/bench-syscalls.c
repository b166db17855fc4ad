/*
 * What a request costs on its way through a shadow virtqueue: system calls.
 *
 * The linker leads calls of these functions here (--wrap).  Device and driver of
 * the bench call them too; what is not measured is not counted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include <sys/uio.h>
#include "bench.h"

BenchSyscalls bench_syscalls;
/* Other threads of QEMU are not measured. */
__thread bool bench_syscalls_counted;

/* What the linker gives the wrapped ones for names. */
ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __real_preadv64v2(int fd, const struct iovec *iov, int num,
                          off_t offset, int flags);
long __real_syscall(long number, long a, long b, long c, long d, long e,
                    long f);
ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int num,
                          off_t offset, int flags);
long __wrap_syscall(long number, long a, long b, long c, long d, long e,
                    long f);

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
    bench_syscalls.all += bench_syscalls_counted;
    return __real_read(fd, buf, len);
}

/* An eventfd is written to wake somebody. */
ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    bench_syscalls.all += bench_syscalls_counted;
    bench_syscalls.wakeups += bench_syscalls_counted;
    return __real_write(fd, buf, len);
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int num,
                          off_t offset, int flags)
{
    bench_syscalls.all += bench_syscalls_counted;
    return __real_preadv64v2(fd, iov, num, offset, flags);
}

/* The kernel signals a backend's eventfd in our place. */
long __wrap_syscall(long number, long a, long b, long c, long d, long e,
                    long f)
{
    bool counted = bench_syscalls_counted && number == SYS_io_submit;

    bench_syscalls.all += counted;
    bench_syscalls.wakeups += counted;
    return __real_syscall(number, a, b, c, d, e, f);
}
