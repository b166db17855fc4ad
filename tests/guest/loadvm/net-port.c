/*
 * A virtio-net device as a port: pairs of queues, and how many of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "net-port.h"

#define F_MAC FEATURE(5)
#define F_CONTROL FEATURE(17)
#define F_MANY_PAIRS FEATURE(22)

#define CONFIG_MAX_PAIRS 8

/* virtio 1.2, 5.1.6.5.5 */
#define CLASS_PAIRS 4
#define SET_PAIRS 0

typedef struct Control {
    uint8_t class;
    uint8_t command;
    uint16_t num_pairs;
    uint8_t ack;
} __attribute__((packed)) Control;

void port_begin(Port *port, const Job *job, unsigned index)
{
    VirtioDevice *dev = virtio_device(VIRTIO_NET, index);
    uint64_t features = F_MAC | (job->packed ? F_PACKED : 0) |
        (job->event_idx ? F_EVENT_IDX : 0) | (job->indirect ? F_INDIRECT : 0);

    if (!dev) {
        die("there is no such NIC (%u)", index);
    }
    if (job->queues > 1) {
        features |= F_CONTROL | F_MANY_PAIRS;
    }
    virtio_begin(dev, features);
    if (job->packed && !(dev->features & F_PACKED)) {
        die("the device has no packed rings (see packed=on)");
    }
    *port = (Port) { .dev = dev, .num_pairs = job->queues, .max_pairs = 1 };
    if (dev->features & F_MANY_PAIRS) {
        port->max_pairs = *(volatile uint16_t *)
            (dev->config + CONFIG_MAX_PAIRS);
    }
    if (job->queues > port->max_pairs) {
        die("NIC %u has %u pair(s) of queues", index, port->max_pairs);
    }
    for (unsigned i = 0; i < MAC_SIZE; i++) {
        port->mac[i] = dev->config[i];
    }
}

Virtqueue *port_queue(Port *port, const Job *job, unsigned index,
                      uint32_t num_tokens, int cpu)
{
    uint16_t most = virtio_queue_size(port->dev, index);
    uint16_t size = job->size ? job->size : most;

    if (!most || size > most) {
        die("queue %u has %u descriptors, not %u", index, most, size);
    }
    return virtio_queue(port->dev, index, size, num_tokens,
                        job->segments + 1, job->msix ? cpu : -1);
}

/* The control queue comes behind all pairs that there could be. */
void port_run(Port *port)
{
    Control *control = allocate(sizeof(*control), 64);
    const Piece pieces[] = {
        { (uintptr_t)control, 2 },
        { (uintptr_t)&control->num_pairs, 2 },
        { (uintptr_t)&control->ack, 1 },
    };
    const Chain chain = { pieces, 2, 1 };
    unsigned index = 2 * port->max_pairs;
    Virtqueue *vq = NULL;
    Used used;

    if (port->num_pairs > 1) {
        vq = virtio_queue(port->dev, index,
                          virtio_queue_size(port->dev, index), 1, 3, -1);
    }
    virtio_run(port->dev);
    if (!vq) {
        return;
    }
    *control = (Control) { CLASS_PAIRS, SET_PAIRS, port->num_pairs, 0xff };
    virtqueue_add(vq, &chain, 0);
    virtqueue_publish(vq);
    while (!virtqueue_take(vq, &used)) {
        ;
    }
    if (control->ack) {
        die("the NIC refuses %u pairs of queues", port->num_pairs);
    }
}
