/*
 * Tests of vhost-vdpa's shadow virtqueue: features, data, room, notifiers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_net.h"
#include "linux-headers/linux/vhost.h"
#include "svq-harness.h"

static const SvqParams defaults;
static const SvqParams size_8 = { .size = 8 };

#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)
#define EVENT_IDX BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER BIT_ULL(VIRTIO_F_IN_ORDER)
#define NEEDED (BIT_ULL(VIRTIO_F_VERSION_1) | \
                BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))

/* Features */

static bool valid(uint64_t features)
{
    Error *err = NULL;
    bool ok = vhost_svq_valid_features(features, &err);

    g_assert_cmpint(ok, ==, !err);
    error_free(err);
    g_assert_cmpint(vhost_svq_valid_features(features, NULL), ==, ok);
    return ok;
}

static void test_features_valid(void)
{
    static const unsigned refused[] = {
        VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_SR_IOV, VIRTIO_F_NOTIFICATION_DATA,
        VIRTIO_F_RING_RESET, 30, 31, VIRTIO_TRANSPORT_F_END,
    };

    for (unsigned i = 0; i < 8; i++) {
        uint64_t ring = (i & 1 ? PACKED : 0) | (i & 2 ? EVENT_IDX : 0) |
                        (i & 4 ? INDIRECT : 0);

        g_assert_true(valid(NEEDED | ring));
        g_assert_true(valid(NEEDED | ring | BIT_ULL(VIRTIO_F_ANY_LAYOUT) |
                            BIT_ULL(VIRTIO_NET_F_MRG_RXBUF) |
                            BIT_ULL(VIRTIO_NET_F_RSS)));
        g_assert_false(valid(ring));
        g_assert_false(valid(ring | BIT_ULL(VIRTIO_F_VERSION_1)));
        g_assert_false(valid(ring | BIT_ULL(VIRTIO_F_ACCESS_PLATFORM)));
        for (unsigned n = 0; n < ARRAY_SIZE(refused); n++) {
            g_assert_false(valid(NEEDED | ring | BIT_ULL(refused[n])));
        }
    }
}

static void test_features_independent(void)
{
    const uint64_t net = BIT_ULL(VIRTIO_NET_F_MAC) | NEEDED;

    g_assert_cmphex(vhost_svq_guest_features(net, true), ==,
                    net | PACKED | EVENT_IDX | INDIRECT);
    g_assert_cmphex(vhost_svq_guest_features(net | EVENT_IDX, false), ==,
                    net | EVENT_IDX);
    g_assert_cmphex(vhost_svq_device_features(net, net | PACKED | EVENT_IDX),
                    ==, net | PACKED | EVENT_IDX);
    g_assert_cmphex(vhost_svq_device_features(net | PACKED | INDIRECT,
                                              net | EVENT_IDX), ==,
                    net | EVENT_IDX);
    /* What the guest did not want, the device is not told. */
    g_assert_cmphex(vhost_svq_device_features(NEEDED, net | PACKED), ==,
                    NEEDED | PACKED);
    /* Nobody is told of order; that the device has it is no harm. */
    g_assert_true(valid(net | IN_ORDER));
    g_assert_false(vhost_svq_guest_features(net | IN_ORDER, true) & IN_ORDER);
    g_assert_false(vhost_svq_guest_features(net | IN_ORDER, false) & IN_ORDER);
    g_assert_false(vhost_svq_device_features(~0, ~0) & IN_ORDER);
}

static void test_features_ring(void)
{
    VhostShadowVirtqueue *svq = vhost_svq_new(NULL, NULL);

    vhost_svq_set_device(svq, NEEDED, 300);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 256), ==, 256);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 255), ==, 128);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 1024), ==, 256);
    g_assert_cmphex(vhost_svq_ring_base(svq), ==, 0);
    vhost_svq_set_device(svq, NEEDED | PACKED, 300);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 256), ==, 256);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 255), ==, 128);
    g_assert_cmpuint(vhost_svq_ring_size(svq, 1024), ==, 256);
    /* Two indices of 0, two wrap counters of 1. */
    g_assert_cmphex(vhost_svq_ring_base(svq), ==, 0x80008000);
    vhost_svq_free(svq);
}

