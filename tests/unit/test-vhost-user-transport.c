/*
 * The transport of a backend that is not trusted: order, descriptors, log and
 * end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qapi/error.h"
#include "transport-harness.h"

#define PATH "/vhost-user-transport/"

/* Of any message; here nothing is said about what it means. */
#define ASKED 7

/* Of the transport: connections that wait to be closed, lines at once. */
#define MAX_CLOSING 64
#define REPORT_BURST 8

/* Order. */

typedef struct Lie {
    const char *name;
    RigNumber answer;
    size_t size;
    const char *reason;
} Lie;

#define ANSWER (VHOST_USER_MESSAGE_VERSION | VHOST_USER_MESSAGE_ANSWER)
#define LIE(_name, _request, _flags, _size, _reason)               \
    { _name, { { _request, _flags, _size } }, sizeof(RigNumber), _reason }

static const Lie lies[] = {
    LIE("an-answer-of-another-message-is-the-last",
        ASKED + 1, ANSWER, 8, "another message"),
    LIE("an-answer-without-the-flag-is-the-last",
        ASKED, VHOST_USER_MESSAGE_VERSION, 8, "flags"),
    LIE("an-answer-with-one-flag-more-is-the-last",
        ASKED, ANSWER | 8, 8, "flags"),
    LIE("an-answer-of-another-version-is-the-last",
        ASKED, ANSWER ^ 3, 8, "flags"),
    LIE("an-answer-too-long-by-one-is-the-last",
        ASKED, ANSWER, 9, "too long"),
    LIE("an-answer-of-4-gib-is-the-last",
        ASKED, ANSWER, UINT32_MAX, "too long"),
};

static void test_lie(const void *opaque)
{
    const Lie *lie = opaque;
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
    rig_answer(&rig, &lie->answer, lie->size, 0);
    g_assert_cmpint(rig_read(&rig, NULL), ==, -EPROTO);
    rig_assert_refused(&rig, lie->reason);
    g_assert_cmpint(harness_waited(), ==, 0);
    rig_down(&rig);
}

static void test_end_of_half_an_answer(void)
{
    RigNumber answer = rig_number(ASKED, 0);
    Rig rig;

    rig_up(&rig);
    g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
    rig_answer(&rig, &answer, sizeof(answer) - 1, 0);
    shutdown(rig.peer, SHUT_WR);
    g_assert_cmpint(rig_read(&rig, NULL), ==, -EPIPE);
    rig_assert_refused(&rig, "has closed the socket");
    rig_down(&rig);
}

static void test_acknowledgement(void)
{
    RigNumber good = rig_number(ASKED, 0);
    RigNumber bad = rig_number(ASKED, 1);
    Rig rig;

    rig_up(&rig);
    rig_answer(&rig, &good, sizeof(good), 0);
    g_assert_cmpint(vhost_user_transport_request(rig.t, ASKED, "x", 1, -1,
                                                 true), ==, 0);
    rig_answer(&rig, &bad, sizeof(bad), 0);
    g_assert_cmpint(vhost_user_transport_request(rig.t, ASKED, NULL, 0, -1,
                                                 true), ==, -EIO);
    g_assert_cmpint(vhost_user_transport_request(rig.t, ASKED, NULL, 0, -1,
                                                 false), ==, 0);
    g_assert_cmpint(harness_waited(), ==, 0);
    rig_down(&rig);
}

/* Descriptors. */

static void test_descriptors_are_closed_elsewhere(void)
{
    RigNumber answer = rig_number(ASKED, 0);
    Rig rig;

    rig_up(&rig);
    harness_hold_closing(true);
    g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
    rig_answer(&rig, &answer, sizeof(answer), 253);
    /* It returns although nothing can be closed. */
    g_assert_cmpint(rig_read(&rig, NULL), ==, -EPROTO);
    rig_assert_refused(&rig, "descriptors that nobody asked for");
    g_assert_cmpuint(harness_closed_here(), ==, 0);
    rig_free(&rig);
    harness_hold_closing(false);
    /* The socket itself too. */
    harness_wait_closed(254);
}

