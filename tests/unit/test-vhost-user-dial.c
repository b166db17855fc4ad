/*
 * How the backend of a device that is being made is found, and how often one
 * may come back.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <sys/un.h>
#include "qemu/config-file.h"
#include "qemu/sockets.h"
#include "qapi/error.h"
#include "chardev/char-socket.h"
#include "system/system.h"
#include "transport-harness.h"

#define PATH "/vhost-user-dial/"

/* Connections that are taken at once, and until the next one. */
#define BURST 16
#define EVERY_NS (NANOSECONDS_PER_SECOND / 2)

/* Ends what hangs; nothing waits as long. */
#define LONG_MS (10 * 60 * 1000)

/**
 * Line - a chardev, and where it leads
 * @listener: a socket that nobody accepts from unless the test does
 */
typedef struct Line {
    char *folder;
    char *path;
    int listener;
    Chardev *chr;
    CharFrontend be;
} Line;

/* With @backlog connections that wait. */
static int listen_at(const char *path, int backlog)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = qemu_socket(PF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, backlog), ==, 0);
    return fd;
}

/* A chardev that was connected once, as that of a device that was unplugged. */
static void line_up(Line *line)
{
    g_autofree char *to = NULL;
    int fd;

    harness_reset();
    *line = (Line) { .folder = g_dir_make_tmp("dial-XXXXXX", NULL) };
    line->path = g_build_filename(line->folder, "socket", NULL);
    line->listener = listen_at(line->path, 0);
    to = g_strdup_printf("unix:%s", line->path);
    line->chr = qemu_chr_new("line", to, NULL);
    g_assert_nonnull(line->chr);
    qemu_chr_fe_init(&line->be, line->chr, &error_abort);
    fd = accept(line->listener, NULL, NULL);
    g_assert_cmpint(fd, >=, 0);
    qemu_chr_fe_disconnect(&line->be);
    close(fd);
}

static void line_down(Line *line)
{
    qemu_chr_fe_deinit(&line->be, true);
    close(line->listener);
    unlink(line->path);
    rmdir(line->folder);
    g_free(line->path);
    g_free(line->folder);
}

static bool line_connected(const Line *line)
{
    return SOCKET_CHARDEV(line->chr)->state == TCP_CHARDEV_STATE_CONNECTED;
}

static void test_connected(void)
{
    Line line;
    int fd;

    line_up(&line);
    g_assert_false(line_connected(&line));
    g_assert_true(vhost_user_dial(&line.be, LONG_MS, &error_abort));
    g_assert_true(line_connected(&line));
    fd = accept(line.listener, NULL, NULL);
    /* There is nothing to be done any more. */
    g_assert_true(vhost_user_dial(&line.be, LONG_MS, &error_abort));
    close(fd);
    line_down(&line);
}

static void test_before_the_machine_runs(void)
{
    Line line;
    int fd;

    line_up(&line);
    harness_machine_ready(false);
    g_assert_true(vhost_user_dial(&line.be, 0, &error_abort));
    g_assert_true(line_connected(&line));
    fd = accept(line.listener, NULL, NULL);
    close(fd);
    line_down(&line);
}

static void assert_fails(Line *line, uint32_t timeout_ms, const char *why)
{
    Error *err = NULL;

    g_assert_false(vhost_user_dial(&line->be, timeout_ms, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), why));
    error_free(err);
    g_assert_false(line_connected(line));
}

static void test_nobody_is_there(void)
{
    Line line;

    line_up(&line);
    unlink(line.path);
    assert_fails(&line, LONG_MS, "Failed to connect");
    line_down(&line);
}

/*
 * A queue of one is full: connect() waits, in a thread that is left behind,
 * and what it gets later it closes.
 */
static void test_queue_is_full(void)
{
    int first = qemu_socket(PF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    char byte;
    Line line;
    int fd;

    line_up(&line);
    g_strlcpy(addr.sun_path, line.path, sizeof(addr.sun_path));
    g_assert_cmpint(connect(first, (struct sockaddr *)&addr, sizeof(addr)),
                    ==, 0);
    assert_fails(&line, 1, "did not take the connection");
    fd = accept(line.listener, NULL, NULL);
    close(fd);
    fd = accept(line.listener, NULL, NULL);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 0);
    close(fd);
    close(first);
    line_down(&line);
}

