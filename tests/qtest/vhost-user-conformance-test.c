/*
 * What guests may do, tried on devices with isolation, without, and inside.
 *
 * Every device in every mode has a process of its own, which does one case
 * after the other in one machine and says what each saw.  A case that ends the
 * machine, or does not end itself, ends that process: then another one goes on
 * behind it.
 *
 * With isolation QEMU must not end, and every case must see what it saw before;
 * only over what it finds in a payload may a backend end, and not be there
 * when the device is reset.  Without, and for QEMU's own devices, what happens
 * is noted and nothing else.
 *
 * CONFORMANCE_BLK and so on are commands of backends; see conformance.h.
 * CONFORMANCE_EXPECT names a file with what each case said before, and
 * CONFORMANCE_OUT one that it is written to: case, mode and outcome, with tabs
 * in between.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/resource.h>
#include "conformance.h"

enum { CASE_SECONDS = 120 };

static const CaseTable *const tables[] = {
    &conformance_registers, &conformance_legacy, &conformance_steps,
    &conformance_chains, &conformance_rings, &conformance_requests,
};

static const char *const mode_names[] = { "on", "off", "inside" };

typedef struct Run {
    const Kind *kind;
    Mode mode;
    bool packed;
} Run;

/* Case, mode -> outcome, as before. */
static GHashTable *expectations;
static FILE *out;

static char *case_name(const Run *run, const CaseTable *table, const Case *c)
{
    return g_strdup_printf("%s/%s/%s/%s", run->kind->name,
                           run->packed ? "packed" : "split", table->name,
                           c->name);
}

static bool applies(const Run *run, const CaseTable *table, const Case *c)
{
    if (table == &conformance_legacy) {
        return run->kind->legacy && !run->packed;
    }
    /* What is not about rings need not be done for both formats. */
    if (table == &conformance_registers) {
        return !run->packed;
    }
    return !(run->packed ? c->split : c->packed);
}

static const char *expected(const Run *run, const char *name)
{
    g_autofree char *key = g_strdup_printf("%s\t%s", name,
                                           mode_names[run->mode]);

    return g_hash_table_lookup(expectations, key);
}

/* The child */

static Rig *new_rig(const Run *run, const char *dir)
{
    Rig *r = g_new0(Rig, 1);

    r->kind = run->kind;
    r->mode = run->mode;
    r->packed = run->packed;
    r->dir = dir;
    return r;
}

static const char *run_case(Rig *r, const Case *c)
{
    const char *what = c->run(r, c);

    if (!what) {
        what = rig_wait(r);
    }
    return rig_backend_lives(r) ? what : BACKEND_ENDS;
}

/* The backend is gone, or goes now; others may be lost and not gone. */
static const char *why_lost(Rig *r, const char *what)
{
    for (unsigned i = 0; r->mode == MODE_ON && i < 2000; i++) {
        if (!rig_backend_lives(r)) {
            return BACKEND_ENDS;
        }
        g_usleep(1000);
    }
    return what;
}

/* One line for each case from number @first on. */
static void child(const Run *run, const char *dir, unsigned first, FILE *to)
{
    Rig *r = new_rig(run, dir);
    unsigned number = 0;
    bool there = rig_start(r);

    for (unsigned t = 0; t < G_N_ELEMENTS(tables); t++) {
        for (unsigned i = 0; i < tables[t]->num; i++, number++) {
            const Case *c = &tables[t]->cases[i];
            g_autofree char *name = case_name(run, tables[t], c);
            const char *what;

            if (number < first || !applies(run, tables[t], c)) {
                continue;
            }
            fprintf(to, "%u\t%s\t", number, name);
            fflush(to);
            if (!there) {
                fprintf(to, ABSENT "\n");
                continue;
            }
            alarm(CASE_SECONDS);
            r->expected = expected(run, name);
            what = run_case(r, c);
            if (rig_recovers(r)) {
                fprintf(to, "%s\n", what);
                continue;
            }
            what = why_lost(r, what);
            fprintf(to, "%s%s\n", what,
                    g_str_equal(what, BACKEND_ENDS) ? "" : LOST);
            rig_end(r);
            there = rig_start(r);
        }
    }
    rig_end(r);
    fflush(to);
    _exit(0);
}

/* The parent */

static void note(const Run *run, const char *name, const char *what)
{
    const char *before = expected(run, name);
    bool bad = strstr(what, QEMU_ENDS) || strstr(what, HANGS) ||
               (strstr(what, LOST) && !before);

    if (out) {
        fprintf(out, "%s\t%s\t%s\n", name, mode_names[run->mode], what);
        fflush(out);
    }
    if (run->mode != MODE_ON) {
        return;
    }
    if (bad || (before && !g_str_equal(before, what))) {
        g_test_message("%s: %s, not %s", name, what, before ?: "that");
        g_test_fail();
    }
}

/* Which case was begun and not ended; or none, and the child was content. */
static bool read_lines(const Run *run, FILE *from, unsigned *last,
                       char **open_name)
{
    g_autofree char *line = NULL;
    size_t room = 0;

    g_clear_pointer(open_name, g_free);
    while (getline(&line, &room, from) > 0) {
        g_auto(GStrv) words = g_strsplit(g_strchomp(line), "\t", 3);

        g_assert_cmpint(sscanf(words[0], "%u", last), ==, 1);
        if (words[1] && words[2] && *words[2]) {
            note(run, words[1], words[2]);
            g_clear_pointer(open_name, g_free);
        } else {
            g_free(*open_name);
            *open_name = g_strdup(words[1]);
        }
    }
    return *open_name;
}

