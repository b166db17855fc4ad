/*
 * What a vhost-user backend was given: is there anything of the guest in it?
 *
 * Each check is of its own, so that a control can show that it still finds
 * what it is for: shared RAM must be found by the same code that must not find
 * private RAM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "isolation-evidence.h"

#define CHUNK MiB
#define NEEDED_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

GuestPattern guest_pattern_fill_at(QTestState *qts, uint64_t ram,
                                   uint64_t size)
{
    g_autofree uint8_t *chunk = g_malloc(CHUNK);
    GuestPattern pattern;

    for (int i = 0; i < sizeof(pattern.bytes); i++) {
        pattern.bytes[i] = g_test_rand_int_range(1, 256);
    }
    for (size_t i = 0; i < CHUNK; i++) {
        chunk[i] = pattern.bytes[i % sizeof(pattern.bytes)];
    }
    for (uint64_t at = 0; at < size; at += CHUNK) {
        qtest_bufwrite(qts, ram + at, chunk, MIN(CHUNK, size - at));
    }
    /* Or the search would be for what is nowhere. */
    qtest_memread(qts, ram + size - sizeof(pattern), chunk, sizeof(pattern));
    g_assert_cmpmem(chunk, sizeof(pattern), pattern.bytes, sizeof(pattern));
    return pattern;
}

GuestPattern guest_pattern_fill(QTestState *qts, uint64_t size)
{
    return guest_pattern_fill_at(qts, 0, size);
}

/* Eventfds have no contents; everything else is searched. */
static bool fd_is_eventfd(int fd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(path, NULL);

    return target && strstr(target, "[eventfd]");
}

static bool fd_contains(int fd, const GuestPattern *pattern)
{
    size_t overlap = sizeof(pattern->bytes) - 1;
    g_autofree uint8_t *chunk = g_malloc(CHUNK + overlap);
    off_t at = 0;

    /* Holes have no pattern in them, and reading would fill them. */
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        ssize_t got = pread(fd, chunk, CHUNK + overlap, at);

        g_assert_cmpint(got, >, 0);
        if (memmem(chunk, got, pattern->bytes, sizeof(pattern->bytes))) {
            return true;
        }
        at += CHUNK;
    }
    g_assert_cmpint(errno, ==, ENXIO);
    return false;
}

static bool breach_pattern(MockBackend *b, const GuestPattern *pattern)
{
    for (unsigned i = 0; i < b->received->len; i++) {
        int fd = g_array_index(b->received, MockReceived, i).fd;

        if (!fd_is_eventfd(fd) && fd_contains(fd, pattern)) {
            return true;
        }
    }
    return false;
}

/* One file for each table, and no more than one table for a connection. */
static bool breach_regions(MockBackend *b)
{
    unsigned num_tables = b->messages[MOCK_SET_MEM_TABLE];
    unsigned num_files = 0;

    for (unsigned i = 0; i < b->received->len; i++) {
        num_files += !fd_is_eventfd(g_array_index(b->received, MockReceived,
                                                  i).fd);
    }
    return b->num_regions != 1 || b->table_fds != 1 ||
           num_files != num_tables || num_tables > b->sessions;
}

static bool breach_file(MockBackend *b)
{
    for (unsigned i = 0; i < b->received->len; i++) {
        int fd = g_array_index(b->received, MockReceived, i).fd;
        struct stat st;

        if (fd_is_eventfd(fd)) {
            continue;
        }
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        if (st.st_size % (2 * MiB)) {
            return true;
        }
        if (i == b->table_received) {
            MockRegion *r = &b->table[0];

            if (r->size != st.st_size || r->file_offset ||
                r->guest_addr % (2 * MiB) || r->user_addr % (2 * MiB)) {
                return true;
            }
        }
    }
    return false;
}

