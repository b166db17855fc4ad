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
    /* Blind, for each 16-bit word of shared memory. */
    uint16_t *truth;          /* what it should hold */
    uint8_t *wrote;           /* the device stored it last */

    RingRequest *requests;
    GPtrArray *idle;
    GPtrArray *added;
    GPtrArray *held;
    GPtrArray *used;
    unsigned num_unpublished; /* at the end of @added */
    unsigned num_hidden;      /* used, but that was not shown */
    uint32_t next_serial;
    unsigned num_descs;       /* of all requests that are out */
    uint32_t published_end;   /* place after what is published */
    uint64_t num_unasked;     /* places published since the kick check */
    MockRequest fetched;
} RingHarness;

typedef void RingScenario(RingHarness *h);

/** Run @scenario on every case that @format has, each on a new ring. */
void harness_run_matrix(ShadowRingFormat format, RingScenario *scenario);

/** One test path for each format: /shadow-ring/{split,packed}/@claim. */
void harness_add_test(const char *claim, RingScenario *scenario);

/** ... and one for a format by itself. */
void harness_add_test_of(ShadowRingFormat format, const char *claim,
                         RingScenario *scenario);

/** "split" or "packed" */
const char *harness_format_name(ShadowRingFormat format);

/**
 * Step of a loop over the places or lengths of a ring: each of a small one,
 * some of a large one.
 */
unsigned harness_place_step(const RingHarness *h);

/** One case by itself. */
RingHarness *harness_new(const RingParams *params);
void harness_free(RingHarness *h);

/** Is there room for a chain of @num buffers, as harness_add() writes it? */
bool harness_has_room(const RingHarness *h, unsigned num);

/** The next request has no table, or one if it fits and may have one. */
void harness_without_table(RingHarness *h);
void harness_with_table(RingHarness *h);

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
bool harness_should_kick_any(RingHarness *h);

/** The device's steps. */
bool harness_fetch(RingHarness *h);
/** The newest that was fetched. */
void harness_unfetch(RingHarness *h);
void harness_use(RingHarness *h, unsigned held, uint32_t len);
void harness_publish_used(RingHarness *h);

/** Several at once. */
void harness_add_and_publish(RingHarness *h, unsigned num);
unsigned harness_fetch_all(RingHarness *h);
unsigned harness_use_all(RingHarness *h);
unsigned harness_take_all(RingHarness *h);

/** @num requests of one buffer go round, one after the other. */
void harness_round_trip(RingHarness *h, unsigned num);

/** ... so many that an empty ring goes on at @place of two laps. */
void harness_go_to(RingHarness *h, unsigned place);

/**
 * The device stops and starts again: everything used is taken, everything not
 * fetched is taken back, and it goes on from the base that the ring names.
 */
void harness_stop_and_resume(RingHarness *h);

#endif /* TESTS_UNIT_RING_HARNESS_H */
