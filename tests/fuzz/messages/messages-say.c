/*
 * Fuzzing messages: bytes and descriptors on their way to QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "qemu/sockets.h"
#include "messages.h"

void say(int socket, const void *bytes, size_t size, int fd,
         unsigned num_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(FUZZ_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    int fds[FUZZ_FDS_MAX];

    if (socket < 0 || !size) {
        return;
    }
    if (fd >= 0 && num_fds) {
        struct cmsghdr *c = &control.align;

        memset(&control, 0, CMSG_SPACE(num_fds * sizeof(int)));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        for (unsigned i = 0; i < num_fds; i++) {
            fds[i] = fd;
        }
        memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
    }
    /* What does not fit is not said. */
    if (__real_sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return;
    }
}

int open_any(unsigned kind, int own)
{
    int fds[2];

    switch (kind & 7) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return eventfd(0, EFD_CLOEXEC);
    case 2:
    case 3:
        if (pipe2(fds, O_CLOEXEC) < 0) {
            return -1;
        }
        break;
    case 4:
        /* Its own end: one that closes when QEMU does. */
        return own < 0 ? -1 : dup(own);
    default:
        if (qemu_socketpair(PF_UNIX, SOCK_STREAM, 0, fds) < 0) {
            return -1;
        }
        break;
    }
    close(fds[kind & 1]);
    return fds[!(kind & 1)];
}

unsigned any_number(unsigned which)
{
    static const uint8_t numbers[] = { 1, 2, 8, 9, 16, 17, 64, FUZZ_FDS_MAX };

    return numbers[which & 7];
}
