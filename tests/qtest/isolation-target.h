/*
 * Which QEMU is tested: most tests take a PC, some devices are for Arm only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_TARGET_H
#define TESTS_QTEST_ISOLATION_TARGET_H

#include "libqtest.h"

static inline bool target_is_arm(void)
{
    const char *arch = qtest_get_arch();

    return g_str_equal(arch, "arm") || g_str_equal(arch, "aarch64");
}

/** A machine with PCI. */
static inline const char *target_machine(void)
{
    return target_is_arm() ? "virt" : "pc";
}

#endif /* TESTS_QTEST_ISOLATION_TARGET_H */
