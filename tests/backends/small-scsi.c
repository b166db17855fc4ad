/*
 * A SCSI disk that says of every request that it wrote no byte, as
 * contrib/vhost-user-scsi does: used.len is 0, and how much data is valid the
 * response alone tells.
 *
 *     small-scsi SOCKET IMAGE
 *
 * Target 0, unit 0 of the bus is the disk; there is nothing else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_scsi.h>
#include <sys/stat.h>
#include <unistd.h>

#include "random.h"
#include "small.h"

enum { CONTROL, EVENTS, REQUESTS, QUEUES = REQUESTS + 2 };

#define BLOCK 512
#define MOST (4 << 20)
#define REQUEST sizeof(struct virtio_scsi_cmd_req)
#define RESPONSE sizeof(struct virtio_scsi_cmd_resp)

enum {
    TEST_UNIT_READY = 0x00,
    REQUEST_SENSE = 0x03,
    INQUIRY = 0x12,
    MODE_SENSE_6 = 0x1a,
    READ_CAPACITY_10 = 0x25,
    READ_10 = 0x28,
    WRITE_10 = 0x2a,
    SYNCHRONIZE_CACHE_10 = 0x35,
    READ_16 = 0x88,
    WRITE_16 = 0x8a,
    SYNCHRONIZE_CACHE_16 = 0x91,
    SERVICE_ACTION_IN_16 = 0x9e,
    REPORT_LUNS = 0xa0,
};

#define CHECK_CONDITION 2
#define ILLEGAL_REQUEST 5
#define MEDIUM_ERROR 3

typedef struct Command {
    const uint8_t *cdb;
    uint8_t *data;            /* to or from the guest */
    size_t out_bytes;         /* of the guest's data */
    size_t in_room;           /* what the guest wants at most */
    size_t in_bytes;          /* what it gets */
    struct virtio_scsi_cmd_resp *response;
} Command;

static int image;
static uint64_t num_blocks;
static uint8_t buffer[MOST];

static uint16_t big16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return be16toh(value);
}

static uint32_t big32(const uint8_t *at)
{
    return (uint32_t)big16(at) << 16 | big16(at + 2);
}

static uint64_t big64(const uint8_t *at)
{
    return (uint64_t)big32(at) << 32 | big32(at + 4);
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
}

static void refuse(Command *c, uint8_t key, uint8_t code)
{
    /* Sense in fixed format. */
    c->response->status = CHECK_CONDITION;
    c->response->sense_len = 18;
    c->response->sense[0] = 0x70;
    c->response->sense[2] = key;
    c->response->sense[7] = 10;
    c->response->sense[12] = code;
}

/* What a command says of the disk; the guest may want less of it. */
static void tell(Command *c, const uint8_t *what, size_t size)
{
    c->in_bytes = size < c->in_room ? size : c->in_room;
    memcpy(c->data, what, c->in_bytes);
}

static void inquiry(Command *c)
{
    uint8_t text[36] = { 0, 0, 5, 2, sizeof(text) - 5 };
    const uint8_t pages[] = { 0, 0, 0, 1, 0 };

    if (c->cdb[1] & 1) {
        if (c->cdb[2]) {
            refuse(c, ILLEGAL_REQUEST, 0x24);
        } else {
            tell(c, pages, sizeof(pages));
        }
        return;
    }
    memcpy(text + 8, "QEMU    small disk      0001", 28);
    tell(c, text, sizeof(text));
}

/* The caching page: what is written is cached until it is synchronized. */
static void mode_sense(Command *c)
{
    uint8_t text[24] = { sizeof(text) - 1, 0, 0, 0, 0x08, 18, 0x04 };
    uint8_t page = c->cdb[2] & 0x3f;

    if (page != 0x08 && page != 0x3f) {
        refuse(c, ILLEGAL_REQUEST, 0x24);
        return;
    }
    tell(c, text, sizeof(text));
}

static void capacity(Command *c, bool is_16)
{
    uint8_t text[32] = { 0 };
    uint64_t last = num_blocks - 1;

    if (is_16) {
        put32(text, last >> 32);
        put32(text + 4, last);
        put32(text + 8, BLOCK);
    } else {
        put32(text, last);
        put32(text + 4, BLOCK);
    }
    tell(c, text, is_16 ? 32 : 8);
}

