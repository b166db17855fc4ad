/*
 * Kicks that cannot block.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_ISOLATED_KICK_H
#define HW_VIRTIO_ISOLATED_KICK_H

#include "qemu/event_notifier.h"

/**
 * isolated_kick_init() - get ready, once for all queues
 * @errp: set if the host cannot do it
 *
 * Until it has succeeded isolated_kick() is a write that a backend can make
 * wait.  BQL held.
 */
bool isolated_kick_init(Error **errp);

/**
 * isolated_kick() - notify whoever listens to @kick
 * @kick: an eventfd whose flags and counter the backend can change
 *
 * Any thread.
 */
void isolated_kick(EventNotifier *kick);

#endif /* HW_VIRTIO_ISOLATED_KICK_H */
