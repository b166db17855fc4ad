/*
 * Fuzzing the data path: a guest, an isolated queue and a backend, all moved
 * by one string of bytes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "hw/virtio/isolated-queue-internal.h"
#include "hw/virtio/shadow-ring.h"
#include "../unit/mock-device.h"
#include "fuzz-input.h"

/**
 * FuzzConfig - the first bytes of the string
 * @guest: the guest's ring; its memory comes later
 * @backend: the same for the backend's ring
 * @share: bounce space, bytes
 * @scrub: see IsolatedQueueConfig
 * @all_writable: see there
 */
typedef struct FuzzConfig {
    ShadowRingConfig guest;
    ShadowRingConfig backend;
    uint64_t share;
    bool scrub;
    bool all_writable;
} FuzzConfig;

/* The guest's memory: two pieces of RAM that meet, nothing around them. */
#define FUZZ_RAM_ADDR 0x10000
#define FUZZ_RAM_BYTES 0x10000
#define FUZZ_RAM_BORDER (FUZZ_RAM_ADDR + 0xa000)
/* In it: the ring, indirect tables, then the buffers of each request. */
#define FUZZ_RING_BYTES 0x1000
#define FUZZ_TABLES_BYTES 0x1000
#define FUZZ_REQUESTS 14
#define FUZZ_REQUEST_BYTES 0x1000
#define FUZZ_BUFS_MAX 8

/* fuzz-machine.c: what the code under test finds around itself. */

/** Fresh RAM, every word of it a canary. */
void fuzz_ram_reset(void);
/** Where a byte of RAM is; NULL if it is not RAM. */
uint8_t *fuzz_ram_host(uint64_t addr);
/** ... and the copy that shows what it must be. */
uint8_t *fuzz_ram_expected(uint64_t addr);
/** Let @len bytes at @addr be what they are now, where they are RAM. */
void fuzz_ram_accept(uint64_t addr, uint64_t len);
/** Nothing has changed but what was accepted. */
void fuzz_ram_check(void);
/** The device may have read these bytes. */
void fuzz_ram_expose(uint64_t addr, uint64_t len);
/** No canary of the guest in @mem but of bytes that were exposed. */
void fuzz_ram_check_secrets(const uint8_t *mem, size_t len);

/** The queue's thread: is it now, and does it hold the BQL? */
void fuzz_enter(bool bql);
extern AioContext *const fuzz_ctx;
/** Run what an event loop would run.  Returns: whether there was anything. */
bool fuzz_loop_run(void);
/** Run a handler without a reason; bits of @which choose it. */
void fuzz_loop_spurious(unsigned which);
/** Begin or end polling. */
void fuzz_loop_poll(bool on);
/** Forget handlers and bottom halves of the last string. */
void fuzz_loop_reset(void);

/* fuzz-virtio.c: QEMU's side of the guest's ring. */

VirtIODevice *fuzz_device(void);
VirtQueue *fuzz_virtqueue(void);
/** As after a reset, then set up by a driver with @config. */
void fuzz_virtqueue_start(const ShadowRingConfig *config);
void fuzz_virtqueue_clean_up(void);
/** Was the guest notified since this was asked last? */
bool fuzz_virtqueue_called(void);

/** FuzzRequest - one of the guest's, by its slot */
typedef struct FuzzRequest {
    bool out;
    bool raw;                   /* anything may be in it                   */
    uint32_t num_out;
    uint32_t num_in;
    uint64_t bytes_in;
    ShadowRingBuf bufs[FUZZ_BUFS_MAX];
} FuzzRequest;

/**
 * FuzzGuest - the driver
 * @hostile: it has written what it must not; nothing is expected from its ring
 * @restless: it changes buffers that it has given away
 */
typedef struct FuzzGuest {
    ShadowRingConfig config;
    ShadowRing *ring;
    FuzzRequest requests[FUZZ_REQUESTS];
    unsigned num_out;
    bool hostile;
    bool restless;
} FuzzGuest;

void fuzz_guest_start(FuzzGuest *g, const ShadowRingConfig *config);
void fuzz_guest_stop(FuzzGuest *g);
void fuzz_guest_offer(FuzzGuest *g, FuzzInput *in);
void fuzz_guest_offer_raw(FuzzGuest *g, FuzzInput *in);
void fuzz_guest_publish(FuzzGuest *g);
void fuzz_guest_collect(FuzzGuest *g);
void fuzz_guest_write_raw(FuzzGuest *g, FuzzInput *in);
void fuzz_guest_write_bufs(FuzzGuest *g, FuzzInput *in);
/** Accept what QEMU may write into the ring. */
void fuzz_guest_accept_ring(const FuzzGuest *g);

/** FuzzHeld - a request that the backend has fetched */
typedef struct FuzzHeld {
    uint16_t id;
    unsigned num_out;
    unsigned num_in;
    ShadowRingBuf *bufs;
} FuzzHeld;

/**
 * FuzzBackend - the device
 * @hostile: it has written what it must not
 * @confused: it cannot read the ring any more
 * @scrub: it must not see what it wrote earlier
 */
typedef struct FuzzBackend {
    IsolatedLink link;
    ShadowRingConfig config;
    MockDevice device;
    FuzzHeld held[64];
    unsigned num_held;
    bool stopped;
    bool hostile;
    bool confused;
    bool scrub;
} FuzzBackend;

void fuzz_backend_start(FuzzBackend *b, const FuzzConfig *config);
void fuzz_backend_stop(FuzzBackend *b);
bool fuzz_backend_fetch(FuzzBackend *b, const IsolatedQueue *q,
                        const FuzzGuest *g);
void fuzz_backend_use(FuzzBackend *b, unsigned i, FuzzInput *in);
void fuzz_backend_publish(FuzzBackend *b);
void fuzz_backend_arm(FuzzBackend *b, bool on);
void fuzz_backend_write_raw(FuzzBackend *b, FuzzInput *in);
void fuzz_backend_write_bufs(FuzzBackend *b, FuzzInput *in);
void fuzz_backend_lie(FuzzBackend *b, FuzzInput *in);
uint8_t *fuzz_backend_share(const FuzzBackend *b);

/**
 * FuzzWorld - all of it
 * @num_faulted: how often the queue said that it broke
 * @blamed: a backend broke the rules since the guest was reset
 * @lost: the backend is dead and must be connected anew
 */
typedef struct FuzzWorld {
    FuzzConfig config;
    FuzzGuest guest;
    FuzzBackend backend;
    IsolatedQueue *q;
    QEMUBH *faulted;
    unsigned num_faulted;
    bool blamed;
    bool lost;
} FuzzWorld;

/* fuzz-check.c: what must be true around each move of the queue. */

void fuzz_check_before(FuzzWorld *w);
void fuzz_check_after(FuzzWorld *w);
/** The same around each handler, in the world that was checked last. */
void fuzz_check_before_handler(void);
void fuzz_check_after_handler(void);
/** Honest on both sides: all that is out comes back. */
void fuzz_check_end(FuzzWorld *w);

#endif /* TESTS_FUZZ_FUZZ_H */
