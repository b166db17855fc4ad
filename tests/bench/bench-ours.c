/*
 * Our contenders: a shadow ring alone, and an isolated queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "bench.h"

#define REGION_RINGS_BYTES (64 * KiB)
#define REGION_SHARE_BYTES (4 * MiB)

/**
 * Ours - a ring, and what it takes to run it
 * @link: connection without a socket; alone, the ring uses it too
 * @q: NULL for a ring alone
 * @on_kick: what the event loop calls when the guest kicks
 * @on_call: what the event loop calls when the device calls
 */
typedef struct Ours {
    IsolatedLink link;
    BenchDevice device;
    IsolatedQueue *q;
    QEMUBH *faulted;
    EventNotifierHandler *on_kick;
    EventNotifierHandler *on_call;
    ShadowRingBuf bufs[BENCH_NUM_BUFS];
} Ours;

/* The one whose handlers are being set. */
static Ours *attaching;

/*
 * The linker sends calls of aio_set_event_notifier() here.  Handlers are kept
 * for the bench, which is the event loop of the queue that it measures.
 */
void __wrap_aio_set_event_notifier(AioContext *ctx, EventNotifier *notifier,
                                   EventNotifierHandler *io_read,
                                   AioPollFn *io_poll,
                                   EventNotifierHandler *io_poll_ready);
void __real_aio_set_event_notifier(AioContext *ctx, EventNotifier *notifier,
                                   EventNotifierHandler *io_read,
                                   AioPollFn *io_poll,
                                   EventNotifierHandler *io_poll_ready);

void __wrap_aio_set_event_notifier(AioContext *ctx, EventNotifier *notifier,
                                   EventNotifierHandler *io_read,
                                   AioPollFn *io_poll,
                                   EventNotifierHandler *io_poll_ready)
{
    if (!attaching) {
        __real_aio_set_event_notifier(ctx, notifier, io_read, io_poll,
                                      io_poll_ready);
    } else if (notifier == &attaching->q->guest_kick) {
        attaching->on_kick = io_read;
    } else if (notifier == &attaching->q->backend_call) {
        attaching->on_call = io_read;
    }
}

static void link_init(Ours *o, ShadowRingFormat format)
{
    BounceRegion *region = bounce_region_new(REGION_RINGS_BYTES +
                                             REGION_SHARE_BYTES, &error_abort);
    ShadowRingConfig config = {
        .format = format,
        .size = BENCH_RING_SIZE,
        .event_idx = true,
        .mem = region->host,
    };

    o->link.region = region;
    o->link.ring = shadow_ring_new(&config);
    o->link.pool = bounce_pool_new(REGION_RINGS_BYTES, REGION_SHARE_BYTES,
                                   BENCH_RING_SIZE);
    g_assert_cmpint(event_notifier_init(&o->link.kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&o->link.call, 0), ==, 0);
    bench_device_init(&o->device, &config);
}

static void link_clean_up(Ours *o)
{
    event_notifier_cleanup(&o->link.kick);
    event_notifier_cleanup(&o->link.call);
    shadow_ring_free(o->link.ring);
    bounce_pool_free(o->link.pool);
    bounce_region_free(o->link.region);
}

static BenchDevice *ours_device(void *opaque)
{
    Ours *o = opaque;

    /* The call, though nobody waits for it. */
    event_notifier_set(&o->link.call);
    return &o->device;
}

/* The ring alone. */

static void *ring_start(BenchGuest *guest, ShadowRingFormat format)
{
    Ours *o = g_new0(Ours, 1);

    link_init(o, format);
    for (unsigned i = 0; i < BENCH_NUM_BUFS; i++) {
        o->bufs[i] = (ShadowRingBuf) {
            .addr = o->link.region->guest_base + i * BENCH_DATA_BYTES,
            .len = BENCH_DATA_BYTES,
        };
    }
    return o;
}

static void ring_stop(void *opaque)
{
    Ours *o = opaque;

    link_clean_up(o);
    g_free(o);
}

static void ring_forward(void *opaque, unsigned num)
{
    Ours *o = opaque;
    ShadowRingChain chain = {
        .bufs = o->bufs,
        .num_out = BENCH_NUM_OUT,
        .num_in = BENCH_NUM_IN,
    };

    for (unsigned i = 0; i < num; i++) {
        shadow_ring_add(o->link.ring, &chain, o);
    }
    shadow_ring_publish(o->link.ring);
    if (shadow_ring_should_kick(o->link.ring)) {
        event_notifier_set(&o->link.kick);
    }
}

static void ring_back(void *opaque, unsigned num)
{
    Ours *o = opaque;
    uint32_t len;
    void *token;

    shadow_ring_suppress_calls(o->link.ring);
    while (shadow_ring_take(o->link.ring, &token, &len) == SHADOW_RING_OK) {
        num--;
    }
    shadow_ring_arm_calls(o->link.ring);
    g_assert_cmpuint(num, ==, 0);
}

/* The path. */

static void on_faulted(void *opaque)
{
    g_assert_not_reached();
}

static void *path_start(BenchGuest *guest, ShadowRingFormat format)
{
    Ours *o = g_new0(Ours, 1);

    link_init(o, format);
    o->faulted = qemu_bh_new(on_faulted, o);
    o->q = isolated_queue_new(&(IsolatedQueueConfig) {
        .vdev = guest->vdev,
        .name = "bench",
        .vq = guest->vq,
        .scrub = true,
        .faulted = o->faulted,
    });
    attaching = o;
    isolated_queue_connect(o->q, &o->link);
    isolated_queue_attach(o->q, qemu_get_aio_context(), false);
    attaching = NULL;
    return o;
}

static void path_stop(void *opaque)
{
    Ours *o = opaque;

    attaching = o;
    isolated_queue_detach(o->q);
    attaching = NULL;
    isolated_queue_disconnect(o->q);
    isolated_queue_free(o->q);
    qemu_bh_delete(o->faulted);
    link_clean_up(o);
    g_free(o);
}

static void path_forward(void *opaque, unsigned num)
{
    Ours *o = opaque;

    o->on_kick(&o->q->guest_kick);
}

static void path_back(void *opaque, unsigned num)
{
    Ours *o = opaque;

    o->on_call(&o->q->backend_call);
}

const BenchContender bench_ring_contender = {
    .name = "ours",
    .part = "ring",
    .start = ring_start,
    .stop = ring_stop,
    .forward = ring_forward,
    .back = ring_back,
    .device = ours_device,
};

const BenchContender bench_path_contender = {
    .name = "ours",
    .part = "path",
    .start = path_start,
    .stop = path_stop,
    .forward = path_forward,
    .back = path_back,
    .device = ours_device,
};