/* Data */

static void many_requests(SvqHarness *h)
{
    svq_round_trips(h, 400);
    g_assert_cmpuint(h->num_fetched, ==, 400);
}

/* The guest's ring can have 7, the device's has 4 then. */
static void test_data(void)
{
    static const uint16_t sizes[] = { 1, 2, 7, 8, 64, 256 };

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        const SvqParams params = { .size = sizes[i] };

        svq_run_matrix(&params, many_requests);
    }
}

/* A device that keeps order shows several at once; each is there. */
static void batches_in_order(SvqHarness *h)
{
    unsigned flushes = h->vq->num_flushes;

    for (unsigned i = 0; i < 100; i++) {
        svq_offer(h, g_test_rand_int_range(1, 16), 1, 1);
        svq_settle();
        svq_fetch_all(h);
        while (h->held->len) {
            unsigned num = g_test_rand_int_range(1, h->held->len + 1);

            for (unsigned n = 0; n < num; n++) {
                svq_use(h, 0, n);
            }
            svq_publish_used(h);
            svq_settle();
            g_assert_cmpuint(svq_collect(h), ==, num);
            g_assert_cmpuint(h->vq->num_flushes, ==, ++flushes);
        }
    }
}

static void test_data_in_order(void)
{
    svq_run_matrix(&defaults, batches_in_order);
}

static void writable_bytes(SvqHarness *h)
{
    static const uint32_t lens[] = { 0, 1, 47, 48, 49, 1000, UINT32_MAX };

    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        svq_offer(h, 1, 1, 1);
        svq_offer(h, 1, 1, 0);
        svq_settle();
        g_assert_cmpuint(svq_fetch_all(h), ==, 2);
        svq_use(h, 0, lens[i]);
        svq_use(h, 0, lens[i]);
        svq_publish_used(h);
        svq_settle();
        g_assert_cmpuint(svq_collect(h), ==, 2);
    }
}

static void test_data_clamped(void)
{
    svq_run_matrix(&defaults, writable_bytes);
}

static void buffer_outside(SvqHarness *h)
{
    MockVqRequest *r;

    svq_offer(h, 1, 1, 1);
    r = mock_vq_get(h->vq, 1, 1);
    r->outside = true;
    mock_vq_offer(h->vq, r);
    svq_settle();
    g_assert_cmpstr(h->vq->error, ==,
                    "a buffer is not in memory that the device can reach");
    g_assert_cmpint(r->state, ==, MOCK_VQ_LOST);
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
}

static void test_data_outside(void)
{
    svq_run_matrix(&defaults, buffer_outside);
}

/* Room */

static void ring_is_full(SvqHarness *h)
{
    unsigned num = h->params.size, fits = num / 4;

    svq_offer(h, num, 2, 2);
    svq_settle();
    /* Tables do not help a ring without free descriptors. */
    g_assert_cmpuint(svq_fetch_all(h), ==, fits);
    g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, 0);
    /* The one that waits is popped, the others are not, and nobody kicks. */
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, num - fits - 1);
    g_assert_false(h->vq->notify);
    event_notifier_set(&h->vq->kick);
    svq_settle();
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, num - fits - 1);
    /* Nor does the queue wake itself. */
    g_assert_cmpuint(svq_take_events(&h->vq->kick), ==, 0);

    svq_use(h, 0, 0);
    svq_publish_used(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 1);
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    while (h->held->len) {
        svq_use_all(h);
        svq_settle();
        svq_collect(h);
        svq_fetch_all(h);
    }
    g_assert_cmpuint(h->num_fetched, ==, num);
    g_assert_true(h->vq->notify);
}

static void test_room_waits(void)
{
    svq_run_matrix(&defaults, ring_is_full);
}

