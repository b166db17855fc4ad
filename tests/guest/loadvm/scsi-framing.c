/*
 * Requests of virtio-scsi (virtio 1.2, 5.6), to target 0, unit 0.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "disk.h"

#define REQUEST_QUEUE 2
#define CDB_SIZE 32
#define SENSE_SIZE 96
#define TRIES 8                  /* a unit has something to tell at first */

#define TEST_UNIT_READY 0x00
#define SYNCHRONIZE_CACHE 0x35
#define READ_16 0x88
#define WRITE_16 0x8a
#define SERVICE_ACTION_IN 0x9e
#define READ_CAPACITY_16 0x10
#define CAPACITY_SIZE 32

typedef struct ScsiHeader {
    uint8_t lun[8];
    uint64_t tag;
    uint8_t attribute;
    uint8_t priority;
    uint8_t crn;
    uint8_t cdb[CDB_SIZE];
} __attribute__((packed)) ScsiHeader;

typedef struct ScsiStatus {
    uint32_t sense_length;
    uint32_t residual;
    uint16_t qualifier;
    uint8_t status;
    uint8_t response;
    uint8_t sense[SENSE_SIZE];
} ScsiStatus;

static void put_be(uint8_t *to, uint64_t value, unsigned bytes)
{
    while (bytes--) {
        to[bytes] = value;
        value >>= 8;
    }
}

static uint64_t get_be(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;

    while (bytes--) {
        value = value << 8 | *from++;
    }
    return value;
}

static ScsiHeader *begin_header(void *header)
{
    ScsiHeader *h = header;

    *h = (ScsiHeader) { .lun = { 1, 0, 0x40, 0 }, .tag = (uintptr_t)header };
    return h;
}

static void scsi_header(const Disk *disk, void *header, uint32_t op,
                        uint64_t block, uint32_t num_blocks)
{
    ScsiHeader *h = begin_header(header);

    if (op == OP_FLUSH) {
        h->cdb[0] = SYNCHRONIZE_CACHE;
        return;
    }
    h->cdb[0] = op == OP_WRITE ? WRITE_16 : READ_16;
    put_be(h->cdb + 2, block / disk->unit, 8);
    put_be(h->cdb + 10, num_blocks / disk->unit, 4);
}

static bool scsi_ok(const void *status)
{
    const ScsiStatus *s = status;

    return s->response == 0 && s->status == 0;
}

/* One command without anybody else; @size bytes come back in @data. */
static bool command(Virtqueue *vq, ScsiHeader *header, ScsiStatus *status,
                    void *data, uint32_t size)
{
    const Piece pieces[] = {
        { (uintptr_t)header, sizeof(*header) },
        { (uintptr_t)status, sizeof(*status) },
        { (uintptr_t)data, size },
    };
    const Chain chain = { pieces, 1, size ? 2 : 1 };
    Used used;

    memset(status, 0xff, sizeof(*status));
    virtqueue_add(vq, &chain, 0);
    virtqueue_publish(vq);
    while (!virtqueue_take(vq, &used)) {
        ;
    }
    return scsi_ok(status);
}

static void wait_ready(Virtqueue *vq, ScsiHeader *header, ScsiStatus *status)
{
    for (unsigned i = 0; i < TRIES; i++) {
        begin_header(header)->cdb[0] = TEST_UNIT_READY;
        if (command(vq, header, status, NULL, 0)) {
            return;
        }
    }
    die("no SCSI unit that is ready (response %u, status %u)",
        (unsigned)status->response, (unsigned)status->status);
}

/* After a reset the first command is told of it, and not done. */
static void scsi_settle(Virtqueue *vq)
{
    ScsiHeader *header = allocate(sizeof(*header), 64);
    ScsiStatus *status = allocate(sizeof(*status), 64);

    wait_ready(vq, header, status);
}

static void scsi_open(Disk *disk)
{
    ScsiHeader *header = allocate(sizeof(*header), 64);
    ScsiStatus *status = allocate(sizeof(*status), 64);
    uint8_t *data = allocate(CAPACITY_SIZE, 64);
    Virtqueue *vq;

    virtio_begin(disk->dev, 0);
    vq = virtio_queue(disk->dev, REQUEST_QUEUE,
                      virtio_queue_size(disk->dev, REQUEST_QUEUE), 1, 3, -1);
    virtio_run(disk->dev);
    wait_ready(vq, header, status);
    begin_header(header);
    header->cdb[0] = SERVICE_ACTION_IN;
    header->cdb[1] = READ_CAPACITY_16;
    header->cdb[13] = CAPACITY_SIZE;
    if (!command(vq, header, status, data, CAPACITY_SIZE)) {
        die("the SCSI unit does not tell its capacity");
    }
    virtio_end(disk->dev);
    disk->unit = get_be(data + 8, 4) / BLOCK;
    disk->num_blocks = (get_be(data, 8) + 1) * disk->unit;
    disk->can_flush = true;
}

const Framing scsi_framing = {
    .features = 0,
    .first_queue = REQUEST_QUEUE,
    .header_size = sizeof(ScsiHeader),
    .status_size = sizeof(ScsiStatus),
    .status_first = true,
    .open = scsi_open,
    .settle = scsi_settle,
    .header = scsi_header,
    .ok = scsi_ok,
};
