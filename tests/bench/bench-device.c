/*
 * A device that uses each request at once: the party behind a shadow ring.
 *
 * Honest, quick and not measured.  It asks for a kick at the next request and
 * calls nobody.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "standard-headers/linux/virtio_ring.h"
#include "bench.h"

#define LAP_BITS (1 << VRING_PACKED_DESC_F_AVAIL | \
                  1 << VRING_PACKED_DESC_F_USED)
#define WRITTEN (BENCH_DATA_BYTES + BENCH_STATUS_BYTES)

void bench_device_init(BenchDevice *d, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);
    uint8_t *mem = config->mem;

    *d = (BenchDevice) {
        .format = config->format,
        .size = config->size,
        .desc = mem + layout.desc,
        .driver = mem + layout.driver,
        .device = mem + layout.device,
        .avail_wrap = true,
        .used_wrap = true,
    };
}

static unsigned run_split(BenchDevice *d)
{
    struct vring_avail *avail = d->driver;
    struct vring_used *used = d->device;
    uint16_t *avail_event = (uint16_t *)&used->ring[d->size];
    uint16_t idx = qatomic_load_acquire(&avail->idx);
    unsigned num = 0;

    for (; d->next_avail != idx; d->next_avail++, num++) {
        vring_used_elem_t *elem = &used->ring[d->next_used++ % d->size];

        elem->id = avail->ring[d->next_avail % d->size];
        elem->len = WRITTEN;
    }
    *avail_event = d->next_avail;
    qatomic_store_release(&used->idx, d->next_used);
    return num;
}

/* Do @flags say that it is ours to take, or the driver's again, in @wrap? */
static bool is_available(uint16_t flags, bool wrap)
{
    uint16_t lap = wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
                        : 1 << VRING_PACKED_DESC_F_USED;

    return (flags & LAP_BITS) == lap;
}

static void step(uint16_t *idx, bool *wrap, uint16_t num, uint16_t size)
{
    *idx += num;
    if (*idx >= size) {
        *idx -= size;
        *wrap = !*wrap;
    }
}

static unsigned run_packed(BenchDevice *d)
{
    struct vring_packed_desc *ring = d->desc;
    struct vring_packed_desc_event *event = d->device;
    unsigned num = 0;

    while (is_available(qatomic_load_acquire(&ring[d->next_avail].flags),
                        d->avail_wrap)) {
        struct vring_packed_desc *used = &ring[d->next_used];
        uint16_t descs = 0;
        uint16_t flags, id;

        do {
            flags = ring[d->next_avail].flags;
            id = ring[d->next_avail].id;
            step(&d->next_avail, &d->avail_wrap, 1, d->size);
            descs++;
        } while (flags & VRING_DESC_F_NEXT);
        used->id = id;
        used->len = WRITTEN;
        qatomic_store_release(&used->flags, d->used_wrap ? LAP_BITS : 0);
        step(&d->next_used, &d->used_wrap, descs, d->size);
        num++;
    }
    event->off_wrap = d->next_avail | d->avail_wrap << 15;
    event->flags = VRING_PACKED_EVENT_FLAG_DESC;
    return num;
}

unsigned bench_device_run(BenchDevice *d)
{
    return d->format == SHADOW_RING_PACKED ? run_packed(d) : run_split(d);
}
