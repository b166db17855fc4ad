/*
 * Shadow ring with a device in a second thread, and what it costs.
 *
 * Both sides sleep whenever there is nothing to do, so a notification that is
 * lost shows as a sleep that does not end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/thread.h"
#include "count-malloc.h"
#include "ring-harness.h"

/* Long enough for a loaded machine; only a lost wake-up takes that long. */
#define SLEEP_MAX_MS 20000
#define RUN_US (150 * 1000)

typedef struct Stress {
    RingHarness *h;
    QemuSemaphore kicked;
    QemuSemaphore called;
    bool stopped;             /* atomic; the driver's, then a kick */
} Stress;

static void sleep_until(QemuSemaphore *sem)
{
    g_assert_cmpint(qemu_sem_timedwait(sem, SLEEP_MAX_MS), ==, 0);
}

/* Hold some, give them back in any order. */
static void device_use_some(Stress *s, uint16_t *ids, unsigned *num,
                            unsigned keep)
{
    MockDevice *d = &s->h->device;
    unsigned used = d->next_used;

    while (*num > keep) {
        unsigned i = used++ % *num;

        mock_device_use(d, ids[i], ids[i]);
        ids[i] = ids[--*num];
        if (used % 3 == 0) {
            mock_device_publish(d);
        }
    }
    mock_device_publish(d);
    if (mock_device_should_call(d)) {
        qemu_sem_post(&s->called);
    }
}

static void *device_thread(void *opaque)
{
    Stress *s = opaque;
    MockDevice *d = &s->h->device;
    g_autofree MockRequest *request = g_new(MockRequest, 1);
    g_autofree uint16_t *ids = g_new(uint16_t, d->size);
    unsigned num = 0;

    while (!qatomic_load_acquire(&s->stopped)) {
        mock_device_suppress_kicks(d);
        while (mock_device_fetch(d, request)) {
            ids[num++] = request->id;
        }
        device_use_some(s, ids, &num, num / 4);
        mock_device_arm_kicks(d);
        if (!mock_device_has_avail(d)) {
            device_use_some(s, ids, &num, 0);
            sleep_until(&s->kicked);
        }
    }
    return NULL;
}

/* The model cannot look over the device's shoulder: count tokens instead. */
static void driver_add(Stress *s, bool *out, uint64_t *num)
{
    RingHarness *h = s->h;
    unsigned batch = g_random_int_range(1, 20);

    while (batch-- && shadow_ring_room(h->ring)) {
        ShadowRingBuf buf = { .addr = 0x1000, .len = 1 };
        ShadowRingChain chain = { .bufs = &buf, .num_in = 1 };
        unsigned i = 0;

        while (out[i]) {
            i++;
        }
        out[i] = true;
        shadow_ring_add(h->ring, &chain, &out[i]);
        (*num)++;
    }
    shadow_ring_publish(h->ring);
    if (shadow_ring_should_kick(h->ring)) {
        qemu_sem_post(&s->kicked);
    }
}

static unsigned driver_take(Stress *s, bool *out)
{
    unsigned num = 0;
    uint32_t raw_len;
    void *token;

    while (shadow_ring_take(s->h->ring, &token, &raw_len) ==
           SHADOW_RING_OK) {
        bool *slot = token;

        g_assert_true(slot >= out && slot < out + s->h->params.size);
        g_assert_true(*slot);
        *slot = false;
        num++;
    }
    g_assert_null(shadow_ring_fault(s->h->ring));
    return num;
}

static void driver_loop(Stress *s)
{
    int64_t end = g_get_monotonic_time() + RUN_US;
    g_autofree bool *out = g_new0(bool, s->h->params.size);
    uint64_t num_added = 0;
    uint64_t num_taken = 0;
    bool more = true;

    while (more || num_taken < num_added) {
        shadow_ring_suppress_calls(s->h->ring);
        num_taken += driver_take(s, out);
        more = g_get_monotonic_time() < end;
        if (more) {
            driver_add(s, out, &num_added);
        }
        if ((!more || !shadow_ring_room(s->h->ring)) &&
            num_taken < num_added && !shadow_ring_arm_calls(s->h->ring)) {
            sleep_until(&s->called);
        }
    }
    g_assert_cmpuint(num_taken, ==, num_added);
    g_assert_cmpuint(shadow_ring_in_flight(s->h->ring), ==, 0);
    g_test_message("%" PRIu64 " requests", num_taken);
}

static void test_threads(const void *data)
{
    Stress s = { .h = harness_new(data) };
    QemuThread device;

    qemu_sem_init(&s.kicked, 0);
    qemu_sem_init(&s.called, 0);
    qemu_thread_create(&device, "device", device_thread, &s,
                       QEMU_THREAD_JOINABLE);
    driver_loop(&s);
    qatomic_store_release(&s.stopped, true);
    qemu_sem_post(&s.kicked);
    qemu_thread_join(&device);
    qemu_sem_destroy(&s.kicked);
    qemu_sem_destroy(&s.called);
    harness_free(s.h);
}

/*
 * Both sides do their half of the handshake at the same moment: one shows the
 * other something and asks whether to notify, the other asks for a
 * notification and looks.  If both say no, it is lost.
 */
typedef struct Litmus {
    RingHarness *h;
    unsigned driver_round;    /* atomic; the driver's */
    unsigned device_round;    /* atomic; the device's */
    bool device_noticed;      /* the device's, read after its round */
} Litmus;

