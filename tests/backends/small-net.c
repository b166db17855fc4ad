/*
 * A network that takes every frame and brings none.
 *
 *     small-net SOCKET
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "small.h"

enum { RX, TX, QUEUES };

/* Of a frame of virtio 1.0, in front of it. */
#define HEADER 12

static void kicked(VuDev *dev, int queue)
{
    VuVirtqElement *element;

    while (queue == TX && (element = small_pop(dev, TX))) {
        if (small_bytes(element->out_sg, element->out_num) < HEADER) {
            small_fail("a frame that has no header");
        }
        small_push(dev, TX, element, 0);
    }
    small_notify(dev, queue);
}

int main(int argc, char **argv)
{
    static const SmallDevice device = { .queues = QUEUES, .kicked = kicked };

    if (argc != 2) {
        small_fail("usage: small-net SOCKET");
    }
    small_run(&device, argv[1]);
}
