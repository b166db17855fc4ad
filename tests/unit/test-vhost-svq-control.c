/*
 * Tests of vhost-vdpa's shadow virtqueue as a control queue: handlers,
 * requests without an element, polling.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "linux-headers/linux/vhost.h"
#include "svq-harness.h"

static const SvqParams defaults;

/* QEMU's own buffers, mapped for the device. */
typedef struct Command {
    uint8_t out[64];
    uint8_t in[64];
} Command;

static Command command;
static DMAMap command_map;

static void map_command(SvqHarness *h)
{
    command_map = (DMAMap) { .size = sizeof(command) - 1, .perm = IOMMU_RW };
    g_assert_cmpint(vhost_iova_tree_map_alloc(h->tree, &command_map,
                                              (uintptr_t)&command), ==,
                    IOVA_OK);
}

static int add_command(SvqHarness *h, size_t out_len, size_t in_len)
{
    const struct iovec out = { .iov_base = command.out, .iov_len = out_len };
    const struct iovec in = { .iov_base = command.in, .iov_len = in_len };

    return vhost_svq_add(h->svq, &out, out_len ? 1 : 0, NULL, &in,
                         in_len ? 1 : 0, NULL, NULL);
}

/* What the device finds, without the main loop. */
static void fetch_command(SvqHarness *h, size_t out_len, size_t in_len)
{
    g_assert_true(svq_fetch(h));
    g_assert_cmpuint(h->fetched.num_out, ==, 1);
    g_assert_cmpuint(h->fetched.num_in, ==, 1);
    g_assert_cmphex(h->fetched.bufs[0].addr, ==, command_map.iova);
    g_assert_cmpuint(h->fetched.bufs[0].len, ==, out_len);
    g_assert_cmphex(h->fetched.bufs[1].addr, ==,
                    command_map.iova + sizeof(command.out));
    g_assert_cmpuint(h->fetched.bufs[1].len, ==, in_len);
}

static void add_and_poll(SvqHarness *h)
{
    map_command(h);
    for (unsigned i = 0; i < 200; i++) {
        mock_device_arm_kicks(&h->device);
        g_assert_cmpint(add_command(h, 64, 1), ==, 0);
        /* Shown and kicked at once: the caller polls. */
        g_assert_cmpuint(svq_take_events(&h->svq->hdev_kick), ==, 1);
        fetch_command(h, 64, 1);
        svq_use(h, 0, i % 3);
        svq_publish_used(h);
        /* Here or in the main loop, which may come first. */
        if (i & 1) {
            svq_settle();
        }
        g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, MIN(i % 3, 1));
        g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==,
                         h->params.size);
    }
    g_assert_cmpuint(svq_take_events(&h->vq->call), ==, 0);
}

static void test_poll(void)
{
    svq_run_matrix(&defaults, add_and_poll);
}

static void poll_for_many(SvqHarness *h)
{
    unsigned num = 0;

    map_command(h);
    while (vhost_svq_available_slots(h->svq) >= 2) {
        g_assert_cmpint(add_command(h, 8, 4), ==, 0);
        num++;
    }
    g_assert_cmpuint(num, ==, h->params.size / 2);
    g_assert_cmpint(add_command(h, 8, 4), ==, -ENOSPC);
    g_assert_cmpuint(svq_fetch_all(h), ==, num);
    for (unsigned i = 0; i < num; i++) {
        svq_use(h, 0, 4);
    }
    svq_publish_used(h);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 3), ==, 12);
    g_assert_cmpuint(vhost_svq_poll(h->svq, num - 3), ==, 4 * (num - 3));
    g_assert_cmpuint(vhost_svq_poll(h->svq, 0), ==, 0);
}

static void test_poll_many(void)
{
    svq_run_matrix(&defaults, poll_for_many);
}

