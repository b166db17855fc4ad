/*
 * What is taken from here for the proofs is in chain-pop.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_VIRTIO_QUEUE_INTERNAL_H
#define PROOFS_VIRTIO_QUEUE_INTERNAL_H
#endif
