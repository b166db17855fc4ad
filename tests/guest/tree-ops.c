/*
 * A tree of small and large files, made, changed and checked.
 *
 * What the tree holds follows from the number of files and the stage alone, so
 * the guest that made it through a device and the host that finds it in its own
 * file system check the same thing: names, sizes, contents, links, extended
 * attributes, and that there is nothing else.
 *
 *     tree-ops make DIR       files in eight folders, with attributes
 *     tree-ops change DIR     rename, unlink, rewrite, link some of them
 *     tree-ops check DIR      compare; --stage 0 as made, 1 as changed
 *     tree-ops many DIR       one folder with --files entries: each is listed
 *                             once and has its size; they are removed again
 *
 * Options: --files N, --stage N, --xattrs 0|1.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "random.h"

#define FOLDERS 8
#define LARGE (1u << 20)
#define SMALL 6000
#define ATTRIBUTE "user.number"

/* What happens to file number i in "change": i % 7. */
enum { LEFT, REMOVED, RENAMED, REWRITTEN, LINKED, RELABELLED, POINTED_AT };

static uint64_t num_files;
static unsigned stage;
static bool xattrs;
static uint8_t buffer[LARGE], right[LARGE];

static unsigned fate(uint64_t i)
{
    return stage ? i % 7 : LEFT;
}

static uint64_t file_size(uint64_t i, bool rewritten)
{
    uint64_t random = scramble(i * 2 + rewritten);

    return i % 16 ? random % SMALL : LARGE / 4 + random % (LARGE * 3 / 4);
}

static void name_of(char *out, uint64_t folder, char letter, uint64_t i)
{
    sprintf(out, "d%" PRIu64 "/%c%05" PRIu64, folder % FOLDERS, letter, i);
}

static void own_name(char *out, uint64_t i)
{
    if (fate(i) == RENAMED) {
        name_of(out, i + 3, 'r', i);
    } else {
        name_of(out, i, 'f', i);
    }
}

/* Making */

static void write_file(const char *name, uint64_t i, bool rewritten)
{
    uint64_t size = file_size(i, rewritten);
    int fd = must(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0640), name);

    fill_from(buffer, size, i * 2 + rewritten);
    if (write(fd, buffer, size) != (ssize_t)size) {
        die("TREE %s: short write", name);
    }
    must(close(fd), name);
}

static void label(const char *name, const char *format, uint64_t i)
{
    char value[32];

    if (xattrs) {
        int length = snprintf(value, sizeof(value), format, i);

        must(setxattr(name, ATTRIBUTE, value, length, 0), "TREE setxattr");
    }
}

static void make(void)
{
    char name[64];

    for (unsigned i = 0; i < FOLDERS; i++) {
        sprintf(name, "d%u", i);
        must(mkdir(name, 0755), name);
    }
    for (uint64_t i = 0; i < num_files; i++) {
        own_name(name, i);
        write_file(name, i, false);
        label(name, "made %" PRIu64, i);
    }
}

static void change_file(uint64_t i)
{
    char name[64], other[64];

    name_of(name, i, 'f', i);
    switch (i % 7) {
    case REMOVED:
        must(unlink(name), name);
        break;
    case RENAMED:
        name_of(other, i + 3, 'r', i);
        must(rename(name, other), other);
        break;
    case REWRITTEN:
        write_file(name, i, true);
        break;
    case LINKED:
        name_of(other, i + 1, 'l', i);
        must(link(name, other), other);
        break;
    case RELABELLED:
        label(name, "changed %" PRIu64, i);
        break;
    case POINTED_AT:
        name_of(other, i, 's', i);
        must(symlink(name, other), other);
        break;
    }
}

/* Checking */

static void check_content(const char *name, uint64_t i, bool rewritten)
{
    uint64_t size = file_size(i, rewritten);
    int fd = must(open(name, O_RDONLY), name);
    ssize_t got = must(read(fd, buffer, LARGE), name);

    fill_from(right, size, i * 2 + rewritten);
    if ((uint64_t)got != size || memcmp(buffer, right, size)) {
        errno = 0;
        die("TREE mismatch in %s: %zd bytes, wanted %" PRIu64, name, got,
            size);
    }
    close(fd);
}

static void check_label(const char *name, const char *format, uint64_t i)
{
    char value[32], wanted[32];
    ssize_t length;

    if (!xattrs) {
        return;
    }
    snprintf(wanted, sizeof(wanted), format, i);
    length = must(getxattr(name, ATTRIBUTE, value, sizeof(value)), name);
    if ((size_t)length != strlen(wanted) || memcmp(value, wanted, length)) {
        errno = 0;
        die("TREE attribute of %s is '%.*s', not '%s'", name, (int)length,
            value, wanted);
    }
}

