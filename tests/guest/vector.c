/*
 * Leads interrupts of a PCI device to the register of a bridge's hotplug
 * controller (SHPC) that switches the device's slot off: the next one unplugs
 * the device, in the middle of whatever raised it.
 *
 *     vector TABLE CONTROLLER ADDRESS SLOT FIRST LAST
 *
 * TABLE is the device's resource with the table of its vectors, of which FIRST
 * to LAST are led there; CONTROLLER is the bridge's resource0, at ADDRESS.  The
 * kernel has to be booted with iomem=relaxed, and must not use the controller.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096
#define VECTOR_WORDS 4
#define MASKED 1

/* PCI Standard Hot-Plug Controller 1.0: command code, and slot above it. */
#define COMMAND 0x14
#define ENABLE_LED_ON 0x06
#define DISABLE_LED_OFF 0x0f

static volatile uint32_t *map(const char *path)
{
    int fd = open(path, O_RDWR);
    void *found = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (found == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return found;
}

int main(int argc, char **argv)
{
    volatile uint32_t *table, *controller;
    uint64_t address;
    uint32_t slot;

    if (argc != 7) {
        fprintf(stderr, "usage: vector TABLE CONTROLLER ADDRESS SLOT FIRST "
                "LAST\n");
        return 2;
    }
    table = map(argv[1]);
    controller = map(argv[2]);
    address = strtoull(argv[3], NULL, 0) + COMMAND;
    slot = (uint32_t)atoi(argv[4]) << 8;
    /* ACPI has plugged the device in, of which the controller knows nothing. */
    controller[COMMAND / 4] = ENABLE_LED_ON | slot;
    for (int n = atoi(argv[5]); n <= atoi(argv[6]); n++) {
        volatile uint32_t *vector = table + n * VECTOR_WORDS;

        /* An interrupt in between would go nowhere, and be the last one. */
        vector[3] = MASKED;
        vector[0] = address;
        vector[1] = address >> 32;
        vector[2] = DISABLE_LED_OFF | slot;
        vector[3] = 0;
    }
    printf("led\n");
    return 0;
}
