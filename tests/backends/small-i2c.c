/*
 * An I2C adapter with EEPROMs on its bus:
 *
 *     small-i2c SOCKET FILE
 *
 * FILE holds what the EEPROMs hold, one behind the other, at any time.  At
 * other addresses nobody answers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <linux/types.h>
#include <linux/virtio_i2c.h>
#include <sys/mman.h>
#include <unistd.h>

#include "small-content.h"
#include "small.h"

#define HEADER sizeof(struct virtio_i2c_out_hdr)
#define STATUS sizeof(struct virtio_i2c_in_hdr)
#define PLACE 2
#define FLAGS (VIRTIO_I2C_FLAGS_FAIL_NEXT | VIRTIO_I2C_FLAGS_M_RD)

typedef struct Eeprom {
    uint8_t *content;         /* I2C_BYTES of FILE */
    unsigned place;           /* of the next byte */
} Eeprom;

static Eeprom eeproms[I2C_EEPROMS];

static Eeprom *find_eeprom(const struct virtio_i2c_out_hdr *header)
{
    unsigned which = (header->addr >> 1) - I2C_EEPROM;

    return which < I2C_EEPROMS ? &eeproms[which] : NULL;
}

static bool write_eeprom(Eeprom *e, const VuVirtqElement *element)
{
    size_t size = small_bytes(element->out_sg, element->out_num) - HEADER;
    uint8_t place[PLACE];

    if (!size) {
        return true;
    }
    if (small_read(element->out_sg, element->out_num, HEADER, place, PLACE) !=
        PLACE) {
        return false;
    }
    e->place = (place[0] << 8 | place[1]) % I2C_BYTES;
    for (size_t i = PLACE; i < size; i++) {
        small_read(element->out_sg, element->out_num, HEADER + i,
                   &e->content[e->place], 1);
        e->place = (e->place + 1) % I2C_BYTES;
    }
    return true;
}

/* Nobody drives the bus: it reads as ones. */
static void read_nothing(const VuVirtqElement *element, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        small_write(element->in_sg, element->in_num, i, "\xff", 1);
    }
}

static void read_eeprom(Eeprom *e, const VuVirtqElement *element, size_t size)
{
    static unsigned reads;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = e->content[e->place];

        if (small_damage() && reads++ % 10000 == 9999) {
            byte ^= 1;
        }
        small_write(element->in_sg, element->in_num, i, &byte, 1);
        e->place = (e->place + 1) % I2C_BYTES;
    }
}

/* Whether somebody answered; not @can: a request before it failed. */
static bool transfer(const VuVirtqElement *element,
                     const struct virtio_i2c_out_hdr *header, bool can)
{
    size_t out = small_bytes(element->out_sg, element->out_num);
    size_t in = small_bytes(element->in_sg, element->in_num);
    bool reads = header->flags & VIRTIO_I2C_FLAGS_M_RD;
    Eeprom *e = can ? find_eeprom(header) : NULL;

    if (in < STATUS || (reads ? out : in) != (reads ? HEADER : STATUS) ||
        header->padding || header->addr & 1 || header->flags & ~FLAGS) {
        small_fail("a request of %zu and %zu bytes for %#x, flags %#x", out,
                   in, header->addr, header->flags);
    }
    if (!e) {
        read_nothing(element, in - STATUS);
        return false;
    }
    if (!reads) {
        return write_eeprom(e, element);
    }
    read_eeprom(e, element, in - STATUS);
    return true;
}

static void kicked(VuDev *dev, int queue)
{
    static bool fail_next;
    VuVirtqElement *element;

    while ((element = small_pop(dev, queue))) {
        size_t in = small_bytes(element->in_sg, element->in_num);
        struct virtio_i2c_out_hdr header;
        struct virtio_i2c_in_hdr answer;
        bool is_done;

        if (small_read(element->out_sg, element->out_num, 0, &header,
                       HEADER) != HEADER) {
            small_fail("no request of an I2C driver");
        }
        is_done = transfer(element, &header, !fail_next);
        fail_next = !is_done && header.flags & VIRTIO_I2C_FLAGS_FAIL_NEXT;
        answer.status = is_done ? VIRTIO_I2C_MSG_OK : VIRTIO_I2C_MSG_ERR;
        small_write(element->in_sg, element->in_num, in - STATUS, &answer,
                    STATUS);
        small_push(dev, queue, element, in);
    }
    small_notify(dev, queue);
}

static void make_eeproms(const char *path)
{
    size_t size = I2C_EEPROMS * I2C_BYTES;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint8_t *content;

    if (fd < 0 || ftruncate(fd, size)) {
        small_fail("cannot write %s", path);
    }
    content = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (content == MAP_FAILED) {
        small_fail("cannot map %s", path);
    }
    close(fd);
    for (unsigned i = 0; i < I2C_EEPROMS; i++) {
        eeproms[i].content = content + i * I2C_BYTES;
        i2c_content(eeproms[i].content, i);
    }
}

int main(int argc, char **argv)
{
    static const SmallDevice device = {
        .queues = 1,
        .features = 1ULL << VIRTIO_I2C_F_ZERO_LENGTH_REQUEST,
        .kicked = kicked,
    };

    if (argc != 3) {
        small_fail("usage: small-i2c SOCKET FILE");
    }
    make_eeproms(argv[2]);
    small_run(&device, argv[1]);
}