static void add_nonsense(SvqHarness *h)
{
    static uint8_t elsewhere[16];
    const struct iovec good = { .iov_base = command.in, .iov_len = 4 };
    const struct iovec empty = { .iov_base = command.in, .iov_len = 0 };
    const struct iovec stray = { .iov_base = elsewhere, .iov_len = 16 };
    const struct iovec over = { .iov_base = command.in, .iov_len = 65 };
    const struct iovec under = {
        .iov_base = (void *)((uintptr_t)command.out - 1), .iov_len = 9,
    };
    const struct iovec *bad[] = { &empty, &stray, &over, &under };

    map_command(h);
    g_assert_cmpint(add_command(h, 0, 0), ==, -EINVAL);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_cmpint(vhost_svq_add(h->svq, bad[i], 1, NULL, &good, 1, NULL,
                                      NULL), ==, -EINVAL);
        g_assert_cmpint(vhost_svq_add(h->svq, &good, 1, NULL, bad[i], 1, NULL,
                                      NULL), ==, -EINVAL);
    }
    /* Nothing has moved: no descriptor is lost, none is seen. */
    g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, h->params.size);
    g_assert_false(mock_device_has_avail(&h->device));
    g_assert_cmpint(add_command(h, 4, 4), ==, 0);
    fetch_command(h, 4, 4);
    svq_stop(h);
    g_assert_cmpint(add_command(h, 4, 4), ==, -EIO);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, 0);
}

static void test_add_nonsense(void)
{
    svq_run_matrix(&defaults, add_nonsense);
}

/* A device that needs the processor to answer, and is kicked for it. */
typedef struct SlowDevice {
    SvqHarness *h;
    unsigned num;
} SlowDevice;

static void *slow_device(void *opaque)
{
    SlowDevice *d = opaque;
    SvqHarness *h = d->h;

    for (unsigned i = 0; i < d->num; i++) {
        while (!svq_fetch(h)) {
            g_usleep(50);
        }
        g_usleep(i % 4 * 500);
        svq_use(h, 0, 2);
        svq_publish_used(h);
    }
    return NULL;
}

static void poll_waits(SvqHarness *h)
{
    SlowDevice d = { .h = h, .num = 20 };
    GThread *thread = g_thread_new("device", slow_device, &d);

    map_command(h);
    for (unsigned i = 0; i < d.num / 2; i++) {
        g_assert_cmpint(add_command(h, 8, 2), ==, 0);
        g_assert_cmpint(add_command(h, 8, 1), ==, 0);
        g_assert_cmpuint(vhost_svq_poll(h->svq, 2), ==, 3);
    }
    g_thread_join(thread);
}

static void test_poll_waits(void)
{
    svq_run_matrix(&defaults, poll_waits);
}

static void *late_device(void *opaque)
{
    SvqHarness *h = opaque;

    g_usleep(2000);
    svq_use(h, 1, 1);
    svq_publish_used(h);
    return NULL;
}

/* The call that the wait consumed may not be the last one. */
static void poll_leaves_calls_armed(SvqHarness *h)
{
    map_command(h);
    for (unsigned i = 0; i < 5; i++) {
        GThread *thread;

        svq_offer(h, 1, 1, 1);
        svq_settle();
        g_assert_cmpint(add_command(h, 8, 1), ==, 0);
        g_assert_cmpuint(svq_fetch_all(h), ==, 2);
        thread = g_thread_new("device", late_device, h);
        g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, 1);
        g_thread_join(thread);
        svq_settle();
        svq_use(h, 0, 1);
        svq_publish_used(h);
        svq_settle();
        g_assert_cmpuint(svq_collect(h), ==, 1);
    }
}

static void test_poll_armed(void)
{
    svq_run_matrix(&defaults, poll_leaves_calls_armed);
}

/* What is not answered now is not waited for again. */
static void poll_ends(SvqHarness *h)
{
    map_command(h);
    vhost_svq_set_poll_limit(h->svq, 5);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpint(add_command(h, 8, 2), ==, 0);
    }
    svq_fetch_all(h);
    svq_use(h, 0, 2);
    svq_publish_used(h);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 4), ==, 2);
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
    /* What comes late is not taken for the answer to something else. */
    svq_use_all(h);
    vhost_svq_set_poll_limit(h->svq, INT_MAX);
    g_assert_cmpint(add_command(h, 8, 2), ==, -EIO);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, 0);
    g_assert_cmpuint(mock_num_error_reports(), ==, 0);
    svq_stop(h);
    svq_start(h);
    g_assert_cmpint(add_command(h, 8, 2), ==, 0);
    fetch_command(h, 8, 2);
    svq_use(h, 0, 1);
    svq_publish_used(h);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, 1);
}

