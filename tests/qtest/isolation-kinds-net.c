/*
 * A network device whose netdev holds the connection: one packet each way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_net.h"
#include "isolation-device.h"

enum { NET_RX, NET_TX, NET_PACKET = sizeof(struct virtio_net_hdr_v1) + 300 };

/* The backend keeps the last packet. */
static bool net_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                      uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *packet = mock_chain_read(chain, &size);

    g_assert_cmpuint(size, ==, NET_PACKET);
    memcpy(b->opaque, packet, size);
    return true;
}

static void net_traffic(GuestDevice *d)
{
    uint8_t packet[NET_PACKET] = {};

    device_random(packet + sizeof(struct virtio_net_hdr_v1),
                  NET_PACKET - sizeof(struct virtio_net_hdr_v1));
    device_request(d, NET_TX, packet, NET_PACKET, NULL, 0);
    g_assert_cmpmem(d->state, NET_PACKET, packet, NET_PACKET);
    device_random(packet, NET_PACKET);
    device_receive(d, NET_RX, packet, NET_PACKET);
}

const DeviceKind device_net = {
    .name = "net",
    .device = "virtio-net-pci,romfile=",
    .object = "-netdev vhost-user",
    .link = "netdev",
    .model = {
        .num_queues = 2,
        .receive = BIT(NET_RX),
        .serve = net_serve,
    },
    .traffic = net_traffic,
};
