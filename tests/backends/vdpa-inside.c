/*
 * Two vDPA network devices inside QEMU's own process, with a cable between
 * them, for tests of vhost-vdpa with what VDUSE cannot have: a control queue,
 * in an address space of its own, and devices that can be suspended.
 *
 * This is a shared object for LD_PRELOAD.  It gives QEMU descriptors 100 and
 * 101 (-netdev vhost-vdpa,vhostfd=100), which are nothing to the kernel, and
 * answers what is asked of them by ioctl() and write() as Linux's vhost-vdpa
 * would for hardware.  A thread is the hardware.  Addresses of QEMU's are our
 * own, so the device reaches memory directly, where it was told and nowhere
 * else.
 *
 * Environment:
 *
 *   VDPA_LOG        file for what the devices do and are told
 *   VDPA_FEATURES   of rings, a sum of numbers as in 1 << 28
 *   VDPA_PAIRS      of data queues; 1 has no VIRTIO_NET_F_MQ
 *   VDPA_ORDERS     file that is read at each control command, if it is there:
 *                   "refuse C.c" answers a command of class C with an error,
 *                   "forget C.c" does not do it and says that it did, and
 *                   "delay N" takes N milliseconds for each
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include "vdpa-inside.h"

#define FIRST_FD 100
#define DEVICES 2

static Device devices[DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *log_file;
static int wake;

void device_log(const Device *d, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(log_file, "%u: ", d->number);
    vfprintf(log_file, format, args);
    fputc('\n', log_file);
    va_end(args);
}

/* What QEMU calls */

static Device *device_of(int fd)
{
    return fd >= FIRST_FD && fd < FIRST_FD + DEVICES ? &devices[fd - FIRST_FD]
                                                     : NULL;
}

static void wake_thread(void)
{
    const uint64_t one = 1;

    g_assert_cmpint(syscall(SYS_write, wake, &one, sizeof(one)), ==,
                    sizeof(one));
}

__attribute__((visibility("default")))
int ioctl(int fd, unsigned long request, ...)
{
    Device *d = device_of(fd);
    va_list args;
    void *arg;
    int ret;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    if (!d) {
        return syscall(SYS_ioctl, fd, request, arg);
    }
    pthread_mutex_lock(&lock);
    ret = serve_request(d, request, arg);
    pthread_mutex_unlock(&lock);
    wake_thread();
    return ret;
}

__attribute__((visibility("default")))
ssize_t write(int fd, const void *bytes, size_t size)
{
    Device *d = device_of(fd);
    ssize_t ret;

    if (!d) {
        return syscall(SYS_write, fd, bytes, size);
    }
    pthread_mutex_lock(&lock);
    ret = serve_message(d, bytes, size);
    pthread_mutex_unlock(&lock);
    return ret;
}

/* The thread */

static unsigned poll_fds(struct pollfd *fds)
{
    unsigned num = 0;

    fds[num++] = (struct pollfd) { .fd = wake, .events = POLLIN };
    for (unsigned i = 0; i < DEVICES * QUEUES_MAX; i++) {
        const Device *d = &devices[i / QUEUES_MAX];
        const Queue *q = &d->queue[i % QUEUES_MAX];

        if (q->on && !d->suspended) {
            fds[num++] = (struct pollfd) { .fd = q->kick, .events = POLLIN };
        }
    }
    return num;
}

/* The descriptors of before may be others by now. */
static void take_kicks(void)
{
    uint64_t value;

    while (read(wake, &value, sizeof(value)) > 0) {
        continue;
    }
    for (unsigned i = 0; i < DEVICES * QUEUES_MAX; i++) {
        Device *d = &devices[i / QUEUES_MAX];
        Queue *q = &d->queue[i % QUEUES_MAX];

        if (q->on && !d->suspended && q->kick >= 0 &&
            read(q->kick, &value, sizeof(value)) > 0) {
            q->look = true;
        }
    }
}

static void *run(void *opaque)
{
    struct pollfd fds[1 + DEVICES * QUEUES_MAX];

    for (;;) {
        unsigned num;

        pthread_mutex_lock(&lock);
        take_kicks();
        net_serve(devices);
        num = poll_fds(fds);
        pthread_mutex_unlock(&lock);
        poll(fds, num, -1);
    }
    return NULL;
}

/* Signals are for QEMU's threads. */
static void start_thread(void)
{
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    g_assert_cmpint(pthread_create(&thread, NULL, run, NULL), ==, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static uint64_t number(const char *name)
{
    const char *value = getenv(name);

    return value ? strtoull(value, NULL, 0) : 0;
}

/* A descriptor of that number, which the kernel knows nothing of. */
static void take_fd(int fd)
{
    g_assert_cmpint(fcntl(wake, F_DUPFD_CLOEXEC, fd), ==, fd);
}

static void device_new(Device *d, unsigned index)
{
    d->number = index;
    take_fd(FIRST_FD + index);
    for (unsigned i = 0; i < SPACES; i++) {
        d->maps[i] = g_array_new(false, false, sizeof(struct vhost_iotlb_msg));
    }
    for (unsigned i = 0; i < QUEUES_MAX; i++) {
        d->queue[i] = (Queue) { .kick = -1, .call = -1 };
    }
    net_init(d, number("VDPA_PAIRS"), number("VDPA_FEATURES"));
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("VDPA_LOG");

    /* Not for what QEMU starts. */
    unsetenv("LD_PRELOAD");
    log_file = fopen(path ? path : "/dev/stderr", "ae");
    g_assert_nonnull(log_file);
    setvbuf(log_file, NULL, _IOLBF, 0);
    wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (unsigned i = 0; i < DEVICES; i++) {
        device_new(&devices[i], i);
    }
    start_thread();
}
