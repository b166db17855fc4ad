/*
 * A guest for measurements: the driver of one virtqueue of this process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/event_notifier.h"
#include "qemu/units.h"
#include "exec/memory.h"
#include "hw/virtio/virtio.h"
#include "standard-headers/linux/virtio_config.h"
#include "bench.h"

/* Somewhere in the guest's memory, away from what firmware uses. */
#define GUEST_ADDR (64 * MiB)
#define GUEST_BYTES (4 * MiB)
/* Its requests: a page of small things and a page of data each. */
#define REQUESTS_OFFSET (1 * MiB)
#define PAGE 4096
#define STATUS_OFFSET 64

static uint8_t *find_ram(VirtIODevice *vdev)
{
    hwaddr len = GUEST_BYTES;
    void *ram = address_space_map(vdev->dma_as, GUEST_ADDR, &len, true,
                                  MEMTXATTRS_UNSPECIFIED);

    g_assert_true(ram && len == GUEST_BYTES);
    return ram;
}

static void set_up_requests(BenchGuest *g)
{
    for (unsigned i = 0; i < BENCH_BATCH_MAX; i++) {
        uint64_t addr = g->ram_addr + REQUESTS_OFFSET + i * 2 * PAGE;
        ShadowRingBuf *bufs = &g->bufs[i * BENCH_NUM_BUFS];

        bufs[0] = (ShadowRingBuf) { addr, BENCH_HEADER_BYTES };
        bufs[1] = (ShadowRingBuf) { addr + PAGE, BENCH_DATA_BYTES };
        bufs[2] = (ShadowRingBuf) { addr + STATUS_OFFSET, BENCH_STATUS_BYTES };
    }
}

/* As if a driver had set the device up. */
static void set_up_device(BenchGuest *g, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);
    VirtIODevice *vdev = g->vdev;

    vdev->guest_features = BIT_ULL(VIRTIO_F_VERSION_1) |
                           BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |
                           BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC);
    if (config->format == SHADOW_RING_PACKED) {
        vdev->guest_features |= BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    /* A queue's end can leave requests in QEMU's account of it. */
    virtio_queue_reset(vdev, 0);
    virtio_queue_set_num(vdev, 0, config->size);
    virtio_queue_set_last_avail_idx(vdev, 0,
        config->format == SHADOW_RING_PACKED ? 0x80008000 : 0);
    virtio_queue_set_rings(vdev, 0, g->ram_addr + layout.desc,
                           g->ram_addr + layout.driver,
                           g->ram_addr + layout.device);
    virtio_queue_update_used_idx(vdev, 0);
    vdev->status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                   VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
    vdev->started = true;
}

BenchGuest *bench_guest_new(VirtIODevice *vdev, ShadowRingFormat format)
{
    BenchGuest *g = g_new0(BenchGuest, 1);
    ShadowRingConfig config = {
        .format = format,
        .size = BENCH_RING_SIZE,
        .event_idx = true,
        .indirect = true,
    };

    g->vdev = vdev;
    g->vq = virtio_get_queue(vdev, 0);
    g->ram = find_ram(vdev);
    g->ram_addr = GUEST_ADDR;
    memset(g->ram, 0, GUEST_BYTES);
    config.mem = g->ram;
    g->ring = shadow_ring_new(&config);
    set_up_requests(g);
    event_notifier_init(virtio_queue_get_host_notifier(g->vq), 0);
    event_notifier_init(virtio_queue_get_guest_notifier(g->vq), 0);
    set_up_device(g, &config);
    shadow_ring_arm_calls(g->ring);
    return g;
}

void bench_guest_free(BenchGuest *g)
{
    event_notifier_cleanup(virtio_queue_get_host_notifier(g->vq));
    event_notifier_cleanup(virtio_queue_get_guest_notifier(g->vq));
    shadow_ring_free(g->ring);
    address_space_unmap(g->vdev->dma_as, g->ram, GUEST_BYTES, true,
                        GUEST_BYTES);
    g_free(g);
}

void bench_guest_offer(BenchGuest *g, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        ShadowRingChain chain = {
            .bufs = &g->bufs[i * BENCH_NUM_BUFS],
            .num_out = BENCH_NUM_OUT,
            .num_in = BENCH_NUM_IN,
        };

        shadow_ring_add(g->ring, &chain, g);
    }
    shadow_ring_publish(g->ring);
    g_assert_true(shadow_ring_should_kick(g->ring));
    event_notifier_set(virtio_queue_get_host_notifier(g->vq));
}

void bench_guest_collect(BenchGuest *g, unsigned num)
{
    uint32_t len;
    void *token;

    for (unsigned i = 0; i < num; i++) {
        g_assert_cmpint(shadow_ring_take(g->ring, &token, &len), ==,
                        SHADOW_RING_OK);
        g_assert_cmpuint(len, ==, BENCH_DATA_BYTES + BENCH_STATUS_BYTES);
    }
    g_assert_false(shadow_ring_arm_calls(g->ring));
    g_assert_true(event_notifier_test_and_clear(
                      virtio_queue_get_guest_notifier(g->vq)));
}
