/*
 * Reads a device's registers all the time, until there is no device any more.
 *
 *     peek /sys/bus/pci/devices/.../resource1 BYTES
 *
 * No driver may have the device: the kernel would refuse the mapping.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What nobody answers reads alike; a vector that nobody uses has a mask bit. */
static int is_gone(volatile const uint32_t *words, unsigned num)
{
    uint32_t first = words[0];

    for (unsigned i = 1; i < num; i++) {
        if (words[i] != first) {
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    volatile const uint32_t *words;
    unsigned long looks = 0;
    size_t bytes;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: peek RESOURCE BYTES\n");
        return 2;
    }
    bytes = atoi(argv[2]);
    fd = open(argv[1], O_RDONLY);
    words = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }
    printf("PEEK begins\n");
    fflush(stdout);
    while (!is_gone(words, bytes / sizeof(*words))) {
        looks++;
    }
    printf("PEEK looked %lu times\n", looks);
    return 0;
}
