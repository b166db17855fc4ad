/*
 * Tests of vhost-vdpa's shadow virtqueue with peers that work while it does.
 *
 * A device that is a thread sleeps whenever it finds nothing and the queue
 * whenever it has nothing to do: a kick or call that is lost ends in silence.
 * Each request has its number in memory; the device must find the numbers in
 * order, and the guest gets its requests back in the order in which the device
 * used them.
 *
 * Others are at work whenever the queue looks.  They must not keep it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "svq-harness.h"

static const SvqParams size_8 = { .size = 8 };

#define REQUESTS 20000
#define PATIENCE_MS 20000

typedef struct Peer {
    SvqHarness *h;
    bool stop;
    uint64_t next;            /* number that is expected next            */
    bool lost;
} Peer;

static uint64_t *number_of(SvqHarness *h, uint64_t offset)
{
    return (uint64_t *)(h->vq->ram + offset);
}

/* Returns: whether there was anything. */
static bool device_batch(Peer *p)
{
    MockDevice *d = &p->h->device;
    MockRequest *r = &p->h->fetched;
    unsigned num = 0;

    while (mock_device_fetch(d, r)) {
        uint64_t offset = r->bufs[0].addr - p->h->ram.iova;

        g_assert_cmpuint(*number_of(p->h, offset), ==, p->next);
        p->next++;
        mock_device_use(d, r->id, r->num_in * MOCK_VQ_BUF_LEN);
        num++;
    }
    mock_device_publish(d);
    if (mock_device_should_call(d)) {
        event_notifier_set(&p->h->svq->hdev_call);
    }
    return num;
}

static void *device_thread(void *opaque)
{
    Peer *p = opaque;
    GPollFD fd = {
        .fd = event_notifier_get_fd(&p->h->svq->hdev_kick),
        .events = G_IO_IN,
    };

    while (!qatomic_read(&p->stop)) {
        if (device_batch(p)) {
            continue;
        }
        mock_device_arm_kicks(&p->h->device);
        if (device_batch(p)) {
            continue;
        }
        if (!g_poll(&fd, 1, PATIENCE_MS)) {
            qatomic_set(&p->lost, true);
            event_notifier_set(&p->h->vq->call);
            return NULL;
        }
        event_notifier_test_and_clear(&p->h->svq->hdev_kick);
    }
    return NULL;
}

static void on_call(EventNotifier *n)
{
    event_notifier_test_and_clear(n);
}

static unsigned offer_some(SvqHarness *h, uint64_t *next)
{
    unsigned num = g_test_rand_int_range(1, 40);
    unsigned i;

    for (i = 0; i < num && *next < REQUESTS; i++) {
        MockVqRequest *r = mock_vq_get(h->vq, 1 + *next % 2, *next % 3);

        if (!r) {
            break;
        }
        *number_of(h, mock_vq_offset(r, 0)) = (*next)++;
        mock_vq_offer(h->vq, r);
    }
    return i;
}

static void device_is_a_thread(SvqHarness *h)
{
    Peer peer = { .h = h };
    uint64_t next = 0, came = 0;
    GThread *thread = g_thread_new("device", device_thread, &peer);

    event_notifier_set_handler(&h->vq->call, on_call);
    while (came < REQUESTS) {
        bool idle = !offer_some(h, &next);
        MockVqRequest *r;

        main_loop_wait(!idle);
        g_assert_false(qatomic_read(&peer.lost));
        while ((r = mock_vq_take(h->vq))) {
            g_assert_cmpuint(*number_of(h, mock_vq_offset(r, 0)), ==, came);
            g_assert_cmpuint(r->len, ==, r->num_in * MOCK_VQ_BUF_LEN);
            came++;
        }
    }
    event_notifier_set_handler(&h->vq->call, NULL);
    qatomic_set(&peer.stop, true);
    event_notifier_set(&h->svq->hdev_kick);
    g_thread_join(thread);
    g_assert_cmpuint(peer.next, ==, REQUESTS);
}

static void test_threads(void)
{
    static const uint16_t sizes[] = { 4, 256 };

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        const SvqParams params = { .size = sizes[i] };

        svq_run_matrix(&params, device_is_a_thread);
    }
}

/* Peers that have something for QEMU whenever it looks. */

static void use_one_more(void *opaque)
{
    SvqHarness *h = opaque;

    svq_fetch_all(h);
    if (h->held->len) {
        svq_use(h, 0, 1);
        mock_device_publish(&h->device);
        h->vq->flushed = use_one_more;
    }
}

/* Whenever QEMU has returned one there is another, and never a call. */
static void device_is_faster(SvqHarness *h)
{
    const unsigned total = 40;
    unsigned num;

    svq_offer(h, total, 1, 1);
    svq_settle();
    svq_fetch_all(h);
    svq_use(h, 0, 1);
    svq_publish_used(h);
    h->vq->flushed = use_one_more;
    h->vq->opaque = h;
    main_loop_wait(true);
    num = svq_collect(h);
    g_assert_cmpuint(num, <=, h->params.size);
    for (unsigned i = 0; i < total; i++) {
        svq_settle();
        num += svq_collect(h);
    }
    g_assert_cmpuint(num, ==, total);
}

static void test_call_budget(void)
{
    svq_run_matrix(&size_8, device_is_faster);
}

/* A guest that writes its index to and fro, to keep QEMU busy for ever. */
static void index_to_and_fro(SvqHarness *h)
{
    svq_settle();
    h->vq->flickers = 1000000;
    event_notifier_set(&h->vq->kick);
    main_loop_wait(true);
    /* One dispatch has a budget, and comes back by itself. */
    g_assert_cmpuint(h->vq->flickers, >=, 1000000 - h->params.size);
    g_assert_cmpuint(svq_take_events(&h->vq->kick), ==, 1);
    h->vq->flickers = 0;
}

static void test_kick_flicker(void)
{
    svq_run_matrix(&size_8, index_to_and_fro);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/vhost-svq/" claim, fn)
    ADD("threads/nothing-is-lost-or-reordered", test_threads);
    ADD("busy/device-that-is-faster-does-not-hold-the-main-loop",
        test_call_budget);
    ADD("busy/index-to-and-fro-does-not-hold-the-main-loop",
        test_kick_flicker);
#undef ADD
    return g_test_run();
}
