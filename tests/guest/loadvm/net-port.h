/*
 * A virtio-net device as a port.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_NET_PORT_H
#define LOADVM_NET_PORT_H

#include "net.h"

/** struct Port - a NIC between port_begin() and virtio_end() */
typedef struct Port {
    VirtioDevice *dev;
    unsigned num_pairs;
    unsigned max_pairs;
    uint8_t mac[MAC_SIZE];
} Port;

/** port_begin() - reset NIC @index and negotiate what @job asks for */
void port_begin(Port *port, const Job *job, unsigned index);

/** port_queue() - make queue @index: 2n receives, 2n + 1 sends */
Virtqueue *port_queue(Port *port, const Job *job, unsigned index,
                      uint32_t num_tokens, int cpu);

/** port_run() - start, and tell the NIC how many pairs there are */
void port_run(Port *port);

#endif
