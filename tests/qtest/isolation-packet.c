/*
 * Packets between a driver of libqos and a backend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "isolation-packet.h"

#define WAIT_US (30 * G_USEC_PER_SEC)

bool packet_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                  uint32_t *len)
{
    PacketState *state = b->opaque;
    g_autofree uint8_t *packet = mock_chain_read(chain, &state->len);

    g_assert_cmpuint(state->len, <=, PACKET_MAX);
    memcpy(state->packet, packet, state->len);
    return true;
}

void packet_random(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        data[i] = g_test_rand_int_range(0, 256);
    }
}

void packet_out(QTestState *qts, QVirtioNet *net, unsigned n,
                QGuestAllocator *alloc, MockBackend *b, size_t len)
{
    QVirtQueue *vq = net->queues[n];
    PacketState *state = b->opaque;
    uint64_t addr = guest_alloc(alloc, len);
    g_autofree uint8_t *packet = g_malloc0(len);
    uint32_t head;

    packet_random(packet + PACKET_HEADER, len - PACKET_HEADER);
    qtest_memwrite(qts, addr, packet, len);
    head = qvirtqueue_add(qts, vq, addr, PACKET_HEADER, false, true);
    qvirtqueue_add(qts, vq, addr + PACKET_HEADER, len - PACKET_HEADER, false,
                   false);
    qvirtqueue_kick(qts, net->vdev, vq, head);
    qvirtio_wait_used_elem(qts, net->vdev, vq, head, NULL, WAIT_US);
    g_assert_cmpmem(state->packet, state->len, packet, len);
    guest_free(alloc, addr);
}

uint64_t packet_post(QTestState *qts, QVirtioNet *net, unsigned n,
                     QGuestAllocator *alloc, uint32_t *head)
{
    uint64_t addr = guest_alloc(alloc, PACKET_MAX);

    *head = qvirtqueue_add(qts, net->queues[n], addr, PACKET_MAX, true, false);
    qvirtqueue_kick(qts, net->vdev, net->queues[n], *head);
    return addr;
}

void packet_in(QTestState *qts, QVirtioNet *net, unsigned n,
               QGuestAllocator *alloc, MockBackend *b, size_t len)
{
    g_autofree uint8_t *wanted = g_malloc(PACKET_MAX);
    g_autofree uint8_t *got = g_malloc(PACKET_MAX);
    uint32_t head, used;
    uint64_t addr = packet_post(qts, net, n, alloc, &head);

    /* What is behind the packet stays as it is. */
    qtest_memread(qts, addr, wanted, PACKET_MAX);
    packet_random(wanted, len);
    mock_backend_deliver(b, n, wanted, len);
    qvirtio_wait_used_elem(qts, net->vdev, net->queues[n], head, &used,
                           WAIT_US);
    g_assert_cmpuint(used, ==, len);
    qtest_memread(qts, addr, got, PACKET_MAX);
    g_assert_cmpmem(got, PACKET_MAX, wanted, PACKET_MAX);
    guest_free(alloc, addr);
}