static void longer_than_the_room(SvqHarness *h)
{
    svq_offer(h, 1, 1, h->params.size - 4);
    svq_offer(h, 1, 3, 2);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, h->params.indirect ? 2 : 1);
    g_assert_false(g_array_index(h->held, SvqHeld, 0).indirect);
    if (h->params.indirect) {
        g_assert_true(g_array_index(h->held, SvqHeld, 1).indirect);
    }
    /* Whoever waits is not to be kicked for. */
    g_assert_cmpint(h->vq->notify, ==, h->params.indirect);
    svq_use_all(h);
    svq_settle();
    svq_fetch_all(h);
    svq_use_all(h);
    svq_settle();
    svq_collect(h);
    g_assert_cmpuint(h->num_fetched, ==, 2);
}

static void test_room_table(void)
{
    svq_run_matrix(&defaults, longer_than_the_room);
}

static const unsigned long_ones[] = { 9, 64, 65, 515, VIRTQUEUE_MAX_SIZE };

/* Windows sends chains of up to 515 descriptors whatever the ring's size. */
static void longer_than_the_ring(SvqHarness *h)
{
    unsigned num = 3 * ARRAY_SIZE(long_ones);

    for (unsigned i = 0; i < num; i++) {
        svq_offer(h, 1, 1, long_ones[i % ARRAY_SIZE(long_ones)] - 1);
    }
    svq_settle();
    if (!h->params.indirect) {
        g_assert_cmpstr(h->vq->error, ==,
                        "a request of 9 descriptors is longer than the "
                        "device's ring of 8, and the device takes no "
                        "indirect descriptors");
        g_assert_cmpuint(svq_fetch_all(h), ==, 0);
        g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, 8);
        return;
    }
    while (svq_fetch_all(h)) {
        svq_use_all(h);
        svq_settle();
        svq_collect(h);
    }
    g_assert_cmpuint(h->num_fetched, ==, num);
    g_assert_null(h->vq->error);
}

static void test_room_long(void)
{
    svq_run_matrix(&size_8, longer_than_the_ring);
}

/* Notifiers */

static void one_kick_a_batch(SvqHarness *h)
{
    for (unsigned i = 0; i < 10; i++) {
        mock_device_arm_kicks(&h->device);
        svq_offer(h, 5, 1, 1);
        svq_settle();
        g_assert_cmpuint(svq_take_events(&h->svq->hdev_kick), ==, 1);
        g_assert_cmpuint(svq_fetch_all(h), ==, 5);
        /* Its event lies behind it. */
        mock_device_suppress_kicks(&h->device);
        svq_offer(h, 5, 1, 1);
        svq_settle();
        g_assert_cmpuint(svq_take_events(&h->svq->hdev_kick), ==, 0);
        g_assert_cmpuint(svq_fetch_all(h), ==, 5);
        /* One of the batch is what it asked for, neither first nor last. */
        if (h->params.event_idx) {
            mock_device_ask_for_kick(&h->device, 4);
            svq_offer(h, 5, 1, 1);
            svq_settle();
            g_assert_cmpuint(svq_take_events(&h->svq->hdev_kick), ==, 1);
            g_assert_cmpuint(svq_fetch_all(h), ==, 5);
        }
        svq_use_all(h);
        svq_settle();
        svq_collect(h);
    }
}

static void test_kick_batch(void)
{
    svq_run_matrix(&defaults, one_kick_a_batch);
}

static void one_call_a_batch(SvqHarness *h)
{
    unsigned flushes = h->vq->num_flushes;

    svq_offer(h, 7, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    svq_use_all(h);
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 0);
    svq_settle();
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 1);
    g_assert_cmpuint(h->vq->num_flushes, ==, flushes + 1);
    g_assert_cmpuint(svq_collect(h), ==, 7);
    /* A flush of nothing, which the mock would not have. */
    event_notifier_set(&h->svq->hdev_call);
    svq_settle();
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 0);
}

static void test_call_batch(void)
{
    svq_run_matrix(&defaults, one_call_a_batch);
}

static void use_another(void *opaque)
{
    SvqHarness *h = opaque;

    svq_use(h, 0, 1);
    mock_device_publish(&h->device);
    g_assert_false(mock_device_should_call(&h->device));
}

