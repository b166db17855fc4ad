/*
 * A shadow ring and a device at full speed, in one thread or in two.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "traffic.h"

/* Only a wake-up that was lost takes that long. */
#define SLEEP_MAX_S 60
#define SPINS 200

static void sleep_until(Bell *bell, const char *who)
{
    int64_t begin = 0;

    for (unsigned spins = 0; !bell_heard(bell); spins++) {
        if (spins < SPINS) {
            continue;
        }
        sched_yield();
        if (spins == SPINS) {
            begin = g_get_monotonic_time();
        } else if (spins % SPINS == 0 && g_get_monotonic_time() - begin >
                   SLEEP_MAX_S * G_USEC_PER_SEC) {
            fprintf(stderr, "the %s sleeps and nobody wakes it\n", who);
            abort();
        }
    }
}

static void run_side(Traffic *t, Turn (*turn)(Traffic *), Bell *bell,
                     const char *who)
{
    Turn result;

    while ((result = turn(t)) != TURN_DONE) {
        if (result == TURN_SLEEPS) {
            sleep_until(bell, who);
        }
    }
}

static gpointer device_thread(gpointer opaque)
{
    Traffic *t = opaque;

    run_side(t, traffic_device_turn, traffic_kicked(t), "device");
    return NULL;
}

static void run_two_threads(Traffic *t)
{
    GThread *thread = g_thread_new("device", device_thread, t);

    run_side(t, traffic_driver_turn, traffic_called(t), "driver");
    traffic_stop(t);
    g_thread_join(thread);
}

/* Either side at random, unless it sleeps. */
static void run_one_thread(Traffic *t, uint32_t seed)
{
    GRand *dice = g_rand_new_with_seed(seed);
    Bell *bells[] = { traffic_called(t), traffic_kicked(t) };
    bool sleeps[] = { false, false };
    Turn turn = TURN_AGAIN;

    while (turn != TURN_DONE) {
        unsigned side = g_rand_int(dice) % 2;

        for (unsigned i = 0; i < 2; i++) {
            sleeps[i] = sleeps[i] && !bell_heard(bells[i]);
        }
        if (sleeps[0] && sleeps[1]) {
            fprintf(stderr, "both sides sleep\n");
            abort();
        }
        side = sleeps[side] ? !side : side;
        turn = side ? traffic_device_turn(t) : traffic_driver_turn(t);
        sleeps[side] = turn == TURN_SLEEPS;
    }
    g_rand_free(dice);
}

int main(int argc, char **argv)
{
    TrafficParams params = { 0 };
    gboolean packed = FALSE, event_idx = FALSE, indirect = FALSE;
    gboolean one_thread = FALSE, in_order = FALSE;
    int size = 256, bufs = 4, seed = 1;
    int64_t num = 1000;
    GOptionEntry options[] = {
        { "packed", 0, 0, G_OPTION_ARG_NONE, &packed, NULL },
        { "event-idx", 0, 0, G_OPTION_ARG_NONE, &event_idx, NULL },
        { "indirect", 0, 0, G_OPTION_ARG_NONE, &indirect, NULL },
        { "one-thread", 0, 0, G_OPTION_ARG_NONE, &one_thread, NULL },
        { "in-order", 0, 0, G_OPTION_ARG_NONE, &in_order, NULL },
        { "size", 0, 0, G_OPTION_ARG_INT, &size, "descriptors" },
        { "bufs", 0, 0, G_OPTION_ARG_INT, &bufs, "of a request, at most" },
        { "num", 0, 0, G_OPTION_ARG_INT64, &num, "requests" },
        { "seed", 0, 0, G_OPTION_ARG_INT, &seed, NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("");
    g_autofree char *report = NULL;
    Traffic *t;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, NULL)) {
        return 2;
    }
    params.config.format = packed ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
    params.config.size = size;
    params.config.event_idx = event_idx;
    params.config.indirect = indirect;
    params.num = num;
    params.in_order = in_order;
    params.max_bufs = MIN(bufs, PEER_BUFS);

    t = traffic_new(&params, seed);
    if (!t) {
        fprintf(stderr, "the device does not take this ring\n");
        return 77;
    }
    if (one_thread) {
        run_one_thread(t, seed);
    } else {
        run_two_threads(t);
    }
    report = traffic_report(t);
    printf("%s\n", report);
    traffic_free(t);
    return 0;
}
