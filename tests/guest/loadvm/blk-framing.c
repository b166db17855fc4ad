/*
 * Requests of virtio-blk (virtio 1.2, 5.2).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "disk.h"

#define F_READ_ONLY FEATURE(5)
#define F_BLOCK_SIZE FEATURE(6)
#define F_FLUSH FEATURE(9)
#define F_MANY_QUEUES FEATURE(12)

#define CONFIG_CAPACITY 0
#define CONFIG_BLOCK_SIZE 20

typedef struct BlkHeader {
    uint32_t type;
    uint32_t reserved;
    uint64_t block;
} BlkHeader;

static void blk_open(Disk *disk)
{
    VirtioDevice *dev = disk->dev;
    volatile uint32_t *capacity =
        (volatile uint32_t *)(dev->config + CONFIG_CAPACITY);

    virtio_begin(dev, blk_framing.features);
    disk->num_blocks = capacity[0] | (uint64_t)capacity[1] << 32;
    disk->unit = 1;
    if (dev->features & F_BLOCK_SIZE) {
        disk->unit = *(volatile uint32_t *)(dev->config + CONFIG_BLOCK_SIZE)
            / BLOCK;
    }
    disk->can_flush = dev->features & F_FLUSH;
    disk->read_only = dev->features & F_READ_ONLY;
    virtio_end(dev);
}

static void blk_header(const Disk *disk, void *header, uint32_t op,
                       uint64_t block, uint32_t num_blocks)
{
    static const uint8_t types[] = {
        [OP_READ] = 0, [OP_WRITE] = 1, [OP_FLUSH] = 4,
    };

    (void)disk;
    (void)num_blocks;
    *(BlkHeader *)header = (BlkHeader) { .type = types[op], .block = block };
}

static bool blk_ok(const void *status)
{
    return *(const uint8_t *)status == 0;
}

const Framing blk_framing = {
    .features = F_READ_ONLY | F_BLOCK_SIZE | F_FLUSH | F_MANY_QUEUES,
    .first_queue = 0,
    .header_size = sizeof(BlkHeader),
    .status_size = 1,
    .open = blk_open,
    .header = blk_header,
    .ok = blk_ok,
};
