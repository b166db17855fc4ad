/*
 * A disk, whatever carries its requests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LOADVM_DISK_H
#define LOADVM_DISK_H

#include "load.h"

typedef struct Disk Disk;

/**
 * struct Framing - what virtio-blk and virtio-scsi differ in
 * @features: of the device type, wanted
 * @first_queue: of those that take requests
 * @header_size: bytes in front of the data, read by the device
 * @status_size: bytes that the device writes
 * @status_first: the status comes before the data that the device writes
 * @open: fill in what the device is; between two resets
 * @settle: after a reset, before the first request; may be NULL
 * @header: make the header of a request
 * @ok: what does this status say?
 */
typedef struct Framing {
    uint64_t features;
    unsigned first_queue;
    uint32_t header_size;
    uint32_t status_size;
    bool status_first;
    void (*open)(Disk *disk);
    void (*settle)(Virtqueue *vq);
    void (*header)(const Disk *disk, void *header, uint32_t op,
                   uint64_t block, uint32_t num_blocks);
    bool (*ok)(const void *status);
} Framing;

/** struct Disk - @unit: blocks of 512 bytes that requests are made of */
struct Disk {
    const Framing *framing;
    VirtioDevice *dev;
    uint64_t num_blocks;
    uint32_t unit;
    bool can_flush;
    bool read_only;
};

extern const Framing blk_framing;
extern const Framing scsi_framing;

#endif
