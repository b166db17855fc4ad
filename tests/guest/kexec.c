/*
 * Goes over to another kernel, without firmware and without a reset.
 *
 *     kexec load KERNEL INITRD COMMAND-LINE   what "kexec go" goes to
 *     kexec crash KERNEL INITRD COMMAND-LINE  what a crash goes to
 *     kexec go
 *
 * What kexec-tools do, for a kernel that loads files by itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what)
{
    printf("KEXEC %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0) {
        fail(path);
    }
    return fd;
}

static void load(char **argv, unsigned long flags)
{
    if (syscall(SYS_kexec_file_load, open_file(argv[0]), open_file(argv[1]),
                strlen(argv[2]) + 1, argv[2], flags)) {
        fail("kexec_file_load");
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "load")) {
        load(argv + 2, 0);
    } else if (argc == 5 && !strcmp(argv[1], "crash")) {
        load(argv + 2, KEXEC_FILE_ON_CRASH);
    } else if (argc == 2 && !strcmp(argv[1], "go")) {
        syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
                LINUX_REBOOT_CMD_KEXEC, NULL);
        fail("reboot");
    } else {
        printf("KEXEC load|crash KERNEL INITRD COMMAND-LINE, or go\n");
        return 1;
    }
    return 0;
}