static void test_poll_ends(void)
{
    svq_run_matrix(&defaults, poll_ends);
}

/* A device at work: 30 ms pass at each look, and it answers at each second. */
static SvqHarness *worker;        /* NULL: the real clock                    */
static unsigned looks, answers_left;

gint64 g_get_monotonic_time(void)
{
    struct timespec now;

    if (!worker) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
    }
    if (looks++ % 2 && answers_left) {
        answers_left--;
        svq_use(worker, 0, 1);
        svq_publish_used(worker);
    }
    return looks * 30000LL;
}

/* Returns: looks until all @answers have come, or no more is waited for. */
static unsigned hundred_commands(SvqHarness *h, unsigned answers)
{
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpint(add_command(h, 8, 1), ==, 0);
    }
    g_assert_cmpuint(svq_fetch_all(h), ==, 100);
    worker = h;
    looks = 0;
    answers_left = answers;
    g_assert_cmpuint(vhost_svq_poll(h->svq, 100), ==, answers);
    worker = NULL;
    return looks;
}

/* As when a destination restores many VLANs: 6 s in all, and the limit is 5. */
static void poll_counts_from_progress(SvqHarness *h)
{
    map_command(h);
    g_assert_cmpuint(hundred_commands(h, 100), >=, 200);
    /* A good beginning is of no help. */
    g_assert_cmpuint(hundred_commands(h, 10), <, 20 + 5000 / 30 + 20);
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
}

static void test_poll_progress(void)
{
    const SvqParams params = { .size = 256 };

    svq_run_matrix(&params, poll_counts_from_progress);
}

static void poll_broken(SvqHarness *h)
{
    map_command(h);
    g_assert_cmpint(add_command(h, 8, 2), ==, 0);
    svq_fetch_all(h);
    mock_device_use_raw(&h->device, h->params.size, 1);
    g_assert_cmpuint(vhost_svq_poll(h->svq, 1), ==, 0);
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
    g_assert_cmpint(add_command(h, 8, 2), ==, -EIO);
}

static void test_poll_broken(void)
{
    svq_run_matrix(&defaults, poll_broken);
}

/* Handlers.  The opaque pointer is the harness. */

/* As the control queue of a network device: ask the device, then answer. */
static int ask_device(VhostShadowVirtqueue *svq, VirtQueueElement *elem,
                      void *opaque)
{
    SvqHarness *h = opaque;

    g_assert_true(svq == h->svq && svq->vdev == &h->vdev);
    h->num_handled++;
    if (add_command(h, 8, 1)) {
        vhost_svq_push_elem(svq, elem, 3);
        return -EIO;
    }
    fetch_command(h, 8, 1);
    svq_use(h, 0, 1);
    svq_publish_used(h);
    g_assert_cmpuint(vhost_svq_poll(svq, 1), ==, 1);
    vhost_svq_push_elem(svq, elem, UINT32_MAX);
    g_free(elem);
    return 0;
}

static unsigned take_all(SvqHarness *h, uint32_t len)
{
    MockVqRequest *r;
    unsigned num = 0;

    while ((r = mock_vq_take(h->vq))) {
        g_assert_cmpuint(r->len, ==, len);
        num++;
    }
    return num;
}

static void handler_answers(SvqHarness *h)
{
    map_command(h);
    for (unsigned i = 1; i < 10; i++) {
        h->num_handled = 0;
        svq_offer(h, i, 1, 1);
        svq_settle();
        g_assert_cmpuint(h->num_handled, ==, i);
        /* Once for each, since each answer stands alone. */
        g_assert_cmpuint(svq_take_events(&h->vq->call), ==, i);
        g_assert_cmpuint(take_all(h, MOCK_VQ_BUF_LEN), ==, i);
    }
    g_assert_true(h->vq->notify);
}

static const VhostShadowVirtqueueOps ask_ops = { .avail_handler = ask_device };
static const SvqParams asking = { .ops = &ask_ops };

static void test_handler(void)
{
    svq_run_matrix(&asking, handler_answers);
}

