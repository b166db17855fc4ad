/*
 * Rings where none can be, and requests of another shape than usual.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "conformance.h"

#define WRITE VRING_DESC_F_WRITE

/* Rings */

typedef enum Part { DESC, AVAIL, USED, EVERY } Part;

static uint64_t part_of(uint64_t arg)
{
    return arg >> 8;
}

/* All is as usual but that a part of the ring is elsewhere. */
static void start_with(Rig *r, Part part, uint64_t at)
{
    static const size_t registers[] = {
        COMMON(queue_desc_lo), COMMON(queue_avail_lo), COMMON(queue_used_lo),
    };

    rig_init(r);
    rig_set_status(r, 0);
    rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    rig_set_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    rig_accept(r, rig_wanted(r));
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned n = 0; n < r->kind->num_queues; n++) {
        rig_set_up_queue(r, n);
        if (n == r->current) {
            for (unsigned i = 0; i < EVERY; i++) {
                if (part == i || part == EVERY) {
                    guest_common_writeq(&r->pci, registers[i], at);
                }
            }
        }
        rig_enable(r, n, 1);
    }
    rig_set_status(r, rig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
}

static const char *ring_is_at(Rig *r, const Case *c)
{
    start_with(r, part_of(c->arg), rig_where(r, c->arg & 0xff));
    rig_offer(r);
    return NULL;
}

static const char *ring_is_there_and_reset(Rig *r, const Case *c)
{
    start_with(r, part_of(c->arg), rig_where(r, c->arg & 0xff));
    rig_set_status(r, 0);
    return IDLE;
}

static uint64_t address_of(Rig *r, Part part)
{
    GuestQueue *q = rig_queue(r);

    return part == DESC ? q->desc : part == AVAIL ? q->avail : q->used;
}

static const char *ring_is_off_by(Rig *r, const Case *c)
{
    rig_init(r);
    start_with(r, part_of(c->arg),
               address_of(r, part_of(c->arg)) + (c->arg & 0xff));
    rig_offer(r);
    return NULL;
}

static const char *rings_share_memory(Rig *r, const Case *c)
{
    rig_init(r);
    start_with(r, part_of(c->arg), rig_queue(r)->desc);
    rig_offer(r);
    return NULL;
}

#define AT(_name, _run, _part, _where) \
    { .name = _name, .run = _run, .arg = _part << 8 | _where }

