/*
 * Ring harness: a shadow ring, a mock device at its other end, and a model of
 * what must come out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_RING_HARNESS_H
#define TESTS_UNIT_RING_HARNESS_H

#include "mock-device.h"

/** Descriptors of an indirect table here. */
#define HARNESS_TABLE_BUFS 16

/**
 * RingParams - one case of the matrix
 * @format: ring format
 * @size: descriptors
 * @event_idx: feature
 * @indirect: feature; then every other request has a table
 * @blind: while the driver runs, all that it wrote to shared memory before is
 *     replaced by garbage; whatever it reads back does it harm
 */
typedef struct RingParams {
    ShadowRingFormat format;
    uint16_t size;
    bool event_idx;
    bool indirect;
    bool blind;
} RingParams;

/**
 * RingRequest - one request; its address is the token
 *
 * Its buffers follow from @serial, so any two requests differ.
 */
typedef struct RingRequest {
    uint32_t serial;
    uint16_t num_out;
    uint16_t num_in;
    uint16_t num_descs;
    bool has_table;
    uint64_t table_offset;
    uint16_t id;              /* as the device fetched it */
    uint32_t len;             /* as the device used it    */
} RingRequest;

/**
 * RingHarness - everything a scenario needs
 *
 * A request wanders from @idle to @added (by the driver, in order), to @held
 * (fetched by the device, in any order), to @used, and back to @idle.
 */
typedef struct RingHarness {
    RingParams params;
    ShadowRingConfig config;
    ShadowRing *ring;
    MockDevice device;
    size_t mem_bytes;
    size_t device_offset;     /* the device's area in config.mem */
    size_t tables_offset;
    uint16_t *truth;          /* blind: what shared memory should hold */

    RingRequest *requests;
    GPtrArray *idle;
    GPtrArray *added;
    GPtrArray *held;
    GPtrArray *used;
    unsigned num_unpublished; /* at the end of @added */
    unsigned num_hidden;      /* used, but used.idx does not say so */
    uint32_t next_serial;
    unsigned num_descs;       /* of all requests that are out */
    MockRequest fetched;
} RingHarness;

typedef void RingScenario(RingHarness *h);

/** Run @scenario on every case of the matrix, each on a new ring. */
void harness_run_matrix(RingScenario *scenario);

/** One test path for a scenario: /shadow-ring/@claim. */
void harness_add_test(const char *claim, RingScenario *scenario);

/** One case by itself. */
RingHarness *harness_new(const RingParams *params);
void harness_free(RingHarness *h);

/** Is there room for a chain of @num buffers, as harness_add() writes it? */
bool harness_has_room(const RingHarness *h, unsigned num);

/** The driver's steps.  Each checks its result against the model. */
RingRequest *harness_add(RingHarness *h, unsigned num_out, unsigned num_in);
void harness_publish(RingHarness *h);
bool harness_should_kick(RingHarness *h);
bool harness_has_used(RingHarness *h);
void harness_suppress_calls(RingHarness *h);
bool harness_arm_calls(RingHarness *h);
RingRequest *harness_take(RingHarness *h);
RingRequest *harness_take_back(RingHarness *h);
ShadowRingResult harness_take_any(RingHarness *h, RingRequest **request);

/** The device's steps. */
bool harness_fetch(RingHarness *h);
void harness_use(RingHarness *h, unsigned held, uint32_t len);
void harness_publish_used(RingHarness *h);

/** Several at once. */
void harness_add_and_publish(RingHarness *h, unsigned num);
unsigned harness_fetch_all(RingHarness *h);
unsigned harness_use_all(RingHarness *h);
unsigned harness_take_all(RingHarness *h);

#endif /* TESTS_UNIT_RING_HARNESS_H */
