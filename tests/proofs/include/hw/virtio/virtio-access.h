/*
 * What is taken from here for the proofs is in chain-pop.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_HW_VIRTIO_VIRTIO_ACCESS_H
#define PROOFS_HW_VIRTIO_VIRTIO_ACCESS_H
#endif