static void test_listening_chardev(void)
{
    g_autofree char *folder = g_dir_make_tmp("dial-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "socket", NULL);
    g_autofree char *to = g_strdup_printf("unix:%s,server=on,wait=off", path);
    Line line = { };

    harness_reset();
    line.chr = qemu_chr_new("listening", to, NULL);
    qemu_chr_fe_init(&line.be, line.chr, &error_abort);
    assert_fails(&line, LONG_MS, "start it before the device is added");
    qemu_chr_fe_deinit(&line.be, true);
    unlink(path);
    rmdir(folder);
}

static void test_no_socket(void)
{
    Error *err = NULL;
    Chardev *chr;
    CharFrontend be = { };

    harness_reset();
    chr = qemu_chr_new("null", "null", NULL);
    qemu_chr_fe_init(&be, chr, &error_abort);
    g_assert_false(vhost_user_dial(&be, LONG_MS, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "type socket"));
    error_free(err);
    qemu_chr_fe_deinit(&be, true);
}

/* A device that counts the connections that it may use. */
typedef struct Taker {
    Line line;
    VhostUserPace *pace;
    unsigned taken;
} Taker;

static void taker_event(void *opaque, QEMUChrEvent event)
{
    Taker *taker = opaque;

    if (event == CHR_EVENT_OPENED && !vhost_user_pace_rests(taker->pace)) {
        taker->taken++;
    }
}

static void taker_up(Taker *taker)
{
    *taker = (Taker) { };
    line_up(&taker->line);
    taker->pace = vhost_user_pace_new(&taker->line.be);
    qemu_chr_fe_set_handlers(&taker->line.be, NULL, NULL, taker_event, NULL,
                             taker, NULL, true);
}

static void taker_down(Taker *taker)
{
    vhost_user_pace_free(taker->pace);
    line_down(&taker->line);
}

static void taker_connect(Taker *taker)
{
    int fd;

    g_assert_true(vhost_user_dial(&taker->line.be, LONG_MS, &error_abort));
    fd = accept(taker->line.listener, NULL, NULL);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
}

static void taker_flood(Taker *taker)
{
    for (unsigned i = 0; i < 10 * BURST; i++) {
        taker_connect(taker);
        qemu_chr_fe_disconnect(&taker->line.be);
    }
}

static void test_who_comes_too_often_rests(void)
{
    Taker taker;

    taker_up(&taker);
    taker_flood(&taker);
    g_assert_cmpuint(taker.taken, ==, BURST);
    /* The device hears again of one that stays. */
    taker_connect(&taker);
    g_assert_cmpuint(taker.taken, ==, BURST);
    harness_pass(EVERY_NS - 1);
    g_assert_cmpuint(taker.taken, ==, BURST);
    harness_pass(1);
    g_assert_cmpuint(taker.taken, ==, BURST + 1);
    taker_down(&taker);
}

/* There is nobody then; the next one that comes is taken. */
static void test_who_rests_may_go(void)
{
    Taker taker;

    taker_up(&taker);
    taker_flood(&taker);
    harness_pass(EVERY_NS);
    g_assert_cmpuint(taker.taken, ==, BURST);
    taker_connect(&taker);
    g_assert_cmpuint(taker.taken, ==, BURST + 1);
    qemu_chr_fe_disconnect(&taker.line.be);
    harness_pass(10 * BURST * EVERY_NS);
    taker_flood(&taker);
    g_assert_cmpuint(taker.taken, ==, 2 * BURST + 1);
    taker_down(&taker);
}

/* The device was never told of it. */
static void test_who_rests_leaves_with_the_device(void)
{
    Taker taker;

    taker_up(&taker);
    taker_flood(&taker);
    taker_connect(&taker);
    g_assert_true(qemu_chr_fe_backend_open(&taker.line.be));
    qemu_chr_fe_set_handlers(&taker.line.be, NULL, NULL, NULL, NULL, NULL,
                             NULL, false);
    vhost_user_pace_free(taker.pace);
    g_assert_false(qemu_chr_fe_backend_open(&taker.line.be));
    line_down(&taker.line);
}

static void test_nobody_rests_before_the_machine_runs(void)
{
    Taker taker;

    taker_up(&taker);
    harness_machine_ready(false);
    taker_flood(&taker);
    g_assert_cmpuint(taker.taken, ==, 10 * BURST);
    taker_down(&taker);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    qemu_add_opts(&qemu_chardev_opts);
    g_test_add_func(PATH "a-chardev-is-connected-once", test_connected);
    g_test_add_func(PATH "before-the-machine-runs-it-takes-what-it-takes",
                    test_before_the_machine_runs);
    g_test_add_func(PATH "nobody-there-is-an-error", test_nobody_is_there);
    g_test_add_func(PATH "a-full-queue-is-left-behind", test_queue_is_full);
    g_test_add_func(PATH "a-listening-chardev-is-not-waited-for",
                    test_listening_chardev);
    g_test_add_func(PATH "another-chardev-is-refused", test_no_socket);
    g_test_add_func(PATH "who-comes-too-often-rests",
                    test_who_comes_too_often_rests);
    g_test_add_func(PATH "who-rests-may-go", test_who_rests_may_go);
    g_test_add_func(PATH "who-rests-leaves-with-the-device",
                    test_who_rests_leaves_with_the_device);
    g_test_add_func(PATH "nobody-rests-before-the-machine-runs",
                    test_nobody_rests_before_the_machine_runs);
    return g_test_run();
}
