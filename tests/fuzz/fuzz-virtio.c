/*
 * Fuzzing the data path: one virtqueue of QEMU.
 *
 * What a queue consists of is private to virtio.c, so that is compiled here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "hw/virtio/virtio.c"
#include "fuzz.h"

static AddressSpace address_space;
static VirtQueue queue;
static VirtIODevice device = {
    .name = "fuzz",
    .device_endian = VIRTIO_DEVICE_ENDIAN_LITTLE,
    .vm_running = true,
    .vq = &queue,
    .dma_as = &address_space,
};

VirtIODevice *fuzz_device(void)
{
    return &device;
}

VirtQueue *fuzz_virtqueue(void)
{
    return &queue;
}

static void set_up_notifier(EventNotifier *notifier)
{
    g_assert_cmpint(event_notifier_init(notifier, 0), ==, 0);
}

void fuzz_virtqueue_clean_up(void)
{
    virtio_virtqueue_reset_region_cache(&queue);
    g_clear_pointer(&queue.used_elems, g_free);
    event_notifier_cleanup(&queue.host_notifier);
    event_notifier_cleanup(&queue.guest_notifier);
}

void fuzz_virtqueue_start(const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);

    queue = (VirtQueue) {
        .vdev = &device,
        .vector = 1,
        .notification = true,
        .vring.num = config->size,
        .vring.num_default = config->size,
        .vring.desc = FUZZ_RAM_ADDR + layout.desc,
        .vring.avail = FUZZ_RAM_ADDR + layout.driver,
        .vring.used = FUZZ_RAM_ADDR + layout.device,
        .last_avail_wrap_counter = true,
        .shadow_avail_wrap_counter = true,
        .used_wrap_counter = true,
        .used_elems = g_new0(VirtQueueElement, config->size),
    };
    device.broken = false;
    device.guest_features = BIT_ULL(VIRTIO_F_VERSION_1) |
        (uint64_t)config->event_idx << VIRTIO_RING_F_EVENT_IDX |
        (uint64_t)config->indirect << VIRTIO_RING_F_INDIRECT_DESC |
        (uint64_t)(config->format == SHADOW_RING_PACKED)
            << VIRTIO_F_RING_PACKED;
    device.status = VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK;
    device.started = true;
    set_up_notifier(&queue.host_notifier);
    set_up_notifier(&queue.guest_notifier);
    virtio_init_region_cache(&device, 0);
    g_assert_nonnull(queue.vring.caches);
}

bool fuzz_virtqueue_called(void)
{
    return event_notifier_test_and_clear(&queue.guest_notifier);
}
