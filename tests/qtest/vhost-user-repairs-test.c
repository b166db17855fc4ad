/*
 * vhost-user devices: what has ended QEMU, and must not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vhost-user-repairs.h"

int main(int argc, char **argv)
{
    static const RepairsSetup setup = {
        .prefix = "vhost-user-repairs",
        .options = "",
    };

    g_test_init(&argc, &argv, NULL);
    repairs_add_tests(&setup);
    return g_test_run();
}
