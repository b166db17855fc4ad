/*
 * Tests of the isolated queue's neighbours: how much one dispatch moves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/isolated-queue-internal.h"
#include "queue-harness.h"

#define STAT(h, name) stat64_get(&isolated_queue_stats((h)->q)->name)

/**
 * Neighbour - another user of the queue's AioContext
 *
 * It runs whenever it can, and notes how far the queue got meanwhile.
 */
typedef struct Neighbour {
    QueueHarness *h;
    EventNotifier event;
    unsigned seen_pops;
    uint64_t seen_requests;
    uint64_t seen_bytes;
    unsigned max_popped;
    uint64_t max_returned;
    uint64_t max_bytes;
} Neighbour;

static Neighbour neighbour;

/*
 * It is due all the time.  But while anything that aio_poll() polls is due, it
 * looks at nothing that was never due before: let the queue come first.
 */
static bool neighbour_is_due(void *opaque)
{
    return neighbour.h->q->guest_polled;
}

/* Copied either way, of requests that are on their way as well. */
static uint64_t neighbour_bytes(const Neighbour *n)
{
    const IsolatedRequest *req = n->h->q->next_unsent;

    return STAT(n->h, bytes_out) + STAT(n->h, bytes_in) +
           (req && req->span_bytes ? req->copied : 0);
}

static void neighbour_look(EventNotifier *event)
{
    Neighbour *n = container_of(event, Neighbour, event);
    unsigned pops = n->h->guest->num_pops;
    uint64_t requests = STAT(n->h, requests);
    uint64_t bytes = neighbour_bytes(n);

    /* What was cleared does not count any more once it is sent. */
    if (bytes > n->seen_bytes) {
        n->max_bytes = MAX(n->max_bytes, bytes - n->seen_bytes);
    }
    n->seen_bytes = bytes;
    n->max_popped = MAX(n->max_popped, pops - n->seen_pops);
    n->max_returned = MAX(n->max_returned, requests - n->seen_requests);
    n->seen_pops = pops;
    n->seen_requests = requests;
}

static void neighbour_move_in(QueueHarness *h)
{
    neighbour = (Neighbour) {
        .h = h,
        .seen_pops = h->guest->num_pops,
        .seen_requests = STAT(h, requests),
    };
    neighbour.seen_bytes = neighbour_bytes(&neighbour);
    g_assert_cmpint(event_notifier_init(&neighbour.event, 1), ==, 0);
    aio_set_event_notifier(h->ctx, &neighbour.event, neighbour_look,
                           neighbour_is_due, neighbour_look);
}

static void neighbour_move_out(QueueHarness *h)
{
    neighbour_look(&neighbour.event);
    aio_set_event_notifier(h->ctx, &neighbour.event, NULL, NULL, NULL);
    event_notifier_cleanup(&neighbour.event);
}

/* Attaches the queue. */
static void settle_beside_neighbour(QueueHarness *h)
{
    queue_call(h, neighbour_move_in);
    queue_attach(h);
    queue_settle(h);
    queue_call(h, neighbour_move_out);
}

/* A look the other way, in vain, costs one. */
static void assert_batches(uint64_t moved, unsigned batch)
{
    g_assert_cmpuint(moved + 1, >=, batch);
    g_assert_cmpuint(moved, <=, 3 * batch);
}

/*
 * With @num requests waiting for it, the queue forwards @batch in one go; once
 * more if it was kicked besides, and if it was called.  Back come @returned, of
 * @len bytes each.
 */
static void batches(QueueHarness *h, unsigned num, uint32_t in, unsigned batch,
                    uint32_t len, unsigned returned)
{
    queue_detach(h);
    queue_offer_many(h, num, 0, in);
    settle_beside_neighbour(h);
    assert_batches(neighbour.max_popped, batch);

    queue_detach(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, num);
    while (h->held->len) {
        backend_use(h, 0, 0, len);
    }
    mock_device_publish(&h->device);
    settle_beside_neighbour(h);
    assert_batches(neighbour.max_returned, returned);
    g_assert_cmpuint(queue_collect(h), ==, num);
}

static void many_small_requests(QueueHarness *h)
{
    batches(h, 1024, 16, 256, 1, 256);
    batches(h, 1000, 16, 256, 16, 256);
}

/*
 * What is copied and cleared counts: a fresh span is clear already, and what
 * comes back is what was written, or all of it.
 */
