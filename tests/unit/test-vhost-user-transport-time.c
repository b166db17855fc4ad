/*
 * The transport of a backend that is not trusted: how long QEMU waits for it.
 *
 * No time is real: a backend that sleeps costs none, and a slow machine
 * changes nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qapi/error.h"
#include "transport-sources.h"
/* Of wait_budget_left(), too. */
#define qemu_clock_get_ns harness_clock_get_ns
#include "transport-harness.h"

#define PATH "/vhost-user-transport/"

/* Of any message; here nothing is said about what it means. */
#define ASKED 7

static void test_silence(void)
{
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
    g_assert_cmpint(rig_read(&rig, NULL), ==, -ETIMEDOUT);
    g_assert_cmpint(harness_waited(), ==, RIG_LIMIT_NS);
    g_assert_cmpuint(vhost_user_transport_waited(rig.t), ==, RIG_LIMIT_NS);
    rig_assert_refused(&rig, "did not answer within");
    rig_down(&rig);
}

typedef struct Slow {
    Rig *rig;
    RigNumber answer;
    size_t said;
    size_t step;
    int64_t ns;
} Slow;

/* @step bytes each @ns. */
static int64_t say_slowly(void *opaque, int64_t left_ns)
{
    Slow *slow = opaque;
    size_t size = MIN(slow->step, sizeof(slow->answer) - slow->said);

    if (slow->ns <= left_ns && size) {
        rig_answer(slow->rig, (uint8_t *)&slow->answer + slow->said, size, 0);
        slow->said += size;
    }
    return slow->ns;
}

static int ask_slow(Rig *rig, size_t step, int64_t ns, uint64_t *number)
{
    Slow slow = {
        .rig = rig,
        .answer = rig_number(ASKED, 0x1234),
        .step = step,
        .ns = ns,
    };
    int ret = rig_ask(rig, ASKED);

    if (ret == 0) {
        harness_on_wait(say_slowly, &slow);
        ret = rig_read(rig, number);
        harness_on_wait(NULL, NULL);
    }
    return ret;
}

static void test_bytes_share_one_limit(void)
{
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(ask_slow(&rig, 1, RIG_LIMIT_NS / 10, NULL), ==,
                    -ETIMEDOUT);
    g_assert_cmpint(harness_waited(), ==, RIG_LIMIT_NS);
    rig_assert_refused(&rig, "did not answer within");
    rig_down(&rig);
}

static void test_bytes_within_the_limit(void)
{
    uint64_t number = 0;
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(ask_slow(&rig, 1, RIG_LIMIT_NS / 21, &number), ==, 0);
    g_assert_cmphex(number, ==, 0x1234);
    g_assert_true(vhost_user_transport_alive(rig.t));
    g_assert_cmpuint(harness_lines(NULL), ==, 0);
    rig_down(&rig);
}

/* Each of them within the limit. */
static void test_late_answers_have_a_budget(void)
{
    const int64_t late = RIG_LIMIT_NS / 10 * 9;
    unsigned answers = 0;
    Rig rig;

    rig_up(&rig);
    while (ask_slow(&rig, SIZE_MAX, late, NULL) == 0) {
        answers++;
        g_assert_cmpuint(answers, <=, VHOST_USER_TRANSPORT_LATE + 1);
    }
    g_assert_cmpuint(answers, ==, VHOST_USER_TRANSPORT_LATE);
    /* What comes back meanwhile is a thirtieth. */
    g_assert_cmpint(harness_waited(), <=,
                    VHOST_USER_TRANSPORT_LATE * RIG_LIMIT_NS / 10 * 11);
    rig_assert_refused(&rig, "too often");
    rig_down(&rig);
}

static void test_budget_survives_reconnects(void)
{
    Rig rig;

    rig_up(&rig);
    for (unsigned i = 0; i < 20; i++) {
        g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
        g_assert_cmpint(rig_read(&rig, NULL), ==, -ETIMEDOUT);
        rig_connect(&rig);
    }
    g_assert_cmpint(harness_waited(), <=,
                    VHOST_USER_TRANSPORT_LATE * RIG_LIMIT_NS / 10 * 11);
    rig_down(&rig);
}