static const Case rings[] = {
    AT("descriptors nowhere", ring_is_at, DESC, WHERE_NOWHERE),
    AT("driver's part nowhere", ring_is_at, AVAIL, WHERE_NOWHERE),
    AT("device's part nowhere", ring_is_at, USED, WHERE_NOWHERE),
    AT("whole ring nowhere", ring_is_at, EVERY, WHERE_NOWHERE),
    AT("whole ring nowhere, reset", ring_is_there_and_reset,
       EVERY, WHERE_NOWHERE),
    AT("descriptors beyond the end of RAM", ring_is_at, DESC, WHERE_END),
    AT("driver's part beyond the end of RAM", ring_is_at, AVAIL, WHERE_END),
    AT("device's part beyond the end of RAM", ring_is_at, USED, WHERE_END),
    AT("whole ring beyond the end of RAM", ring_is_at, EVERY, WHERE_END),
    AT("whole ring beyond the end of RAM, reset", ring_is_there_and_reset,
       EVERY, WHERE_END),
    AT("descriptors at the end of everything", ring_is_at, DESC, WHERE_MAX),
    AT("driver's part at the end of everything", ring_is_at, AVAIL, WHERE_MAX),
    AT("device's part at the end of everything", ring_is_at, USED, WHERE_MAX),
    AT("whole ring at the end of everything", ring_is_at, EVERY, WHERE_MAX),
    AT("whole ring at the end of everything, reset", ring_is_there_and_reset,
       EVERY, WHERE_MAX),
    AT("descriptors in the device's registers", ring_is_at, DESC, WHERE_DEVICE),
    AT("driver's part in the device's registers", ring_is_at,
       AVAIL, WHERE_DEVICE),
    AT("device's part in the device's registers", ring_is_at,
       USED, WHERE_DEVICE),
    AT("whole ring in the device's registers", ring_is_at, EVERY, WHERE_DEVICE),
    AT("whole ring in the device's registers, reset", ring_is_there_and_reset,
       EVERY, WHERE_DEVICE),
    AT("descriptors in ROM", ring_is_at, DESC, WHERE_ROM),
    AT("driver's part in ROM", ring_is_at, AVAIL, WHERE_ROM),
    AT("device's part in ROM", ring_is_at, USED, WHERE_ROM),
    AT("whole ring in ROM", ring_is_at, EVERY, WHERE_ROM),
    AT("whole ring in ROM, reset", ring_is_there_and_reset, EVERY, WHERE_ROM),
    AT("descriptors in the screen", ring_is_at, DESC, WHERE_HOLE),
    AT("driver's part in the screen", ring_is_at, AVAIL, WHERE_HOLE),
    AT("device's part in the screen", ring_is_at, USED, WHERE_HOLE),
    AT("whole ring in the screen", ring_is_at, EVERY, WHERE_HOLE),
    AT("whole ring in the screen, reset", ring_is_there_and_reset,
       EVERY, WHERE_HOLE),
    AT("descriptors beyond the processor", ring_is_at, DESC, WHERE_HIGH),
    AT("driver's part beyond the processor", ring_is_at, AVAIL, WHERE_HIGH),
    AT("device's part beyond the processor", ring_is_at, USED, WHERE_HIGH),
    AT("whole ring beyond the processor", ring_is_at, EVERY, WHERE_HIGH),
    AT("whole ring beyond the processor, reset", ring_is_there_and_reset,
       EVERY, WHERE_HIGH),
    { "descriptors off by one", ring_is_off_by, .arg = DESC << 8 | 1 },
    { "descriptors off by eight", ring_is_off_by, .arg = DESC << 8 | 8 },
    { "driver's part off by one", ring_is_off_by, .arg = AVAIL << 8 | 1 },
    { "device's part off by one", ring_is_off_by, .arg = USED << 8 | 1 },
    { "device's part off by two", ring_is_off_by, .arg = USED << 8 | 2 },
    { "driver's part in the descriptors", rings_share_memory,
      .arg = AVAIL << 8 },
    { "device's part in the descriptors", rings_share_memory,
      .arg = USED << 8 },
};

const CaseTable conformance_rings = { "rings", rings, G_N_ELEMENTS(rings) };

/* Requests: rings keep to the rules, what is in them is the backend's matter */

static unsigned keep_some(GuestDesc *descs, unsigned num, uint16_t flags)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < num; i++) {
        if ((descs[i].flags & WRITE) == flags) {
            descs[kept++] = descs[i];
        }
    }
    return kept;
}

/* As many as the ring takes, each of @step bytes, of the same memory. */
static unsigned in_pieces(GuestDesc *descs, unsigned num, uint32_t step)
{
    GuestDesc all[RIG_QUEUE_SIZE];
    unsigned done = 0;

    memcpy(all, descs, num * sizeof(*descs));
    for (unsigned i = 0; i < num; i++) {
        uint32_t pieces = MIN(4, all[i].len / step);
        uint32_t left = all[i].len;

        for (uint32_t n = 0; n < pieces || left; n++) {
            uint32_t len = n + 1 < pieces ? step : left;

            descs[done++] = (GuestDesc) {
                all[i].addr + all[i].len - left, len, all[i].flags };
            left -= len;
        }
    }
    return done;
}

static void put_to_front(GuestDesc *descs, unsigned num, GuestDesc first)
{
    memmove(descs + 1, descs, num * sizeof(*descs));
    descs[0] = first;
}

typedef enum Shape {
    PROPER, PIECES, BYTES, READABLE, WRITABLE, WITHOUT_FIRST, WITHOUT_LAST,
    FIRST_SHORT, FIRST_LONG, FIRST_ZEROS, FIRST_ONES, LAST_SHORT, LAST_LONG,
    READABLE_MORE, WRITABLE_MORE, ALL_THE_SAME, ONE_BYTE, MUCH,
} Shape;