static void few_large_requests(QueueHarness *h)
{
    batches(h, 50, 1 * MiB, 50, 1 * MiB, 8);
    batches(h, 50, 1 * MiB, 8, 60, h->params.all_writable ? 8 : 50);
}

/* Much longer than what a turn copies. */
static void in_parts(QueueHarness *h)
{
    uint64_t part = h->params.part_bytes;

    for (unsigned i = 0; i < 2; i++) {
        queue_detach(h);
        queue_offer(h, 20 * part, 0);
        queue_offer(h, 0, 20 * part);
        settle_beside_neighbour(h);
        g_assert_cmpuint(neighbour.max_bytes, >, 0);
        g_assert_cmpuint(neighbour.max_bytes, <=, 3 * part);

        queue_detach(h);
        g_assert_cmpuint(backend_fetch_all(h), ==, 2);
        while (h->held->len) {
            backend_complete(h, 0);
        }
        mock_device_publish(&h->device);
        settle_beside_neighbour(h);
        g_assert_cmpuint(queue_collect(h), ==, 2);
        g_assert_cmpuint(neighbour.max_bytes, >, 0);
        g_assert_cmpuint(neighbour.max_bytes, <=, 3 * part);
    }
}

static void test_in_parts(void)
{
    QueueParams params = { .share = 8 * MiB, .part_bytes = 32 * KiB };

    queue_run_matrix(&params, in_parts);
    params.wipe = true;
    queue_run_matrix(&params, in_parts);
}

static void parts_of_one_completion(QueueHarness *h)
{
    batches(h, 1024, 16, 256, 16, 1024);
}

static void test_budget_requests(void)
{
    const QueueParams params = {
        .ring_size = 1024, .num_requests = 1024, .slot_bytes = 4 * KiB,
    };

    queue_run_matrix(&params, many_small_requests);
}

static void test_budget_merged(void)
{
    const QueueParams params = {
        .ring_size = 1024, .num_requests = 1024, .slot_bytes = 4 * KiB,
        .merges = true,
    };

    queue_run_matrix(&params, parts_of_one_completion);
}

static void test_budget_bytes(void)
{
    QueueParams params = { .share = 64 * MiB, .slot_bytes = 2 * MiB };

    queue_run_matrix(&params, few_large_requests);
    params.all_writable = true;
    queue_run_matrix(&params, few_large_requests);
}

/* Of many buffers each; it forwards and returns @batch in one go. */
static void long_chains(QueueHarness *h, unsigned num, unsigned bufs,
                        unsigned batch)
{
    queue_detach(h);
    for (unsigned i = 0; i < num; i++) {
        MockGuestRequest *r = mock_guest_get(h->guest);

        for (unsigned j = 0; j < bufs; j++) {
            mock_guest_add(h->guest, r, true, 1, 1, 0);
        }
        queue_offer_request(h, r);
    }
    settle_beside_neighbour(h);
    assert_batches(neighbour.max_popped, batch);

    queue_detach(h);
    g_assert_cmpuint(backend_fetch_all(h), ==, num);
    while (h->held->len) {
        backend_complete(h, 0);
    }
    mock_device_publish(&h->device);
    settle_beside_neighbour(h);
    assert_batches(neighbour.max_returned, batch);
    g_assert_cmpuint(queue_collect(h), ==, num);
}

static void many_buffers(QueueHarness *h)
{
    long_chains(h, 40, 512, 16);
    long_chains(h, 40, 1000, 9);
}

static void test_budget_bufs(void)
{
    const QueueParams params = {
        .ring_size = 64, .indirect = true, .guest_indirect = true,
        .guest_ring_size = 32768, .slot_bytes = 256 * KiB,
    };

    queue_run_matrix(&params, many_buffers);
}

/* The guest says that there is something, and there never is. */
static void index_to_and_fro(QueueHarness *h)
{
    queue_offer(h, 16, 16);
    queue_settle(h);
    h->guest->flickers = 1000000;
    event_notifier_set(&h->guest->kick);
    main_loop_wait(true);
    g_assert_cmpuint(h->guest->flickers, <=, 1000000 - 200);
    g_assert_cmpuint(h->guest->flickers, >=, 1000000 - 2 * 256);
    h->guest->flickers = 0;
    queue_finish(h);
}

