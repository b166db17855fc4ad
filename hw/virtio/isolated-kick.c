/*
 * Kicks that cannot block.
 *
 * A backend has the eventfd that it is kicked with.  It can clear O_NONBLOCK,
 * which belongs to the file and not to a descriptor, and fill the counter; then
 * the next write waits until somebody reads.  There is no flag for one write
 * (RWF_NOWAIT is refused), looking at the flags before it is a race, and a pipe
 * has its data before its wake-up, which some backends take for an error.
 *
 * But the kernel can signal an eventfd on behalf of an asynchronous operation,
 * and then a full counter just stays full.  So a kick is a read from /dev/null,
 * which completes before it returns, with the eventfd as its IOCB_FLAG_RESFD.
 * It costs about as much as the write again, once a batch.  (A ring of io_uring
 * with the eventfd registered costs the same, is one for each queue, and is
 * forbidden on some hosts.)
 *
 * Completions lie in a buffer of the kernel until somebody takes them; when it
 * is full they are thrown away all at once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qapi/error.h"
#include "isolated-kick.h"

#ifdef CONFIG_LINUX

#include <linux/aio_abi.h>
#include <sys/syscall.h>

/* Kicks between two looks at the completions, at least. */
#define COMPLETIONS 64

static aio_context_t context;
/* /dev/null; -1 until @context is there, too. */
static int null_fd = -1;

bool isolated_kick_init(Error **errp)
{
    int fd;

    if (null_fd >= 0) {
        return true;
    }
    fd = qemu_open("/dev/null", O_RDONLY, errp);
    if (fd < 0) {
        return false;
    }
    if (syscall(SYS_io_setup, COMPLETIONS, &context) < 0) {
        error_setg_errno(errp, errno, "no asynchronous I/O (see "
                         "fs.aio-max-nr)");
        qemu_close(fd);
        return false;
    }
    qatomic_store_release(&null_fd, fd);
    return true;
}

static void forget_completions(void)
{
    struct io_event events[COMPLETIONS];
    struct timespec none = { };

    syscall(SYS_io_getevents, context, 0, COMPLETIONS, events, &none);
}

void isolated_kick(EventNotifier *kick)
{
    char byte;
    int fd = qatomic_load_acquire(&null_fd);
    struct iocb operation = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = fd,
        .aio_buf = (uintptr_t)&byte,
        .aio_nbytes = sizeof(byte),
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = event_notifier_get_wfd(kick),
    };
    struct iocb *operations = &operation;

    if (fd < 0) {
        event_notifier_set(kick);
        return;
    }
    while (syscall(SYS_io_submit, context, 1, &operations) < 0 &&
           errno == EAGAIN) {
        forget_completions();
    }
}

#else

bool isolated_kick_init(Error **errp)
{
    error_setg(errp, "only Linux signals an eventfd by itself");
    return false;
}

void isolated_kick(EventNotifier *kick)
{
    event_notifier_set(kick);
}

#endif
