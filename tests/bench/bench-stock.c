/*
 * The other contender: QEMU's shadow virtqueue as QEMU has it.
 *
 * STOCK_SOURCE is its file, of the commit that our hooks start from.  It is
 * compiled into this one, since what the event loop calls is private to it;
 * that spares it calls, which is in its favour.
 *
 * The file knows one kind of device ring, split; and where guest memory lies
 * for the device it looks up in a tree, for each buffer.  The tree here is as
 * that of a small PC: low memory, firmware, the rest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include STOCK_SOURCE
#include "qemu/units.h"
#include "bench.h"

typedef struct Stock {
    VhostShadowVirtqueue *svq;
    VhostIOVATree *tree;
    BenchDevice device;
    VirtQueueElement elem[BENCH_BATCH_MAX];
    struct iovec iov[BENCH_NUM_BUFS];
    hwaddr addr[BENCH_NUM_BUFS];
} Stock;

static void tree_add(VhostIOVATree *tree, hwaddr addr, hwaddr bytes)
{
    DMAMap map = {
        /* It only matters that they differ. */
        .translated_addr = addr + (1ULL << 40),
        .size = bytes - 1,
        .perm = IOMMU_RW,
    };

    g_assert_cmpint(vhost_iova_tree_map_alloc_gpa(tree, &map, addr), ==,
                    IOVA_OK);
}

static void *stock_start(BenchGuest *guest, ShadowRingFormat format)
{
    Stock *s = g_new0(Stock, 1);
    VhostShadowVirtqueue *svq = vhost_svq_new(NULL, NULL);

    s->svq = svq;
    s->tree = vhost_iova_tree_new(0x1000, UINT32_MAX);
    tree_add(s->tree, 0, 640 * KiB);
    tree_add(s->tree, 768 * KiB, 256 * KiB);
    tree_add(s->tree, 1 * MiB, 255 * MiB);
    g_assert_cmpint(event_notifier_init(&svq->hdev_kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&svq->hdev_call, 0), ==, 0);
    vhost_svq_start(svq, guest->vdev, guest->vq, s->tree);
    vhost_svq_set_svq_kick_fd(svq, event_notifier_get_fd(
        virtio_queue_get_host_notifier(guest->vq)));
    vhost_svq_set_svq_call_fd(svq, event_notifier_get_fd(
        virtio_queue_get_guest_notifier(guest->vq)));
    event_notifier_test_and_clear(&svq->svq_kick);
    s->device = (BenchDevice) {
        .format = SHADOW_RING_SPLIT,
        .size = svq->vring.num,
        .desc = svq->vring.desc,
        .driver = svq->vring.avail,
        .device = svq->vring.used,
    };
    for (unsigned i = 0; i < BENCH_NUM_BUFS; i++) {
        s->addr[i] = 64 * MiB + i * BENCH_DATA_BYTES;
        s->iov[i].iov_base = guest->ram + i * BENCH_DATA_BYTES;
        s->iov[i].iov_len = BENCH_DATA_BYTES;
    }
    return s;
}

static void stock_stop(void *opaque)
{
    Stock *s = opaque;
    EventNotifier kick = s->svq->hdev_kick;
    EventNotifier call = s->svq->hdev_call;

    vhost_svq_free(s->svq);
    event_notifier_cleanup(&kick);
    event_notifier_cleanup(&call);
    vhost_iova_tree_delete(s->tree);
    g_free(s);
}

static BenchDevice *stock_device(void *opaque)
{
    Stock *s = opaque;

    event_notifier_set(&s->svq->hdev_call);
    return &s->device;
}

/* The ring alone. */

static void ring_forward(void *opaque, unsigned num)
{
    Stock *s = opaque;

    for (unsigned i = 0; i < num; i++) {
        vhost_svq_add(s->svq, s->iov, BENCH_NUM_OUT, s->addr,
                      s->iov + BENCH_NUM_OUT, BENCH_NUM_IN,
                      s->addr + BENCH_NUM_OUT, &s->elem[i]);
    }
}

static void ring_back(void *opaque, unsigned num)
{
    Stock *s = opaque;
    uint32_t len;

    vhost_svq_disable_notification(s->svq);
    while (vhost_svq_get_buf(s->svq, &len)) {
        num--;
    }
    vhost_svq_enable_notification(s->svq);
    g_assert_cmpuint(num, ==, 0);
}

/* The path. */

static void path_forward(void *opaque, unsigned num)
{
    Stock *s = opaque;

    vhost_handle_guest_kick_notifier(&s->svq->svq_kick);
}

static void path_back(void *opaque, unsigned num)
{
    Stock *s = opaque;

    vhost_svq_handle_call(&s->svq->hdev_call);
}

const BenchContender bench_stock_ring_contender = {
    .name = "stock",
    .part = "ring",
    .start = stock_start,
    .stop = stock_stop,
    .forward = ring_forward,
    .back = ring_back,
    .device = stock_device,
};

const BenchContender bench_stock_path_contender = {
    .name = "stock",
    .part = "path",
    .start = stock_start,
    .stop = stock_stop,
    .forward = path_forward,
    .back = path_back,
    .device = stock_device,
};
