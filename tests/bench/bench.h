/*
 * What a request costs on its way through a shadow virtqueue: shared parts.
 *
 * A bench is a contender of one kind between two neutral parties:
 *
 *   guest      BenchGuest: a driver that fills a virtqueue of QEMU
 *   contender  ours or QEMU's stock shadow virtqueue: the only measured code
 *   device     BenchDevice: takes what it is shown and uses it at once
 *
 * All of it runs in one thread, so caches are warm and what is counted repeats.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include "hw/virtio/shadow-ring.h"

typedef struct VirtIODevice VirtIODevice;
typedef struct VirtQueue VirtQueue;

/**
 * BenchSyscalls - system calls of what was measured
 * @all: that the data path makes: events heard and sent
 * @wakeups: of these: events sent
 */
typedef struct BenchSyscalls {
    unsigned all;
    unsigned wakeups;
} BenchSyscalls;

extern BenchSyscalls bench_syscalls;
/** Set while this thread runs what is measured. */
extern __thread bool bench_syscalls_counted;

/** The largest batch, and the requests that the guest has. */
#define BENCH_BATCH_MAX 64
/** Entries of each ring. */
#define BENCH_RING_SIZE 256
/** A read of one block: header, data, status. */
#define BENCH_HEADER_BYTES 16
#define BENCH_DATA_BYTES 4096
#define BENCH_STATUS_BYTES 1
#define BENCH_NUM_OUT 1
#define BENCH_NUM_IN 2
#define BENCH_NUM_BUFS (BENCH_NUM_OUT + BENCH_NUM_IN)

/**
 * BenchGuest - a virtqueue of QEMU and its driver
 * @vdev: a device of this machine; nobody else moves its queue
 * @vq: the queue
 * @ring: its driver side.  The shadow ring is the driver of any ring.
 * @bufs: of request i: BENCH_NUM_BUFS from i * BENCH_NUM_BUFS on
 */
typedef struct BenchGuest {
    VirtIODevice *vdev;
    VirtQueue *vq;
    ShadowRing *ring;
    ShadowRingBuf bufs[BENCH_BATCH_MAX * BENCH_NUM_BUFS];
    /* The three areas and @bufs lie here; host pointer and guest address. */
    uint8_t *ram;
    uint64_t ram_addr;
} BenchGuest;

/** Make a driver for @vdev's first queue, with a ring of @format. */
BenchGuest *bench_guest_new(VirtIODevice *vdev, ShadowRingFormat format);
void bench_guest_free(BenchGuest *g);
/** Offer @num requests, and kick if that is asked for. */
void bench_guest_offer(BenchGuest *g, unsigned num);
/** Take what came back.  There must be @num requests. */
void bench_guest_collect(BenchGuest *g, unsigned num);

/** BenchDevice - where a ring lies, and how far the device is */
typedef struct BenchDevice {
    ShadowRingFormat format;
    uint16_t size;
    void *desc;
    void *driver;
    void *device;
    uint16_t next_avail;
    uint16_t next_used;
    bool avail_wrap;
    bool used_wrap;
} BenchDevice;

void bench_device_init(BenchDevice *d, const ShadowRingConfig *config);
/**
 * Use all that is available and ask for the next kick.
 *
 * Returns: requests that were used.
 */
unsigned bench_device_run(BenchDevice *d);

/**
 * BenchContender - what is measured
 * @start: between @guest and a device; NULL for a ring alone
 * @forward: move @num requests to the device; the measured call
 * @back: move @num requests back; the measured call
 * @device: runs between the two
 */
typedef struct BenchContender {
    const char *name;
    const char *part;           /* "ring" or "path"                     */
    ShadowRingFormat guest;     /* format of the guest's ring           */
    ShadowRingFormat format;    /* format of the device's ring          */
    void *(*start)(BenchGuest *guest, ShadowRingFormat format);
    void (*stop)(void *opaque);
    void (*forward)(void *opaque, unsigned num);
    void (*back)(void *opaque, unsigned num);
    BenchDevice *(*device)(void *opaque);
} BenchContender;

/** Our ring alone; our path. */
extern const BenchContender bench_ring_contender;
extern const BenchContender bench_path_contender;
/** QEMU's, of the file that was there before ours. */
extern const BenchContender bench_stock_ring_contender;
extern const BenchContender bench_stock_path_contender;

#endif /* TESTS_BENCH_BENCH_H */