/* The queue is looking anyway. */
static void no_call_while_draining(SvqHarness *h)
{
    for (unsigned i = 0; i < 10; i++) {
        svq_offer(h, 2, 1, 1);
        svq_settle();
        svq_fetch_all(h);
        svq_use(h, 0, 1);
        mock_device_publish(&h->device);
        g_assert_true(mock_device_should_call(&h->device));
        event_notifier_set(&h->svq->hdev_call);
        h->vq->flushed = use_another;
        h->vq->opaque = h;
        svq_settle();
        g_assert_cmpuint(svq_collect(h), ==, 2);
    }
}

static void test_call_suppressed(void)
{
    svq_run_matrix(&defaults, no_call_while_draining);
}

static void use_one(SvqHarness *h)
{
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 1);
}

static void swap_call_fd(SvqHarness *h)
{
    EventNotifier other;

    event_notifier_init(&other, 0);
    use_one(h);
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 1);
    vhost_svq_set_svq_call_fd(h->svq, event_notifier_get_fd(&other));
    use_one(h);
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 0);
    g_assert_cmpuint(svq_take_events(&other), ==, 1);
    vhost_svq_set_svq_call_fd(h->svq, VHOST_FILE_UNBIND);
    use_one(h);
    g_assert_cmpuint(svq_take_events(&other), ==, 0);
    event_notifier_cleanup(&other);
}

static void test_call_swap(void)
{
    svq_run_matrix(&defaults, swap_call_fd);
}

static void swap_kick_fd(SvqHarness *h)
{
    EventNotifier other;

    event_notifier_init(&other, 0);
    svq_settle();
    /* Kicked, but nobody looked before the fd was another. */
    svq_offer(h, 1, 1, 1);
    vhost_svq_set_svq_kick_fd(h->svq, event_notifier_get_fd(&other));
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    event_notifier_set(&h->vq->kick);
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 0);
    event_notifier_set(&other);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);

    vhost_svq_set_svq_kick_fd(h->svq, VHOST_FILE_UNBIND);
    svq_offer(h, 1, 1, 1);
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 0);
    g_assert_cmpuint(svq_collect(h), ==, 2);
    vhost_svq_set_svq_kick_fd(h->svq, event_notifier_get_fd(&other));
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    vhost_svq_set_svq_kick_fd(h->svq, VHOST_FILE_UNBIND);
    event_notifier_cleanup(&other);
}

static void test_kick_swap(void)
{
    svq_run_matrix(&defaults, swap_kick_fd);
}

/* A request that waits is not sent either while nobody listens. */
static void unbound_while_full(SvqHarness *h)
{
    svq_offer(h, 3, 4, 4);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 1);
    vhost_svq_set_svq_kick_fd(h->svq, VHOST_FILE_UNBIND);
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 1);
    g_assert_cmpuint(svq_fetch_all(h), ==, 0);
}

static void test_kick_unbound(void)
{
    svq_run_matrix(&size_8, unbound_while_full);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/vhost-svq/" claim, fn)
    ADD("features/rings-of-all-kinds-are-valid", test_features_valid);
    ADD("features/guest-and-device-are-independent",
        test_features_independent);
    ADD("features/size-is-a-power-of-two-and-base-follows-the-format",
        test_features_ring);
    ADD("data/requests-go-and-come-back-in-any-order", test_data);
    ADD("data/batches-of-a-device-that-keeps-order", test_data_in_order);
    ADD("data/used-length-is-clamped", test_data_clamped);
    ADD("data/buffer-that-is-not-mapped-breaks-the-device",
        test_data_outside);
    ADD("room/request-waits-and-kicks-are-suppressed", test_room_waits);
    ADD("room/request-longer-than-the-room-takes-a-table", test_room_table);
    ADD("room/request-longer-than-the-ring-takes-a-table-or-says-why",
        test_room_long);
    ADD("signal/a-batch-is-one-kick", test_kick_batch);
    ADD("signal/a-batch-is-one-call-and-nothing-is-none", test_call_batch);
    ADD("signal/no-call-is-wanted-while-draining", test_call_suppressed);
    ADD("signal/call-fd-is-swapped-or-unbound", test_call_swap);
    ADD("signal/kick-fd-is-swapped-while-a-kick-is-pending", test_kick_swap);
    ADD("signal/nothing-is-forwarded-while-unbound", test_kick_unbound);
#undef ADD
    return g_test_run();
}
