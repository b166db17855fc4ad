/*
 * Messages that a backend sends by itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qapi/error.h"
#include "transport-harness.h"

#define PATH "/vhost-user-channel/"

/* Of the vhost-user specification. */
#define SET_BACKEND_REQ_FD 21
#define CONFIG_CHANGE 2
#define VRING_CALL 4

/* Of the channel. */
#define BURST 16
#define REST_MS 100
#define MAX_PAYLOAD 1024

/**
 * Ears - a rig with a channel
 * @end: the backend's end of it
 * @num_changed: times that the device was told of a new configuration
 */
typedef struct Ears {
    Rig rig;
    VhostUserChannel *ch;
    int end;
    unsigned num_changed;
} Ears;

typedef struct QEMU_PACKED Answer {
    VhostUserMessage header;
    uint64_t refused;
} Answer;

static void on_changed(void *opaque)
{
    Ears *ears = opaque;

    ears->num_changed++;
}

/* The end that came with the message. */
static int take_end(int peer)
{
    char control[CMSG_SPACE(sizeof(int))];
    VhostUserMessage request;
    struct iovec iov = { .iov_base = &request, .iov_len = sizeof(request) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    int fd;

    g_assert_cmpint(recvmsg(peer, &msg, 0), ==, sizeof(request));
    g_assert_cmpuint(request.request, ==, SET_BACKEND_REQ_FD);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    return fd;
}

static void ears_up(Ears *ears)
{
    *ears = (Ears) { };
    rig_up(&ears->rig);
    ears->ch = vhost_user_channel_new(ears->rig.t, false, on_changed, ears);
    g_assert_nonnull(ears->ch);
    ears->end = take_end(ears->rig.peer);
}

static void ears_down(Ears *ears)
{
    close(ears->end);
    vhost_user_channel_free(ears->ch);
    rig_down(&ears->rig);
}

static bool ears_alive(const Ears *ears)
{
    return vhost_user_transport_alive(ears->rig.t);
}

static void say_message(Ears *ears, uint32_t request, uint32_t flags,
                        uint32_t size)
{
    uint8_t msg[sizeof(VhostUserMessage) + MAX_PAYLOAD + 1] = { };

    *(VhostUserMessage *)msg = (VhostUserMessage) {
        .request = request,
        .flags = VHOST_USER_MESSAGE_VERSION | flags,
        .size = size,
    };
    rig_say(ears->end, msg,
            sizeof(VhostUserMessage) + MIN(size, MAX_PAYLOAD + 1), 0);
}

static bool hear_answer(Ears *ears, Answer *answer)
{
    return recv(ears->end, answer, sizeof(*answer), MSG_DONTWAIT) ==
           sizeof(*answer);
}

static void test_change(void)
{
    Ears ears;
    Answer answer;

    ears_up(&ears);
    say_message(&ears, CONFIG_CHANGE, 0, 0);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 1);
    g_assert_false(hear_answer(&ears, &answer));
    say_message(&ears, CONFIG_CHANGE, VHOST_USER_MESSAGE_WANTS_ANSWER, 0);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 2);
    g_assert_true(hear_answer(&ears, &answer));
    g_assert_cmpuint(answer.refused, ==, 0);
    g_assert_cmpuint(answer.header.request, ==, CONFIG_CHANGE);
    g_assert_cmpuint(answer.header.flags, ==, VHOST_USER_MESSAGE_VERSION |
                                              VHOST_USER_MESSAGE_ANSWER);
    g_assert_cmpuint(answer.header.size, ==, sizeof(answer.refused));
    ears_down(&ears);
}

/* A byte at a time, and nothing waits for the next one. */
static void test_pieces(void)
{
    const VhostUserMessage header = {
        .request = CONFIG_CHANGE,
        .flags = VHOST_USER_MESSAGE_VERSION,
        .size = 5,
    };
    uint8_t msg[sizeof(header) + 5] = { };
    Ears ears;

    ears_up(&ears);
    memcpy(msg, &header, sizeof(header));
    for (size_t i = 0; i < sizeof(msg); i++) {
        g_assert_cmpuint(ears.num_changed, ==, 0);
        rig_say(ears.end, &msg[i], 1, 0);
        harness_turn();
    }
    g_assert_cmpuint(ears.num_changed, ==, 1);
    g_assert_cmpint(harness_waited(), ==, 0);
    ears_down(&ears);
}

static void test_others_are_refused(void)
{
    const char *last;
    Answer answer;
    Ears ears;

    ears_up(&ears);
    say_message(&ears, VRING_CALL, VHOST_USER_MESSAGE_WANTS_ANSWER, 8);
    harness_turn();
    g_assert_true(hear_answer(&ears, &answer));
    g_assert_cmpuint(answer.refused, ==, 1);
    g_assert_cmpuint(answer.header.request, ==, VRING_CALL);
    g_assert_cmpuint(harness_lines(&last), ==, 1);
    g_assert_nonnull(strstr(last, "message 4 is refused"));
    /* And the next one is understood. */
    say_message(&ears, CONFIG_CHANGE, 0, 0);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 1);
    g_assert_true(ears_alive(&ears));
    ears_down(&ears);
}