static unsigned drop(Rig *r, Shape shape, GuestDesc *descs, unsigned num)
{
    switch (shape) {
    case READABLE:
        return keep_some(descs, num, 0);
    case WRITABLE:
        num = keep_some(descs, num, WRITE);
        descs[num] = (GuestDesc) { rig_data(r, 0x3000), 16, WRITE };
        return MAX(num, 1);
    case WITHOUT_FIRST:
        memmove(descs, descs + 1, (num - 1) * sizeof(*descs));
        return num - 1;
    case WITHOUT_LAST:
        return num - 1;
    default:
        descs[0].len = 1;
        return 1;
    }
}

static void deform(Rig *r, Shape shape, GuestDesc *descs, unsigned num)
{
    switch (shape) {
    case FIRST_SHORT:
        descs[0].len /= 2;
        break;
    case FIRST_LONG:
        descs[0].len *= 16;
        break;
    case FIRST_ZEROS:
        qtest_memset(r->qts, descs[0].addr, 0, descs[0].len);
        break;
    case FIRST_ONES:
        qtest_memset(r->qts, descs[0].addr, 0xff, descs[0].len);
        break;
    case LAST_SHORT:
        descs[num - 1].len = DIV_ROUND_UP(descs[num - 1].len, 2);
        break;
    case LAST_LONG:
        descs[num - 1].len = 128 * 1024;
        break;
    case ALL_THE_SAME:
        for (unsigned i = 0; i < num; i++) {
            descs[i].addr = rig_data(r, 0);
        }
        break;
    default:
        break;
    }
}

static unsigned enlarge(Rig *r, Shape shape, GuestDesc *descs, unsigned num)
{
    switch (shape) {
    case PIECES:
        return in_pieces(descs, num, 8);
    case BYTES:
        return in_pieces(descs, num, 1);
    case READABLE_MORE:
        put_to_front(descs, num, (GuestDesc) { rig_data(r, 0x3000), 16, 0 });
        return num + 1;
    case WRITABLE_MORE:
        descs[num] = (GuestDesc) { rig_data(r, 0x3000), 16, WRITE };
        return num + 1;
    default:
        descs[num] = (GuestDesc) { rig_data(r, 0x4000), 4 * 1024 * 1024,
                                   WRITE };
        return num + 1;
    }
}

void rig_offer_one_byte(Rig *r)
{
    GuestDesc descs[RIG_QUEUE_SIZE];

    r->kind->request(r, descs);
    descs[0].len = 1;
    queue_offer(rig_queue(r), descs, 1);
}

static const char *request_of_shape(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE + 1];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    switch (c->arg) {
    case READABLE: case WRITABLE: case WITHOUT_FIRST: case WITHOUT_LAST:
    case ONE_BYTE:
        num = drop(r, c->arg, descs, num);
        break;
    case PIECES: case BYTES: case READABLE_MORE: case WRITABLE_MORE:
    case MUCH:
        num = enlarge(r, c->arg, descs, num);
        break;
    default:
        deform(r, c->arg, descs, num);
        break;
    }
    queue_offer(rig_queue(r), descs, num);
    return NULL;
}

#define SHAPE(_name, _shape) { _name, request_of_shape, .arg = _shape }

static const Case requests[] = {
    SHAPE("proper", PROPER),
    SHAPE("in pieces", PIECES),
    SHAPE("in single bytes", BYTES),
    SHAPE("nothing to write", READABLE),
    SHAPE("nothing to read", WRITABLE),
    SHAPE("without the first buffer", WITHOUT_FIRST),
    SHAPE("without the last buffer", WITHOUT_LAST),
    SHAPE("header too short", FIRST_SHORT),
    SHAPE("header too long", FIRST_LONG),
    SHAPE("header of zeros", FIRST_ZEROS),
    SHAPE("header of ones", FIRST_ONES),
    SHAPE("last buffer too short", LAST_SHORT),
    SHAPE("last buffer too long", LAST_LONG),
    SHAPE("a buffer before the header", READABLE_MORE),
    SHAPE("a buffer behind the last", WRITABLE_MORE),
    SHAPE("all buffers the same", ALL_THE_SAME),
    SHAPE("one byte", ONE_BYTE),
    SHAPE("four megabytes more", MUCH),
};

const CaseTable conformance_requests = { "requests", requests,
                                         G_N_ELEMENTS(requests) };