/* A guest that waits for an answer for ever would hang. */
static void handler_goes_on(SvqHarness *h)
{
    map_command(h);
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(take_all(h, MOCK_VQ_BUF_LEN), ==, 1);
    mock_device_use_raw(&h->device, h->params.size, 1);
    event_notifier_set(&h->svq->hdev_call);
    svq_settle();
    g_assert_cmpuint(mock_num_error_reports(), ==, 1);
    for (unsigned i = 0; i < 3; i++) {
        svq_offer(h, 2, 1, 1);
        svq_settle();
        g_assert_cmpuint(take_all(h, 3), ==, 2);
    }
    g_assert_cmpuint(h->num_handled, ==, 7);
    g_assert_cmpuint(mock_num_error_reports(), ==, 0);
}

static void test_handler_goes_on(void)
{
    svq_run_matrix(&asking, handler_goes_on);
}

/* The element itself goes to the device, and comes back by itself. */
static int pass_on(VhostShadowVirtqueue *svq, VirtQueueElement *elem,
                   void *opaque)
{
    SvqHarness *h = opaque;

    h->num_handled++;
    g_assert_cmpint(vhost_svq_add(svq, elem->out_sg, elem->out_num,
                                  elem->out_addr, elem->in_sg, elem->in_num,
                                  elem->in_addr, elem), ==, 0);
    return 0;
}

static void handler_passes_on(SvqHarness *h)
{
    MockVqRequest *second;

    svq_offer(h, 1, 1, 1);
    second = svq_offer(h, 1, 1, 1);
    svq_offer(h, 3, 1, 1);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 5);
    svq_use(h, 0, 9);
    svq_publish_used(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 1);
    svq_stop(h);
    g_assert_cmpuint(mock_vq_num_offered(h->vq), ==, 4);
    svq_start(h);
    svq_settle();
    g_assert_cmpuint(svq_fetch_all(h), ==, 4);
    g_assert_true(g_array_index(h->held, SvqHeld, 0).request == second);
    svq_use_all(h);
    svq_settle();
    g_assert_cmpuint(svq_collect(h), ==, 4);
}

static void test_handler_passes_on(void)
{
    const VhostShadowVirtqueueOps ops = { .avail_handler = pass_on };
    const SvqParams params = { .ops = &ops };

    svq_run_matrix(&params, handler_passes_on);
}

/* A driver that is faster than the handler does not own the main loop. */
static int never_done(VhostShadowVirtqueue *svq, VirtQueueElement *elem,
                      void *opaque)
{
    SvqHarness *h = opaque;

    h->num_handled++;
    g_assert_cmpuint(h->num_handled, <=, 100 * h->params.size);
    vhost_svq_push_elem(svq, elem, 0);
    g_free(elem);
    take_all(h, 0);
    svq_offer(h, 1, 1, 1);
    return 0;
}

static void handler_has_a_budget(SvqHarness *h)
{
    svq_offer(h, 1, 1, 1);
    svq_settle();
    g_assert_cmpuint(h->num_handled, >=, 2 * h->params.size);
}

static void test_handler_budget(void)
{
    const VhostShadowVirtqueueOps ops = { .avail_handler = never_done };
    const SvqParams params = { .ops = &ops };

    svq_run_matrix(&params, handler_has_a_budget);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

#define ADD(claim, fn) g_test_add_func("/vhost-svq/" claim, fn)
    ADD("poll/answer-is-found-here-or-in-the-main-loop", test_poll);
    ADD("poll/many-answers-and-a-full-ring", test_poll_many);
    ADD("poll/nonsense-is-refused-without-a-trace", test_add_nonsense);
    ADD("poll/sleeps-until-the-device-answers", test_poll_waits);
    ADD("poll/leaves-calls-armed", test_poll_armed);
    ADD("poll/ends-and-stops-the-queue", test_poll_ends);
    ADD("poll/limit-counts-from-the-last-answer", test_poll_progress);
    ADD("poll/broken-ring-ends-it", test_poll_broken);
    ADD("handler/asks-the-device-and-answers-the-guest", test_handler);
    ADD("handler/answers-when-the-device-is-broken", test_handler_goes_on);
    ADD("handler/passes-elements-on", test_handler_passes_on);
    ADD("handler/has-a-budget", test_handler_budget);
#undef ADD
    return g_test_run();
}