/* Arrive at @round, wait for the other side to arrive. */
static void meet(unsigned *mine, const unsigned *other, unsigned round)
{
    qatomic_store_release(mine, round);
    for (unsigned spins = 0; qatomic_load_acquire(other) < round; spins++) {
        if (spins > 10000) {
            sched_yield();
        }
    }
}

#define LITMUS_ROUNDS 100000

static void *litmus_device(void *opaque)
{
    Litmus *l = opaque;
    MockDevice *d = &l->h->device;
    g_autofree MockRequest *request = g_new(MockRequest, 1);
    unsigned round = 0;

    for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
        mock_device_suppress_kicks(d);
        meet(&l->device_round, &l->driver_round, ++round);
        mock_device_arm_kicks(d);
        l->device_noticed = mock_device_has_avail(d);
        meet(&l->device_round, &l->driver_round, ++round);
        g_assert_true(mock_device_fetch(d, request));
        mock_device_use(d, request->id, 0);
        meet(&l->device_round, &l->driver_round, ++round);
        mock_device_publish(d);
        l->device_noticed = mock_device_should_call(d);
        meet(&l->device_round, &l->driver_round, ++round);
    }
    return NULL;
}

static void litmus_driver(Litmus *l)
{
    ShadowRing *ring = l->h->ring;
    ShadowRingBuf buf = { .addr = 0x1000, .len = 1 };
    ShadowRingChain chain = { .bufs = &buf, .num_in = 1 };
    unsigned round = 0;

    for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
        uint32_t raw_len;
        void *token;
        bool noticed;

        shadow_ring_suppress_calls(ring);
        shadow_ring_add(ring, &chain, l);
        meet(&l->driver_round, &l->device_round, ++round);
        shadow_ring_publish(ring);
        noticed = shadow_ring_should_kick(ring);
        meet(&l->driver_round, &l->device_round, ++round);
        g_assert_true(noticed || l->device_noticed);
        meet(&l->driver_round, &l->device_round, ++round);
        noticed = shadow_ring_arm_calls(ring);
        meet(&l->driver_round, &l->device_round, ++round);
        g_assert_true(noticed || l->device_noticed);
        g_assert_cmpint(shadow_ring_take(ring, &token, &raw_len), ==,
                        SHADOW_RING_OK);
    }
}

static void test_litmus(const void *data)
{
    Litmus l = { .h = harness_new(data) };
    QemuThread device;

    qemu_thread_create(&device, "device", litmus_device, &l,
                       QEMU_THREAD_JOINABLE);
    litmus_driver(&l);
    qemu_thread_join(&device);
    harness_free(l.h);
}

static void steady_state(RingHarness *h)
{
    MockRequest *fetched = &h->fetched;
    ShadowRingBuf buf = { .addr = 0x1000, .len = 1 };
    ShadowRingChain chain = { .bufs = &buf, .num_in = 1 };
    uint32_t raw_len;
    void *token;

    count_malloc_start();
    for (unsigned i = 0; i < 1000; i++) {
        shadow_ring_add(h->ring, &chain, h);
        shadow_ring_publish(h->ring);
        shadow_ring_should_kick(h->ring);
        mock_device_fetch(&h->device, fetched);
        mock_device_use(&h->device, fetched->id, 0);
        mock_device_publish(&h->device);
        shadow_ring_suppress_calls(h->ring);
        g_assert_cmpint(shadow_ring_take(h->ring, &token, &raw_len), ==,
                        SHADOW_RING_OK);
        shadow_ring_arm_calls(h->ring);
    }
    g_assert_cmpuint(count_malloc_stop(), ==, 0);
}

static void test_steady_state(const void *format)
{
    if (!count_malloc_works()) {
        g_test_skip("allocations cannot be counted here");
        return;
    }
    harness_run_matrix(GPOINTER_TO_UINT(format), steady_state);
}

static void add_thread_tests(const RingParams *params)
{
    g_autofree char *path = g_strdup_printf(
        "/shadow-ring/%s/no-notification-is-lost/size-%u/%s",
        harness_format_name(params->format), params->size,
        params->event_idx ? "event-idx" : "flags");
    g_autofree char *litmus = g_strdup_printf("%s/at-once", path);

    g_test_add_data_func(path, params, test_threads);
    if (params->size == 1) {
        g_test_add_data_func(litmus, params, test_litmus);
    }
}

int main(int argc, char **argv)
{
    static RingParams params[] = {
        { .format = SHADOW_RING_SPLIT, .size = 1 },
        { .format = SHADOW_RING_SPLIT, .size = 1, .event_idx = true },
        { .format = SHADOW_RING_SPLIT, .size = 16 },
        { .format = SHADOW_RING_SPLIT, .size = 16, .event_idx = true },
        { .format = SHADOW_RING_SPLIT, .size = 256, .event_idx = true },
        { .format = SHADOW_RING_PACKED, .size = 1 },
        { .format = SHADOW_RING_PACKED, .size = 1, .event_idx = true },
        { .format = SHADOW_RING_PACKED, .size = 7 },
        { .format = SHADOW_RING_PACKED, .size = 7, .event_idx = true },
        { .format = SHADOW_RING_PACKED, .size = 256, .event_idx = true },
    };

    g_test_init(&argc, &argv, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(params); i++) {
        add_thread_tests(&params[i]);
    }
    g_test_add_data_func("/shadow-ring/split/requests-allocate-nothing",
                         GUINT_TO_POINTER(SHADOW_RING_SPLIT),
                         test_steady_state);
    g_test_add_data_func("/shadow-ring/packed/requests-allocate-nothing",
                         GUINT_TO_POINTER(SHADOW_RING_PACKED),
                         test_steady_state);
    return g_test_run();
}
