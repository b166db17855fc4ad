/*
 * Test of vhost-vdpa's shadow virtqueue with a device that is a thread.
 *
 * The device sleeps whenever it finds nothing and the queue whenever it has
 * nothing to do, so a kick or call that is lost ends in silence.  Each request
 * has its number in memory; the device must find the numbers in order, and the
 * guest gets its requests back in the order in which the device used them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "svq-harness.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    g_test_add_func("/vhost-svq/threads/nothing-is-lost-or-reordered",
                    test_threads);
    return g_test_run();
}