/* Number of names that belong to file @i. */
static unsigned check_file(uint64_t i)
{
    char name[64], other[64], target[64];
    ssize_t length;

    own_name(name, i);
    if (fate(i) == REMOVED) {
        if (access(name, F_OK) == 0) {
            die("TREE %s is still there", name);
        }
        return 0;
    }
    check_content(name, i, fate(i) == REWRITTEN);
    check_label(name, fate(i) == RELABELLED ? "changed %" PRIu64
                                            : "made %" PRIu64, i);
    switch (fate(i)) {
    case LINKED:
        name_of(other, i + 1, 'l', i);
        check_content(other, i, false);
        return 2;
    case POINTED_AT:
        name_of(other, i, 's', i);
        length = must(readlink(other, target, sizeof(target)), other);
        if ((size_t)length != strlen(name) || memcmp(target, name, length)) {
            die("TREE %s points elsewhere", other);
        }
        return 2;
    }
    return 1;
}

static uint64_t count_entries(const char *folder)
{
    uint64_t count = 0;
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (!dir) {
        die("TREE %s", folder);
    }
    while ((entry = readdir(dir))) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static void check(void)
{
    uint64_t wanted = 0, found = 0;
    char name[16];

    for (uint64_t i = 0; i < num_files; i++) {
        wanted += check_file(i);
    }
    for (unsigned i = 0; i < FOLDERS; i++) {
        sprintf(name, "d%u", i);
        found += count_entries(name);
    }
    if (wanted != found) {
        errno = 0;
        die("TREE has %" PRIu64 " entries, not %" PRIu64, found, wanted);
    }
}

/* One large folder */

static void make_many(void)
{
    char name[64];

    must(mkdir("many", 0755), "many");
    for (uint64_t i = 0; i < num_files; i++) {
        int fd;

        /* Long names, so that a listing takes many replies. */
        sprintf(name, "many/entry-with-a-rather-long-name-%05" PRIu64, i);
        fd = must(open(name, O_CREAT | O_WRONLY | O_EXCL, 0644), name);
        must(ftruncate(fd, i), name);
        close(fd);
    }
}

static void list_many(void)
{
    uint8_t *seen = calloc(num_files + 1, 1);
    DIR *dir = opendir("many");
    struct dirent *entry;
    uint64_t count = 0;
    struct stat st;

    if (!dir || !seen) {
        die("TREE many");
    }
    while ((entry = readdir(dir))) {
        uint64_t i;

        if (entry->d_name[0] == '.') {
            continue;
        }
        i = strtoull(strrchr(entry->d_name, '-') + 1, NULL, 10);
        must(fstatat(dirfd(dir), entry->d_name, &st, 0), entry->d_name);
        if (i >= num_files || seen[i] || (uint64_t)st.st_size != i) {
            errno = 0;
            die("TREE %s: twice, unknown, or %jd bytes long", entry->d_name,
                (intmax_t)st.st_size);
        }
        seen[i] = 1;
        count++;
    }
    closedir(dir);
    free(seen);
    if (count != num_files) {
        errno = 0;
        die("TREE lists %" PRIu64 " entries, not %" PRIu64, count, num_files);
    }
}

static void remove_many(void)
{
    char name[64];

    for (uint64_t i = 0; i < num_files; i++) {
        sprintf(name, "many/entry-with-a-rather-long-name-%05" PRIu64, i);
        must(unlink(name), name);
    }
    must(rmdir("many"), "many");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        die("usage: tree-ops make|change|check|many DIR [--files N] "
            "[--stage 0|1] [--xattrs 0|1]");
    }
    num_files = option(argv, "--files", 200);
    stage = option(argv, "--stage", 0);
    xattrs = option(argv, "--xattrs", 1);
    must(chdir(argv[2]), argv[2]);
    if (!strcmp(argv[1], "make")) {
        make();
    } else if (!strcmp(argv[1], "change")) {
        for (uint64_t i = 0; i < num_files; i++) {
            change_file(i);
        }
    } else if (!strcmp(argv[1], "check")) {
        check();
    } else if (!strcmp(argv[1], "many")) {
        make_many();
        list_many();
        remove_many();
    }
    printf("TREE ok %s\n", argv[1]);
    return 0;
}