static void test_budget_comes_back(void)
{
    Rig rig;

    rig_up(&rig);
    for (unsigned i = 0; i < VHOST_USER_TRANSPORT_LATE + 1; i++) {
        g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
        g_assert_cmpint(rig_read(&rig, NULL), ==, -ETIMEDOUT);
        rig_connect(&rig);
    }
    harness_pass(VHOST_USER_TRANSPORT_WINDOW_S * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(ask_slow(&rig, SIZE_MAX, RIG_LIMIT_NS / 2, NULL), ==, 0);
    rig_down(&rig);
}

/* A backend that takes all that it can get, for ten windows. */
static void test_any_window_has_a_limit(void)
{
    const int64_t window = VHOST_USER_TRANSPORT_WINDOW_S *
                           NANOSECONDS_PER_SECOND;
    int64_t waited[11 * VHOST_USER_TRANSPORT_WINDOW_S] = { };
    WaitBudget budget;

    harness_reset();
    wait_budget_init(&budget, VHOST_USER_TRANSPORT_LATE * RIG_LIMIT_NS,
                     window);
    for (unsigned s = 0; s < ARRAY_SIZE(waited); s++) {
        /* It saves its budget for a while, now and then. */
        bool saves = s / VHOST_USER_TRANSPORT_WINDOW_S % 3 == 0;
        int64_t left = 0;

        if (!saves) {
            left = MIN(wait_budget_left(&budget), RIG_LIMIT_NS);
            wait_budget_spend(&budget, left);
        }
        waited[s] = left;
        harness_pass(NANOSECONDS_PER_SECOND);
    }
    for (unsigned s = VHOST_USER_TRANSPORT_WINDOW_S; s < ARRAY_SIZE(waited);
         s++) {
        int64_t sum = 0;

        for (unsigned i = 0; i < VHOST_USER_TRANSPORT_WINDOW_S; i++) {
            sum += waited[s - i];
        }
        g_assert_cmpint(sum, <=, 2 * VHOST_USER_TRANSPORT_LATE * RIG_LIMIT_NS);
    }
}

/* Until the socket is full. */
static int fill(Rig *rig)
{
    int ret = 0;

    for (unsigned i = 0; i < 10000 && ret == 0; i++) {
        ret = rig_ask(rig, ASKED);
    }
    return ret;
}

static void test_peer_that_does_not_read(void)
{
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(fill(&rig), ==, -ETIMEDOUT);
    g_assert_cmpint(harness_waited(), ==, RIG_LIMIT_NS);
    g_assert_nonnull(strstr(vhost_user_transport_why(rig.t),
                            "did not answer within"));
    rig_down(&rig);
}

typedef struct Reader {
    int fd;
    uint8_t bytes[65536];
    size_t size;
} Reader;

static int64_t read_late(void *opaque, int64_t left_ns)
{
    Reader *reader = opaque;
    ssize_t len = recv(reader->fd, reader->bytes + reader->size, 1000,
                       MSG_DONTWAIT);

    reader->size += MAX(len, 0);
    return SCALE_MS;
}

static void test_peer_that_reads_late(void)
{
    g_autofree Reader *reader = g_new0(Reader, 1);
    uint8_t msg[40000];
    Rig rig;

    rig_up(&rig);
    reader->fd = rig.peer;
    for (size_t i = 0; i < sizeof(msg); i++) {
        msg[i] = i % 251;
    }
    harness_on_wait(read_late, reader);
    g_assert_cmpint(vhost_user_transport_write(rig.t, msg, sizeof(msg), NULL,
                                               0), ==, 0);
    for (unsigned i = 0; i < 1000 && reader->size < sizeof(msg); i++) {
        read_late(reader, 0);
    }
    g_assert_cmpmem(reader->bytes, reader->size, msg, sizeof(msg));
    g_assert_cmpint(harness_waited(), >, 0);
    rig_down(&rig);
}

/* A pipe is waited for as long as for an answer, and all of it twice that. */
static void test_pipe(void)
{
    int64_t begun;
    Error *err = NULL;
    int fds[2];
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(pipe(fds), ==, 0);
    begun = 1000 * NANOSECONDS_PER_SECOND;
    g_assert_cmpint(write(fds[1], "", 1), ==, 1);
    g_assert_true(vhost_user_transport_wait(rig.t, fds[0], G_IO_IN, begun,
                                            &error_abort));
    g_assert_cmpint(harness_waited(), ==, 0);
    /* There are bytes each time, and it does not end. */
    harness_pass(VHOST_USER_TRANSPORT_LATE * RIG_LIMIT_NS);
    g_assert_false(vhost_user_transport_wait(rig.t, fds[0], G_IO_IN, begun,
                                             &err));
    error_free_or_abort(&err);
    rig_assert_refused(&rig, "did not answer within");
    close(fds[0]);
    close(fds[1]);
    rig_down(&rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    g_test_add_func(PATH "time/silence-has-a-limit", test_silence);
    g_test_add_func(PATH "time/bytes-of-an-answer-share-one-limit",
                    test_bytes_share_one_limit);
    g_test_add_func(PATH "time/bytes-within-the-limit-are-an-answer",
                    test_bytes_within_the_limit);
    g_test_add_func(PATH "time/late-answers-have-a-budget",
                    test_late_answers_have_a_budget);
    g_test_add_func(PATH "time/the-budget-survives-reconnects",
                    test_budget_survives_reconnects);
    g_test_add_func(PATH "time/the-budget-comes-back", test_budget_comes_back);
    g_test_add_func(PATH "time/any-window-has-a-limit",
                    test_any_window_has_a_limit);
    g_test_add_func(PATH "time/a-peer-that-does-not-read-has-the-same-limit",
                    test_peer_that_does_not_read);
    g_test_add_func(PATH "time/a-peer-that-reads-late-gets-all-of-it",
                    test_peer_that_reads_late);
    g_test_add_func(PATH "time/a-pipe-has-a-limit", test_pipe);
    return g_test_run();
}