static void test_to_and_fro(void)
{
    QueueParams params = { .owner = QUEUE_OWNER_MAIN_LOOP };

    for (unsigned i = 0; i < 4; i++) {
        params.guest_event_idx = i & 1;
        params.guest_format = i & 2 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        queue_run_one(&params, index_to_and_fro);
    }
}

/* Even while guest and backend always have more. */
static void never_ending_work(QueueHarness *h)
{
    queue_call(h, neighbour_move_in);
    for (unsigned i = 0; i < 200; i++) {
        while (h->guest->idle->len) {
            queue_offer(h, 16, 16);
        }
        backend_fetch_all(h);
        backend_complete_all(h);
        queue_collect(h);
        if (!h->iothread) {
            main_loop_wait(true);
        }
    }
    queue_call(h, neighbour_move_out);
    g_assert_cmpuint(neighbour.max_popped, <=, 512);
    g_assert_cmpuint(neighbour.max_returned, <=, 512);
    queue_finish(h);
}

static void test_never_ending(void)
{
    const QueueParams params = {
        .ring_size = 1024, .num_requests = 2000, .slot_bytes = 4 * KiB,
    };

    queue_run_matrix(&params, never_ending_work);
}

/*
 * QEMU's aio_poll() looks at no eventfd while a bottom half is due, so what a
 * queue leaves for its next turn must not be one.
 */

/**
 * Onlooker - another user of the thread, who is woken through an eventfd
 * @event: sets itself until the queue's turns have begun
 * @flickers: that were left then
 */
typedef struct Onlooker {
    QueueHarness *h;
    EventNotifier event;
    QemuSemaphore woken;
    unsigned flickers;
} Onlooker;

#define FLICKERS 1000000

static Onlooker onlooker;

static void onlooker_run(EventNotifier *n)
{
    unsigned left = onlooker.h->guest->flickers;

    event_notifier_test_and_clear(n);
    if (left > FLICKERS - 2 * 256) {
        event_notifier_set(n);
        return;
    }
    onlooker.flickers = left;
    qemu_sem_post(&onlooker.woken);
}

static bool onlooker_never_polls(void *opaque)
{
    return false;
}

static void onlooker_move_in(QueueHarness *h)
{
    aio_set_event_notifier(h->ctx, &onlooker.event, onlooker_run,
                           onlooker_never_polls, onlooker_run);
    h->guest->flickers = FLICKERS;
    event_notifier_set(&onlooker.event);
}

static void onlooker_move_out(QueueHarness *h)
{
    aio_set_event_notifier(h->ctx, &onlooker.event, NULL, NULL, NULL);
    h->guest->flickers = 0;
}

static void others_are_woken(QueueHarness *h)
{
    queue_offer(h, 16, 16);
    queue_settle(h);
    onlooker.h = h;
    qemu_sem_init(&onlooker.woken, 0);
    g_assert_cmpint(event_notifier_init(&onlooker.event, 0), ==, 0);
    queue_call(h, onlooker_move_in);
    event_notifier_set(&h->guest->kick);
    qemu_sem_wait(&onlooker.woken);
    g_assert_cmpuint(onlooker.flickers, >, 0);
    queue_call(h, onlooker_move_out);
    event_notifier_cleanup(&onlooker.event);
    qemu_sem_destroy(&onlooker.woken);
    queue_finish(h);
}

static void test_others_are_woken(void)
{
    QueueParams params = { 0 };

    for (params.owner = QUEUE_OWNER_IOTHREAD;
         params.owner <= QUEUE_OWNER_POLLING_IOTHREAD; params.owner++) {
        queue_run_one(&params, others_are_woken);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

    g_test_add_func("/isolated-queue/budget/ends-after-so-many-requests",
                    test_budget_requests);
    g_test_add_func("/isolated-queue/budget/ends-after-so-many-bytes",
                    test_budget_bytes);
    g_test_add_func("/isolated-queue/budget/ends-after-so-many-buffers",
                    test_budget_bufs);
    g_test_add_func("/isolated-queue/budget/passes-in-vain-count",
                    test_to_and_fro);
    g_test_add_func("/isolated-queue/budget/long-requests-go-in-parts",
                    test_in_parts);
    g_test_add_func("/isolated-queue/budget/takes-no-completion-apart",
                    test_budget_merged);
    g_test_add_func("/isolated-queue/budget/neighbours-run-under-any-load",
                    test_never_ending);
    g_test_add_func("/isolated-queue/budget/others-are-woken-meanwhile",
                    test_others_are_woken);
    return g_test_run();
}