static bool breach_seals(MockBackend *b)
{
    for (unsigned i = 0; i < b->received->len; i++) {
        int fd = g_array_index(b->received, MockReceived, i).fd;

        if (!fd_is_eventfd(fd)) {
            int seals = fcntl(fd, F_GET_SEALS);

            if (seals < 0 || (seals & NEEDED_SEALS) != NEEDED_SEALS) {
                return true;
            }
        }
    }
    return false;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static bool breach_address(MockBackend *b, pid_t qemu)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", qemu);
    g_autofree char *maps = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &maps, NULL, NULL));
    lines = g_strsplit(maps, "\n", -1);
    for (char **line = lines; **line; line++) {
        uint64_t begin, end;

        g_assert_cmpint(sscanf(*line, "%" SCNx64 "-%" SCNx64, &begin, &end),
                        ==, 2);
        for (unsigned i = 0; i < b->num_regions; i++) {
            if (overlap(begin, end - begin, b->table[i].user_addr,
                        b->table[i].size)) {
                return true;
            }
        }
    }
    return false;
}

typedef struct Part {
    uint64_t addr;
    uint64_t bytes;
} Part;

/* The parts of all rings that were set up; returns their number. */
static unsigned ring_parts(MockBackend *b, Part *parts)
{
    unsigned num = 0;

    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        MockQueue *q = &b->queues[n];
        uint64_t bytes[3];

        if (q->addressed) {
            mock_ring_bytes(&q->ring, bytes);
            parts[num++] = (Part) { q->addr.desc_user_addr, bytes[0] };
            parts[num++] = (Part) { q->addr.avail_user_addr, bytes[1] };
            parts[num++] = (Part) { q->addr.used_user_addr, bytes[2] };
        }
    }
    return num;
}

static bool breach_rings(MockBackend *b)
{
    Part parts[3 * MOCK_QUEUES_MAX];
    unsigned num = ring_parts(b, parts);
    const MockRegion *r = &b->table[0];

    for (unsigned i = 0; i < num; i++) {
        uint64_t offset = parts[i].addr - r->user_addr;

        if (parts[i].addr < r->user_addr || offset >= r->size ||
            parts[i].bytes > r->size - offset) {
            return true;
        }
        for (unsigned j = 0; j < i; j++) {
            if (overlap(parts[i].addr, parts[i].bytes,
                        parts[j].addr, parts[j].bytes)) {
                return true;
            }
        }
    }
    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        if (b->queues[n].addr.log_guest_addr || b->queues[n].addr.flags) {
            return true;
        }
    }
    return false;
}

static bool breach_log(MockBackend *b)
{
    return b->messages[MOCK_SET_LOG_BASE] ||
           b->protocol_features & BIT_ULL(MOCK_PROTOCOL_LOG_SHMFD) ||
           b->features & BIT_ULL(MOCK_F_LOG_ALL);
}

unsigned evidence_breaches(MockBackend *b, pid_t qemu,
                           const GuestPattern *pattern)
{
    unsigned breaches = 0;

    g_mutex_lock(&b->lock);
    breaches |= breach_pattern(b, pattern) ? BREACH_PATTERN : 0;
    breaches |= breach_regions(b) ? BREACH_REGIONS : 0;
    breaches |= breach_file(b) ? BREACH_FILE : 0;
    breaches |= breach_seals(b) ? BREACH_SEALS : 0;
    breaches |= breach_address(b, qemu) ? BREACH_ADDRESS : 0;
    breaches |= breach_rings(b) ? BREACH_RINGS : 0;
    breaches |= breach_log(b) ? BREACH_LOG : 0;
    g_mutex_unlock(&b->lock);
    return breaches;
}

void evidence_assert_isolated(MockBackend *b, pid_t qemu,
                              const GuestPattern *pattern)
{
    static const char *const names[] = {
        "pattern", "regions", "file", "seals", "address", "rings", "log",
    };
    unsigned breaches = evidence_breaches(b, qemu, pattern);

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (breaches & BIT(i)) {
            g_test_message("not isolated: %s", names[i]);
        }
    }
    g_assert_cmphex(breaches, ==, 0);
}
