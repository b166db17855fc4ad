/*
 * vhost-user devices with memory isolation: what has ended QEMU, and must not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vhost-user-repairs.h"

int main(int argc, char **argv)
{
    static const RepairsSetup setup = {
        .prefix = "vhost-user-isolation-repairs",
        .options = ",memory-isolation=on",
        .private_ram = true,
    };

    g_test_init(&argc, &argv, NULL);
    repairs_add_tests(&setup);
    return g_test_run();
}
