/*
 * Packets between a driver of libqos and a backend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_PACKET_H
#define TESTS_QTEST_ISOLATION_PACKET_H

#include "libqtest.h"
#include "libqos/virtio-net.h"
#include "standard-headers/linux/virtio_net.h"
#include "isolation-backend.h"

#define PACKET_HEADER sizeof(struct virtio_net_hdr_v1)
#define PACKET_MAX 9000

/**
 * PacketState - the last packet out of the guest, header and all
 *
 * MockBackend.opaque of a backend that packet_serve() serves.
 */
typedef struct PacketState {
    size_t len;
    uint8_t packet[PACKET_MAX];
} PacketState;

/** MockModel.serve: keeps the packet. */
bool packet_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                  uint32_t *len);

void packet_random(uint8_t *data, size_t len);

/** Send @len bytes, header included, through queue @n: all of them arrive. */
void packet_out(QTestState *qts, QVirtioNet *net, unsigned n,
                QGuestAllocator *alloc, MockBackend *b, size_t len);

/** Room for PACKET_MAX bytes, posted to queue @n.  Returns: its address. */
uint64_t packet_post(QTestState *qts, QVirtioNet *net, unsigned n,
                     QGuestAllocator *alloc, uint32_t *head);

/** Receive @len bytes through queue @n: those, and nothing behind them. */
void packet_in(QTestState *qts, QVirtioNet *net, unsigned n,
               QGuestAllocator *alloc, MockBackend *b, size_t len);

#endif /* TESTS_QTEST_ISOLATION_PACKET_H */
