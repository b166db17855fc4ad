/*
 * The device side of a virtqueue, for backends that tests are made of.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_RING_H
#define TESTS_QTEST_ISOLATION_RING_H

#include "standard-headers/linux/virtio_ring.h"

/* The most descriptors that a chain may have here. */
#define MOCK_CHAIN_MAX 1024

/**
 * MockChain - one request, as the device read it
 * @id: head of the chain, or its buffer id if packed
 * @slots: descriptors of the ring that it takes
 * @out: buffers to read; a pointer is into the memory of the peer
 * @in: buffers to write
 */
typedef struct MockChain {
    uint16_t id;
    uint16_t slots;
    unsigned num_out;
    unsigned num_in;
    struct iovec out[MOCK_CHAIN_MAX];
    struct iovec in[MOCK_CHAIN_MAX];
} MockChain;

/**
 * MockCursor - a place in a packed ring
 */
typedef struct MockCursor {
    uint16_t idx;
    bool wrap;
} MockCursor;

/**
 * MockRing - one virtqueue
 * @translate: where @len bytes at @addr are, or NULL.  The ring asserts that
 *     they are somewhere.
 * @opaque: for @translate
 * @desc: descriptor table or ring
 * @driver: available ring, or driver event suppression
 * @device: used ring, or device event suppression
 * @next_avail: what to fetch next; split rings use @next_avail.idx only, which
 *     then counts modulo 65536 and not modulo @size
 * @next_used: where the next used element goes
 * @called: @next_used when the driver was last asked whether it wants a call
 * @uncalled: elements used since
 *
 * Honest, and strict: a driver that breaks a rule of virtio 1.2, 2.7 or 2.8
 * ends the test.  Written from the specification, and from nothing else that
 * is in this tree.  One thread at a time.
 */
typedef struct MockRing {
    bool packed;
    bool event_idx;
    bool indirect;
    uint16_t size;
    void *(*translate)(void *opaque, uint64_t addr, uint64_t len);
    void *opaque;
    void *desc;
    void *driver;
    void *device;

    MockCursor next_avail;
    MockCursor next_used;
    MockCursor called;
    unsigned uncalled;
} MockRing;

/** Bytes of each part of a ring, in the order of MockRing. */
void mock_ring_bytes(const MockRing *ring, uint64_t bytes[3]);

/** Where the ring goes on, as vhost-user's messages say it. */
void mock_ring_set_base(MockRing *ring, uint32_t base);
uint32_t mock_ring_base(const MockRing *ring);

/**
 * Fetch the next request.
 *
 * Returns: false if there is none.
 */
bool mock_ring_fetch(MockRing *ring, MockChain *chain);

/** Give a request back: @len bytes of its buffers were written. */
void mock_ring_use(MockRing *ring, const MockChain *chain, uint32_t len);

/** Does the driver want a call for what was used since last asked? */
bool mock_ring_should_call(MockRing *ring);

/** Ask for a kick when there is more to fetch; ask for none. */
void mock_ring_arm(MockRing *ring);
void mock_ring_suppress(MockRing *ring);

/* For the two formats: add the buffer of a descriptor to @chain. */
void mock_chain_add(MockRing *ring, MockChain *chain, uint64_t addr,
                    uint32_t len, bool write);
/* For the two formats: the table that a descriptor refers to. */
void *mock_ring_table(MockRing *ring, uint64_t addr, uint32_t len);

/**
 * MockRingOps - what depends on the format
 */
typedef struct MockRingOps {
    void (*bytes)(const MockRing *ring, uint64_t bytes[3]);
    void (*set_base)(MockRing *ring, uint32_t base);
    uint32_t (*base)(const MockRing *ring);
    bool (*fetch)(MockRing *ring, MockChain *chain);
    void (*use)(MockRing *ring, const MockChain *chain, uint32_t len);
    bool (*wants_call)(MockRing *ring);
    void (*arm)(MockRing *ring);
    void (*suppress)(MockRing *ring);
} MockRingOps;

extern const MockRingOps mock_ring_split_ops;
extern const MockRingOps mock_ring_packed_ops;

#endif /* TESTS_QTEST_ISOLATION_RING_H */