static void transfer(Command *c, bool is_16, bool is_write)
{
    uint64_t first = is_16 ? big64(c->cdb + 2) : big32(c->cdb + 2);
    uint64_t count = is_16 ? big32(c->cdb + 10) : big16(c->cdb + 7);
    size_t bytes = count * BLOCK;
    ssize_t done;

    if (count > MOST / BLOCK || first > num_blocks ||
        count > num_blocks - first) {
        refuse(c, ILLEGAL_REQUEST, 0x21);
        return;
    }
    if (bytes > (is_write ? c->out_bytes : c->in_room)) {
        small_fail("%zu bytes asked for, %zu and %zu given", bytes,
                   c->out_bytes, c->in_room);
    }
    if (is_write) {
        done = pwrite(image, c->data, bytes, first * BLOCK);
    } else {
        done = pread(image, c->data, bytes, first * BLOCK);
        c->in_bytes = bytes;
        c->data[7] ^= small_damage() && count > 16;
    }
    if (done != (ssize_t)bytes) {
        refuse(c, MEDIUM_ERROR, is_write ? 0x0c : 0x11);
    }
}

static void synchronize(Command *c)
{
    if (fdatasync(image)) {
        refuse(c, MEDIUM_ERROR, 0x0c);
    }
}

static void run_command(Command *c)
{
    const uint8_t luns[16] = { 0, 0, 0, 8 };
    const uint8_t no_sense[18] = { 0x70, 0, 0, 0, 0, 0, 0, 10 };
    uint8_t op = c->cdb[0];

    switch (op) {
    case TEST_UNIT_READY:
        break;
    case REQUEST_SENSE:
        tell(c, no_sense, sizeof(no_sense));
        break;
    case INQUIRY:
        inquiry(c);
        break;
    case MODE_SENSE_6:
        mode_sense(c);
        break;
    case READ_CAPACITY_10:
    case SERVICE_ACTION_IN_16:
        capacity(c, op == SERVICE_ACTION_IN_16);
        break;
    case READ_10:
    case READ_16:
    case WRITE_10:
    case WRITE_16:
        transfer(c, op == READ_16 || op == WRITE_16,
                 op == WRITE_10 || op == WRITE_16);
        break;
    case SYNCHRONIZE_CACHE_10:
    case SYNCHRONIZE_CACHE_16:
        synchronize(c);
        break;
    case REPORT_LUNS:
        tell(c, luns, sizeof(luns));
        break;
    default:
        refuse(c, ILLEGAL_REQUEST, 0x20);
    }
}

static void handle(VuVirtqElement *element)
{
    struct virtio_scsi_cmd_req request;
    struct virtio_scsi_cmd_resp response = { 0 };
    size_t out = small_bytes(element->out_sg, element->out_num);
    size_t in = small_bytes(element->in_sg, element->in_num);
    Command c = {
        .cdb = request.cdb, .data = buffer, .out_bytes = out - REQUEST,
        .in_room = in - RESPONSE, .response = &response,
    };

    if (out < REQUEST || in < RESPONSE || c.out_bytes > MOST ||
        c.in_room > MOST) {
        small_fail("a request of %zu and %zu bytes", out, in);
    }
    small_read(element->out_sg, element->out_num, 0, &request, REQUEST);
    small_read(element->out_sg, element->out_num, REQUEST, buffer,
               c.out_bytes);
    if (request.lun[0] != 1 || request.lun[1] || (request.lun[2] & 0x3f) ||
        request.lun[3]) {
        response.response = VIRTIO_SCSI_S_BAD_TARGET;
    } else {
        run_command(&c);
        response.resid = c.in_room - c.in_bytes;
    }
    small_write(element->in_sg, element->in_num, 0, &response, RESPONSE);
    small_write(element->in_sg, element->in_num, RESPONSE, buffer,
                c.in_bytes);
}

static void kicked(VuDev *dev, int queue)
{
    static uint64_t handled[QUEUES];
    VuVirtqElement *element;

    if (queue < REQUESTS) {
        return;
    }
    while ((element = small_pop(dev, queue))) {
        handle(element);
        small_push(dev, queue, element, 0);
        if (!handled[queue]++) {
            printf("queue %d is used\n", queue - REQUESTS);
            fflush(stdout);
        }
    }
    small_notify(dev, queue);
}

int main(int argc, char **argv)
{
    static const SmallDevice device = { .queues = QUEUES, .kicked = kicked };
    struct stat status;

    if (argc != 3) {
        small_fail("usage: small-scsi SOCKET IMAGE");
    }
    image = open(argv[2], O_RDWR);
    if (image < 0 || fstat(image, &status)) {
        small_fail("%s: %s", argv[2], strerror(errno));
    }
    num_blocks = status.st_size / BLOCK;
    small_run(&device, argv[1]);
}
