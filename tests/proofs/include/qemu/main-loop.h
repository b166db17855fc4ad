/*
 * What is taken from here for the proofs is in chain-pop.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_QEMU_MAIN_LOOP_H
#define PROOFS_QEMU_MAIN_LOOP_H
#endif
