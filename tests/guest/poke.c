/*
 * Writes to the registers of a virtio device that its driver is using.
 *
 *     poke /sys/bus/pci/devices/.../resource4 ROUNDS SEED
 *
 * Rings are led to where no RAM is, or the device would write over this guest;
 * everything else is written at any moment and in any order.  The kernel has
 * to be booted with iomem=relaxed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* struct virtio_pci_common_cfg, and where QEMU has the notifications. */
#define NOTIFY 0x3000
#define SIZE 0x4000
#define NO_RAM 0x7fff0000u

static const struct {
    unsigned at;
    unsigned size;
} registers[] = {
    { 0, 4 }, { 8, 4 }, { 12, 4 },                  /* features */
    { 16, 2 }, { 26, 2 },                           /* vectors */
    { 22, 2 }, { 22, 2 }, { 24, 2 }, { 28, 2 },     /* queues */
    { 20, 1 },                                      /* status */
    { 36, 4 }, { 44, 4 }, { 52, 4 },                /* upper half of rings */
    { NOTIFY, 2 }, { NOTIFY + 4, 2 }, { NOTIFY + 8, 2 },
};

static void poke(volatile uint8_t *bar)
{
    static const uint32_t values[] = { 0, 1, 2, 7, 0xf, 0x80, 0xffff };
    unsigned n = rand() % (sizeof(registers) / sizeof(registers[0]));
    unsigned at = registers[n].at;
    uint32_t value = values[rand() % (sizeof(values) / sizeof(values[0]))];

    switch (registers[n].size) {
    case 1:
        bar[at] = value;
        break;
    case 2:
        *(volatile uint16_t *)(bar + at) = value;
        break;
    default:
        *(volatile uint32_t *)(bar + at) = at >= 36 ? NO_RAM : value;
    }
}

int main(int argc, char **argv)
{
    volatile uint8_t *bar;
    int fd;

    if (argc != 4) {
        fprintf(stderr, "usage: poke RESOURCE ROUNDS SEED\n");
        return 2;
    }
    fd = open(argv[1], O_RDWR);
    bar = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bar == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }
    srand(atoi(argv[3]));
    for (int i = atoi(argv[2]); i; i--) {
        poke(bar);
    }
    printf("poked\n");
    return 0;
}
