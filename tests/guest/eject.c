/*
 * Takes a PCI device away from a PC without a word to its driver: writes the
 * register with which firmware tells that a slot may be ejected.
 *
 *     eject SLOT
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

/* QEMU's docs/specs/acpi_pci_hotplug.rst. */
#define EJECT 0xae08
#define BUS 0xae10

int main(int argc, char **argv)
{
    if (argc != 2 || iopl(3)) {
        fprintf(stderr, "usage, as root: eject SLOT\n");
        return 1;
    }
    outl(0, BUS);
    outl(1u << atoi(argv[1]), EJECT);
    return 0;
}