static void test_who_hinders_closing_gets_no_connection(void)
{
    Error *err = NULL;
    RigNumber answer = rig_number(ASKED, 0);
    Rig rig;

    rig_up(&rig);
    harness_hold_closing(true);
    g_assert_cmpint(rig_ask(&rig, ASKED), ==, 0);
    rig_answer(&rig, &answer, sizeof(answer), MAX_CLOSING + 2);
    g_assert_cmpint(rig_read(&rig, NULL), ==, -EPROTO);
    harness_turn();
    rig_plug(&rig);
    g_assert_false(vhost_user_transport_begin(rig.t, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "closing descriptors"));
    error_free(err);
    harness_hold_closing(false);
    harness_wait_closed(MAX_CLOSING + 3);
    g_assert_true(vhost_user_transport_begin(rig.t, &error_abort));
    rig_down(&rig);
}

/* Log. */

static void test_a_few_lines(void)
{
    const char *last;
    Rig rig;

    rig_up(&rig);
    for (unsigned i = 0; i < 1000; i++) {
        vhost_user_transport_report(rig.t, "line %u", i);
    }
    g_assert_cmpuint(harness_lines(&last), ==, REPORT_BURST);
    g_assert_nonnull(strstr(last, "line 7"));
    harness_pass(2 * NANOSECONDS_PER_SECOND - 1);
    vhost_user_transport_report(rig.t, "too early");
    g_assert_cmpuint(harness_lines(NULL), ==, REPORT_BURST);
    harness_pass(SCALE_MS);
    vhost_user_transport_report(rig.t, "again");
    /* And how many were left out. */
    g_assert_cmpuint(harness_lines(&last), ==, REPORT_BURST + 2);
    g_assert_nonnull(strstr(last, "again"));
    harness_pass(2 * NANOSECONDS_PER_SECOND);
    vhost_user_transport_report(rig.t, "last");
    g_assert_cmpuint(harness_lines(NULL), ==, REPORT_BURST + 3);
    rig_down(&rig);
}

/* End. */

static void test_disconnect_comes_later(void)
{
    Rig rig;

    rig_up(&rig);
    vhost_user_transport_fail(rig.t, -EPROTO, "it did this");
    vhost_user_transport_fail(rig.t, -EPROTO, "it did that");
    /* The device is not told while its own frames may be on the stack. */
    g_assert_cmpuint(rig.num_closed, ==, 0);
    g_assert_cmpuint(harness_lines(NULL), ==, 1);
    harness_turn();
    g_assert_cmpuint(rig.num_closed, ==, 1);
    rig_assert_refused(&rig, "it did this");
    rig_down(&rig);
}

static void test_another_connection_stays(void)
{
    Rig rig;

    rig_up(&rig);
    vhost_user_transport_end(rig.t);
    /* The chardev is faster, and has another. */
    qemu_chr_fe_disconnect(&rig.be);
    rig_plug(&rig);
    g_assert_cmpuint(rig.num_closed, ==, 1);
    harness_turn();
    g_assert_cmpuint(rig.num_closed, ==, 1);
    g_assert_true(vhost_user_transport_begin(rig.t, &error_abort));
    g_assert_true(vhost_user_transport_alive(rig.t));
    rig_down(&rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        g_autofree char *path = g_strdup_printf(PATH "order/%s",
                                                lies[i].name);

        g_test_add_data_func(path, &lies[i], test_lie);
    }
    g_test_add_func(PATH "order/the-end-of-half-an-answer-is-noticed",
                    test_end_of_half_an_answer);
    g_test_add_func(PATH "order/an-acknowledgement-can-be-a-refusal",
                    test_acknowledgement);
    g_test_add_func(PATH "descriptors/are-closed-in-another-thread",
                    test_descriptors_are_closed_elsewhere);
    g_test_add_func(PATH "descriptors/who-hinders-closing-is-not-connected",
                    test_who_hinders_closing_gets_no_connection);
    g_test_add_func(PATH "log/has-a-few-lines-in-some-seconds",
                    test_a_few_lines);
    g_test_add_func(PATH "end/the-chardev-is-disconnected-later",
                    test_disconnect_comes_later);
    g_test_add_func(PATH "end/another-connection-stays",
                    test_another_connection_stays);
    return g_test_run();
}