static void test_longest(void)
{
    Ears ears;

    ears_up(&ears);
    say_message(&ears, CONFIG_CHANGE, 0, MAX_PAYLOAD);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 1);
    g_assert_true(ears_alive(&ears));
    say_message(&ears, CONFIG_CHANGE, 0, MAX_PAYLOAD + 1);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 1);
    rig_assert_refused(&ears.rig, "too long");
    ears_down(&ears);
}

static void test_descriptors(void)
{
    Ears ears;

    ears_up(&ears);
    rig_say(ears.end, "", 1, 253);
    harness_turn();
    rig_assert_refused(&ears.rig, "descriptors that nobody asked for");
    harness_settle();
    ears_down(&ears);
}

static void test_burst(void)
{
    Answer answer;
    Ears ears;

    ears_up(&ears);
    for (unsigned i = 0; i < 2 * BURST; i++) {
        say_message(&ears, VRING_CALL, VHOST_USER_MESSAGE_WANTS_ANSWER, 0);
    }
    for (unsigned i = 0; i < 4 * BURST; i++) {
        harness_turn();
    }
    for (unsigned i = 0; i < BURST; i++) {
        g_assert_true(hear_answer(&ears, &answer));
    }
    g_assert_false(hear_answer(&ears, &answer));
    harness_pass(REST_MS * (int64_t)SCALE_MS - 1);
    harness_turn();
    g_assert_false(hear_answer(&ears, &answer));
    harness_pass(SCALE_MS);
    harness_turn();
    g_assert_true(hear_answer(&ears, &answer));
    ears_down(&ears);
}

/* Nothing here waits for a backend that asks and does not listen. */
static void test_unread_answers(void)
{
    int small = 1;
    Ears ears;

    ears_up(&ears);
    setsockopt(ears.end, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (unsigned i = 0; i < 100000 && ears_alive(&ears); i++) {
        say_message(&ears, VRING_CALL, VHOST_USER_MESSAGE_WANTS_ANSWER, 0);
        harness_turn();
        harness_pass(REST_MS * (int64_t)SCALE_MS);
    }
    g_assert_cmpint(harness_waited(), ==, 0);
    rig_assert_refused(&ears.rig, "does not read the answers");
    ears_down(&ears);
}

/* It may do without; what it has said still holds. */
static void test_closed_end(void)
{
    Ears ears;

    ears_up(&ears);
    say_message(&ears, CONFIG_CHANGE, VHOST_USER_MESSAGE_WANTS_ANSWER, 0);
    close(ears.end);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 1);
    g_assert_true(ears_alive(&ears));
    g_assert_cmpuint(harness_lines(NULL), ==, 0);
    ears.end = open("/dev/null", O_RDONLY);
    ears_down(&ears);
}

static void test_freed(void)
{
    Ears ears;

    ears_up(&ears);
    say_message(&ears, CONFIG_CHANGE, 0, 0);
    vhost_user_channel_free(ears.ch);
    ears.ch = NULL;
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 0);
    ears_down(&ears);
}

static void test_dead_connection(void)
{
    Ears ears;

    ears_up(&ears);
    vhost_user_transport_end(ears.rig.t);
    say_message(&ears, CONFIG_CHANGE, 0, 0);
    harness_turn();
    g_assert_cmpuint(ears.num_changed, ==, 0);
    ears_down(&ears);
}

static void test_unwanted(void)
{
    RigNumber no = rig_number(SET_BACKEND_REQ_FD, 1);
    Rig rig;

    rig_up(&rig);
    rig_answer(&rig, &no, sizeof(no), 0);
    g_assert_null(vhost_user_channel_new(rig.t, true, on_changed, NULL));
    rig_assert_refused(&rig, "refused the channel");
    rig_down(&rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    g_test_add_func(PATH "a-change-is-told-and-acknowledged", test_change);
    g_test_add_func(PATH "a-message-may-come-in-pieces", test_pieces);
    g_test_add_func(PATH "other-messages-are-refused", test_others_are_refused);
    g_test_add_func(PATH "a-message-has-a-longest-size", test_longest);
    g_test_add_func(PATH "descriptors-end-the-connection", test_descriptors);
    g_test_add_func(PATH "nobody-listens-after-a-burst", test_burst);
    g_test_add_func(PATH "who-reads-no-answers-is-disconnected",
                    test_unread_answers);
    g_test_add_func(PATH "its-end-is-not-that-of-the-connection",
                    test_closed_end);
    g_test_add_func(PATH "nothing-is-told-once-it-is-freed", test_freed);
    g_test_add_func(PATH "it-dies-with-its-connection", test_dead_connection);
    g_test_add_func(PATH "a-backend-can-refuse-it", test_unwanted);
    return g_test_run();
}
