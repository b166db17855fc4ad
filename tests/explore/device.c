/*
 * An honest device: what does not depend on the ring's format.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "device.h"

void ring_device_init(RingDevice *d, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);
    uint8_t *mem = config->mem;

    *d = (RingDevice) {
        .ops = config->format == SHADOW_RING_PACKED ?
               &ring_device_packed_ops : &ring_device_split_ops,
        .config = *config,
        .desc = mem + layout.desc,
        .driver = mem + layout.driver,
        .device = mem + layout.device,
        .avail_wrap = true,
        .used_wrap = true,
        .asked_wrap = true,
    };
}

/* Virtio 1.2, 2.7.5.3.1 and 2.8.20. */
const uint8_t *ring_device_table(const RingDevice *d, uint64_t addr,
                                 uint32_t len)
{
    uint64_t offset = addr - d->tables_addr;

    if (!d->config.indirect) {
        ring_device_fault("a table that was not negotiated");
    }
    if (!len || len % SHADOW_RING_DESC_BYTES) {
        ring_device_fault("a table with a part of a descriptor");
    }
    if (offset > d->tables_bytes || len > d->tables_bytes - offset) {
        ring_device_fault("a table where none is");
    }
    return d->tables + offset;
}

void ring_device_add_buf(RingDeviceRequest *request, uint64_t addr,
                         uint32_t len, bool in)
{
    unsigned num = request->num_out + request->num_in;

    if (num == RING_DEVICE_BUFS) {
        ring_device_fault("a chain longer than any");
    }
    if (!in && request->num_in) {
        ring_device_fault("a readable buffer behind a writable one");
    }
    request->bufs[num] = (ShadowRingBuf) { .addr = addr, .len = len };
    request->num_out += !in;
    request->num_in += in;
}