static int start_child(const Run *run, const char *dir, unsigned first,
                       pid_t *pid)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    fflush(NULL);
    *pid = fork();
    g_assert_cmpint(*pid, >=, 0);
    if (*pid == 0) {
        struct rlimit none = { 0, 0 };
        g_autofree char *log = g_strdup_printf("%s/log", dir);
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        setrlimit(RLIMIT_CORE, &none);
        dup2(fd, 1);
        dup2(fd, 2);
        close(fds[0]);
        fcntl(fds[1], F_SETFD, FD_CLOEXEC);
        child(run, dir, first, fdopen(fds[1], "w"));
    }
    close(fds[1]);
    return fds[0];
}

static void remove_files(const char *dir)
{
    GDir *open_dir = g_dir_open(dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(open_dir))) {
        g_autofree char *path = g_strdup_printf("%s/%s", dir, name);

        unlink(path);
    }
    g_dir_close(open_dir);
    rmdir(dir);
}

/* What QEMU, the backend and the case had to say. */
static void show_log(const char *dir)
{
    g_autofree char *path = g_strdup_printf("%s/log", dir);
    g_autofree char *text = NULL;
    size_t len;

    if (g_file_get_contents(path, &text, &len, NULL)) {
        g_test_message("%s", text + (len > 2000 ? len - 2000 : 0));
    }
}

static void test_run(const void *opaque)
{
    const Run *run = opaque;
    g_autofree char *dir = g_dir_make_tmp("conformance-XXXXXX", NULL);
    g_autofree char *open_name = NULL;
    unsigned first = 0;
    bool again = true;

    g_assert_nonnull(dir);
    if (run->mode != MODE_INSIDE && !getenv(run->kind->backend)) {
        g_test_skip("there is no command of a backend");
        again = false;
    }
    while (again) {
        unsigned last = first;
        pid_t pid;
        FILE *from = fdopen(start_child(run, dir, first, &pid), "r");
        int status;

        again = read_lines(run, from, &last, &open_name);
        fclose(from);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (again) {
            note(run, open_name, WIFSIGNALED(status) &&
                 WTERMSIG(status) == SIGALRM ? HANGS : QEMU_ENDS);
            show_log(dir);
            first = last + 1;
        } else if (status) {
            g_test_message("the machine does not start: %d", status);
            show_log(dir);
            g_test_fail();
        }
    }
    remove_files(dir);
}

/*
 * A request that ends its backend is sent again to the next one, since nobody
 * knows that it was the request.  When the guest resets the device, it is gone.
 */
static void test_comes_back(const void *opaque)
{
    const Kind *kind = opaque;
    g_autofree char *dir = NULL;
    Rig *r;

    if (!getenv(kind->backend)) {
        g_test_skip("there is no command of a backend");
        return;
    }
    dir = g_dir_make_tmp("conformance-XXXXXX", NULL);
    r = new_rig(&(Run) { kind, MODE_ON, false }, dir);
    g_assert_true(rig_start(r));
    rig_init(r);
    rig_offer_one_byte(r);
    r->expected = BACKEND_ENDS;
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpstr(rig_wait(r), ==, BACKEND_ENDS);
        g_assert_true(rig_start_backend(r));
    }
    g_assert_cmpstr(rig_wait(r), ==, BACKEND_ENDS);
    rig_set_status(r, 0);
    g_assert_true(rig_start_backend(r));
    g_assert_true(rig_recovers(r));
    rig_end(r);
    remove_files(dir);
    g_free(r);
}

static void read_expectations(void)
{
    const char *path = getenv("CONFORMANCE_EXPECT");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    expectations = g_hash_table_new(g_str_hash, g_str_equal);
    if (!path) {
        return;
    }
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *tab = strrchr(*line, '\t');

        if (tab) {
            g_hash_table_insert(expectations,
                                g_strndup(*line, tab - *line),
                                g_strdup(tab + 1));
        }
    }
}

static void add_runs(const Kind *kind)
{
    for (Mode mode = 0; mode < MODE__MAX; mode++) {
        for (int packed = 0; packed < 2; packed++) {
            Run *run = g_new(Run, 1);
            g_autofree char *path = g_strdup_printf(
                "/conformance/%s/%s/%s", kind->name, mode_names[mode],
                packed ? "packed" : "split");

            *run = (Run) { kind, mode, packed };
            qtest_add_data_func_full(path, run, test_run, g_free);
        }
    }
}

int main(int argc, char **argv)
{
    const char *path = getenv("CONFORMANCE_OUT");

    g_test_init(&argc, &argv, NULL);
    read_expectations();
    out = path ? fopen(path, "a") : NULL;
    for (unsigned i = 0; i < conformance_num_kinds; i++) {
        add_runs(&conformance_kinds[i]);
    }
    /* The one that both ends over a short request and is connected again. */
    for (unsigned i = 0; i < conformance_num_kinds; i++) {
        if (g_str_equal(conformance_kinds[i].name, "scsi")) {
            qtest_add_data_func("/conformance/scsi/comes-back-after-a-request-"
                                "that-ends-its-backend",
                                &conformance_kinds[i], test_comes_back);
        }
    }
    return g_test_run();
}
