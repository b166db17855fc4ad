/*
 * Mock device: what mock-device.c shares with the ring formats.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_DEVICE_INTERNAL_H
#define TESTS_UNIT_MOCK_DEVICE_INTERNAL_H

#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "mock-device.h"

/**
 * MockDeviceOps - what a ring format does
 * @fetch: read the request at next_avail; its id, num_descs and buffers
 * @fetched: move next_avail over it, or back if @forward is false
 * @use: write a used buffer at next_used that was @num_descs long, and move on
 * @publish: show the used buffers from sent_used on
 * @wants_call: what the driver says of the num_uncalled places
 * @wants_kick: what the device said of @num places from @old on
 * @write_event: arm kicks for @place
 * @suppress: ask for no kick
 *
 * The others: see mock-device.h.
 */
struct MockDeviceOps {
    void (*init)(MockDevice *d);
    bool (*has_avail)(const MockDevice *d);
    void (*fetch)(MockDevice *d, MockRequest *request);
    void (*fetched)(MockDevice *d, uint16_t num_descs, bool forward);
    void (*use)(MockDevice *d, uint32_t id, uint32_t len, uint16_t num_descs);
    void (*publish)(MockDevice *d);
    bool (*wants_call)(const MockDevice *d);
    bool (*wants_kick)(const MockDevice *d, uint32_t old, uint64_t num);
    void (*write_event)(MockDevice *d, uint32_t place);
    void (*arm)(MockDevice *d);
    void (*suppress)(MockDevice *d);
    uint32_t (*base_at)(const MockDevice *d, uint32_t place);
    void (*resume)(MockDevice *d, uint32_t base);
    void (*run_ahead)(MockDevice *d, unsigned num);
    void (*write_kick_words)(MockDevice *d, uint16_t flags, uint16_t event);
    void (*scribble)(MockDevice *d);
};

extern const MockDeviceOps mock_device_split_ops;
extern const MockDeviceOps mock_device_packed_ops;

/** Enter a buffer; assert that readable ones come first. */
void mock_request_add(MockRequest *request, uint64_t addr, uint32_t len,
                      bool writable);

/** The table at @addr, of @bytes; assert that it is one. */
const void *mock_device_table(const MockDevice *d, uint64_t addr,
                              uint32_t bytes);

#endif /* TESTS_UNIT_MOCK_DEVICE_INTERNAL_H */
