/*
 * Bounce region, span allocator and layout.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/resource.h>
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/memfd.h"
#include "count-malloc.h"
#include "hw/virtio/bounce.h"

#define START (3 * BOUNCE_ALIGN_MAX)
#define SIZE (64 * BOUNCE_ALIGN_MAX)
#define MAX_SPANS 100

typedef struct Span {
    uint64_t offset;
    uint64_t size;
} Span;

/* What is held, granule by granule, and what ever was. */
typedef struct Model {
    BouncePool *pool;
    unsigned long *held;
    unsigned long *ever;
    Span spans[MAX_SPANS];
    unsigned num_spans;
    uint64_t bytes;
} Model;

static Model *model_new(void)
{
    Model *m = g_new0(Model, 1);

    m->pool = bounce_pool_new(START, SIZE, MAX_SPANS);
    m->held = bitmap_new(SIZE / BOUNCE_GRANULE);
    m->ever = bitmap_new(SIZE / BOUNCE_GRANULE);
    return m;
}

static void model_free(Model *m)
{
    bounce_pool_free(m->pool);
    g_free(m->held);
    g_free(m->ever);
    g_free(m);
}

static void model_check(const Model *m)
{
    bounce_pool_check(m->pool);
    g_assert_cmpuint(bounce_pool_held(m->pool), ==, m->bytes);
    g_assert_cmpuint(bounce_pool_size(m->pool), ==, SIZE);
}

/* Is there a hole for it?  Whatever order spans came back in. */
static bool model_has_hole(const Model *m, uint64_t num, uint32_t align)
{
    unsigned step = align / BOUNCE_GRANULE;

    for (uint64_t i = 0; i + num <= SIZE / BOUNCE_GRANULE; i += step) {
        if (find_next_bit(m->held, i + num, i) >= i + num) {
            return true;
        }
    }
    return false;
}

static bool model_take(Model *m, uint64_t size, uint32_t align)
{
    uint64_t num = DIV_ROUND_UP(size, BOUNCE_GRANULE);
    bool expected = m->num_spans < MAX_SPANS && model_has_hole(m, num, align);
    uint64_t offset;
    uint64_t first;
    bool fresh;

    g_assert_cmpint(bounce_pool_take(m->pool, size, align, &offset, &fresh),
                    ==, expected);
    if (!expected) {
        return false;
    }
    g_assert_cmpuint(offset % align, ==, 0);
    g_assert_cmpuint(offset, >=, START);
    g_assert_cmpuint(offset + size, <=, START + SIZE);
    first = (offset - START) / BOUNCE_GRANULE;
    g_assert_cmpuint(find_next_bit(m->held, first + num, first), >=,
                     first + num);
    if (fresh) {
        g_assert_cmpuint(find_next_bit(m->ever, first + num, first), >=,
                         first + num);
    }
    bitmap_set(m->held, first, num);
    bitmap_set(m->ever, first, num);
    m->spans[m->num_spans++] = (Span) { offset, size };
    m->bytes += num * BOUNCE_GRANULE;
    return true;
}

static void model_give(Model *m, unsigned i)
{
    Span span = m->spans[i];
    uint64_t num = DIV_ROUND_UP(span.size, BOUNCE_GRANULE);

    bounce_pool_give(m->pool, span.offset, span.size);
    bitmap_clear(m->held, (span.offset - START) / BOUNCE_GRANULE, num);
    m->spans[i] = m->spans[--m->num_spans];
    m->bytes -= num * BOUNCE_GRANULE;
}

static void model_clear(void *opaque, uint64_t offset, uint64_t size)
{
    Model *m = opaque;
    uint64_t first = (offset - START) / BOUNCE_GRANULE;
    uint64_t num = size / BOUNCE_GRANULE;

    g_assert_cmpuint(size % BOUNCE_GRANULE, ==, 0);
    g_assert_cmpuint(find_next_bit(m->held, first + num, first), >=,
                     first + num);
    bitmap_clear(m->ever, first, num);
}

/* All that was ever held is either held now or cleared. */
static void model_trim(Model *m)
{
    bounce_pool_trim(m->pool, model_clear, m);
    for (unsigned i = 0; i < SIZE / BOUNCE_GRANULE; i++) {
        g_assert_true(!test_bit(i, m->ever) || test_bit(i, m->held));
    }
}

static uint32_t random_align(void)
{
    return g_test_rand_bit() ? BOUNCE_GRANULE : BOUNCE_ALIGN_MAX;
}

static void test_random(void)
{
    for (unsigned round = 0; round < 60; round++) {
        Model *m = model_new();
        /* Small spans fill the array of extents, large ones the share. */
        uint64_t max = BOUNCE_GRANULE << (round % 8);

        for (unsigned i = 0; i < 3000; i++) {
            /* Phases that rather fill and phases that rather empty. */
            if (g_test_rand_int_range(0, 8) < (i / 300 % 2 ? 5 : 3)) {
                model_take(m, g_test_rand_int_range(1, max + 1),
                           random_align());
            } else if (m->num_spans) {
                model_give(m, g_test_rand_int_range(0, m->num_spans));
            }
            if (g_test_rand_int_range(0, 50) == 0) {
                model_trim(m);
            }
            model_check(m);
        }
        while (m->num_spans) {
            model_give(m, 0);
        }
        /* All of it is one piece again. */
        g_assert_true(model_take(m, SIZE, BOUNCE_ALIGN_MAX));
        model_check(m);
        model_free(m);
    }
}

/* As many extents as there can be: every other span comes back. */
static void test_fragmented(void)
{
    Model *m = model_new();

    while (model_take(m, BOUNCE_GRANULE, BOUNCE_GRANULE)) {
        continue;
    }
    g_assert_cmpuint(m->num_spans, ==, MAX_SPANS);
    for (unsigned i = 0; i < m->num_spans; i++) {
        model_give(m, i);
    }
    model_check(m);
    g_assert_true(model_take(m, SIZE - MAX_SPANS * BOUNCE_GRANULE -
                             BOUNCE_ALIGN_MAX, BOUNCE_ALIGN_MAX));
    g_assert_true(model_take(m, 3 * BOUNCE_GRANULE, BOUNCE_GRANULE));
    model_check(m);
    model_free(m);
}

static void test_lifo(void)
{
    BouncePool *pool = bounce_pool_new(0, SIZE, MAX_SPANS);
    uint64_t offset[3];
    uint64_t again;
    bool fresh;

    for (unsigned i = 0; i < 3; i++) {
        g_assert_true(bounce_pool_take(pool, 4096, 4096, &offset[i], &fresh));
        g_assert_true(fresh);
    }
    bounce_pool_give(pool, offset[1], 4096);
    bounce_pool_give(pool, offset[0], 4096);
    bounce_pool_give(pool, offset[2], 4096);
    for (unsigned i = 0; i < 3; i++) {
        static const unsigned order[] = { 2, 0, 1 };

        g_assert_true(bounce_pool_take(pool, 4096, 512, &again, &fresh));
        g_assert_cmpuint(again, ==, offset[order[i]]);
        g_assert_false(fresh);
    }
    bounce_pool_free(pool);
}

/* More than the stack holds, and the size is not at its top. */
static void test_tail_untouched(void)
{
    BouncePool *pool = bounce_pool_new(0, SIZE, MAX_SPANS);
    uint64_t offset;
    uint64_t high = 0;
    bool fresh;

    for (unsigned i = 0; i < 1000; i++) {
        Span span[8];

        for (unsigned j = 0; j < ARRAY_SIZE(span); j++) {
            span[j].size = 512 * (1 + j % 3);
            g_assert_true(bounce_pool_take(pool, span[j].size, 512, &offset,
                                           &fresh));
            span[j].offset = offset;
            high = MAX(high, offset + span[j].size);
        }
        for (unsigned j = 0; j < ARRAY_SIZE(span); j++) {
            bounce_pool_give(pool, span[j].offset, span[j].size);
        }
        bounce_pool_check(pool);
    }
    /* 8 spans of 1, 2, 3 granules: nothing but the first round's. */
    g_assert_cmpuint(high, ==, 512 * (1 + 2 + 3 + 1 + 2 + 3 + 1 + 2));
    bounce_pool_free(pool);
}

static void test_exhausted(void)
{
    BouncePool *pool = bounce_pool_new(0, 8192, 3);
    uint64_t a, b, c, d;
    bool fresh;

    g_assert_false(bounce_pool_take(pool, 8193, 512, &a, &fresh));
    g_assert_false(bounce_pool_take(pool, UINT64_MAX, 512, &a, &fresh));
    g_assert_true(bounce_pool_take(pool, 8192, 4096, &a, &fresh));
    g_assert_false(bounce_pool_take(pool, 1, 512, &b, &fresh));
    bounce_pool_give(pool, a, 8192);

    g_assert_true(bounce_pool_take(pool, 1, 512, &a, &fresh));
    g_assert_cmpuint(bounce_pool_held(pool), ==, 512);
    g_assert_true(bounce_pool_take(pool, 513, 4096, &b, &fresh));
    g_assert_cmpuint(bounce_pool_held(pool), ==, 512 + 1024);
    g_assert_true(bounce_pool_take(pool, 1, 512, &c, &fresh));
    /* There is room, but not for a fourth span. */
    g_assert_false(bounce_pool_take(pool, 1, 512, &d, &fresh));
    bounce_pool_give(pool, b, 513);
    g_assert_true(bounce_pool_take(pool, 1, 512, &d, &fresh));
    bounce_pool_check(pool);
    bounce_pool_free(pool);
}

static void test_steady_state(void)
{
    BouncePool *pool = bounce_pool_new(0, SIZE, MAX_SPANS);
    Span span[10];
    bool fresh;

    if (!count_malloc_works()) {
        g_test_skip("allocations cannot be counted here");
        bounce_pool_free(pool);
        return;
    }
    count_malloc_start();
    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(span); j++) {
            span[j].size = 1 + (i * 977 + j * 3001) % 9000;
            g_assert_true(bounce_pool_take(pool, span[j].size, 512,
                                           &span[j].offset, &fresh));
        }
        for (unsigned j = 0; j < ARRAY_SIZE(span); j++) {
            bounce_pool_give(pool, span[j].offset, span[j].size);
        }
    }
    g_assert_cmpuint(count_malloc_stop(), ==, 0);
    bounce_pool_free(pool);
}

static void test_layout(void)
{
    BounceLayout l;

    bounce_layout_init(&l);
    g_assert_cmpuint(l.bytes, ==, 0);
    g_assert_cmpuint(l.align, ==, BOUNCE_GRANULE);

    g_assert_cmpuint(bounce_layout_place(&l, 0x7000, 511), ==, 0);
    g_assert_cmpuint(l.align, ==, 512);
    g_assert_cmpuint(bounce_layout_place(&l, 0x7003, 1), ==, 512);
    g_assert_cmpuint(bounce_layout_place(&l, 0x7003, 600), ==, 528);
    g_assert_cmpuint(bounce_layout_place(&l, 0x7200, 512), ==, 1536);
    g_assert_cmpuint(l.align, ==, 512);
    g_assert_cmpuint(bounce_layout_place(&l, 0x7000, 512), ==, 4096);
    g_assert_cmpuint(l.align, ==, 4096);
    g_assert_cmpuint(l.bytes, ==, 4608);
    g_assert_cmpuint(bounce_layout_place(&l, 0, UINT32_MAX), ==, 8192);
    g_assert_cmpuint(bounce_layout_place(&l, 1, 1), ==, 8192 + (1ULL << 32));
}

static void test_region_sealed(void)
{
    BounceRegion *r = bounce_region_new(1, &error_abort);
    int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

    g_assert_cmpuint(r->size, ==, BOUNCE_REGION_UNIT);
    g_assert_cmpint(fcntl(r->fd, F_GET_SEALS), ==, seals);
    g_assert_cmpint(ftruncate(r->fd, 0), ==, -1);
    g_assert_cmpint(ftruncate(r->fd, 2 * r->size), ==, -1);
    g_assert_cmpint(fcntl(r->fd, F_ADD_SEALS, F_SEAL_WRITE), ==, -1);
    bounce_region_free(r);
}

static void test_region_freed(void)
{
    BounceRegion *r = bounce_region_new(1, &error_abort);
    uint8_t *host = r->host;
    int fd = r->fd;

    bounce_region_free(r);
    g_assert_cmpint(msync(host, BOUNCE_REGION_UNIT, MS_ASYNC), ==, -1);
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
    bounce_region_free(NULL);
}

static void test_region_zero(void)
{
    BounceRegion *r = bounce_region_new(2 * BOUNCE_REGION_UNIT - 1,
                                        &error_abort);
    struct stat st;
    uint8_t byte = 0x5a;

    g_assert_cmpuint(r->size, ==, 2 * BOUNCE_REGION_UNIT);
    g_assert_true(buffer_is_zero(r->host, r->size));
    g_assert_cmpint(pwrite(r->fd, &byte, 1, r->size - 1), ==, 1);
    g_assert_cmphex(r->host[r->size - 1], ==, 0x5a);
    bounce_region_free(r);

    /* Nothing is resident before it is touched. */
    r = bounce_region_new(1 * GiB, &error_abort);
    g_assert_cmpint(fstat(r->fd, &st), ==, 0);
    g_assert_cmpint(st.st_blocks, ==, 0);
    bounce_region_free(r);
}

/* Bytes that share a page with what is cleared keep their content. */
static void test_region_cleared(void)
{
    BounceRegion *r = bounce_region_new(1, &error_abort);
    size_t page = qemu_real_host_page_size();
    size_t start = page + BOUNCE_GRANULE;
    size_t size = 4 * page;
    struct stat before, after;

    memset(r->host, 0x5a, 8 * page);
    g_assert_cmpint(fstat(r->fd, &before), ==, 0);
    bounce_region_clear(r, start, size);
    g_assert_cmpint(fstat(r->fd, &after), ==, 0);
    g_assert_cmpint(after.st_blocks * 512, ==,
                    before.st_blocks * 512 - 3 * page);
    g_assert_true(buffer_is_zero(r->host + start, size));
    g_assert_cmphex(r->host[start - 1], ==, 0x5a);
    g_assert_cmphex(r->host[start + size], ==, 0x5a);
    bounce_region_free(r);
}

static bool apart(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a + a_size <= b || b + b_size <= a;
}

static void test_region_addresses(void)
{
    uint64_t old_guest = 0;
    uint64_t old_user = 0;
    uint64_t old_size = 0;

    /* More than there are epochs. */
    for (unsigned i = 0; i < 1100; i++) {
        BounceRegion *r = bounce_region_new(BOUNCE_REGION_UNIT, &error_abort);

        g_assert_cmpuint(r->guest_base % BOUNCE_REGION_UNIT, ==, 0);
        g_assert_cmpuint(r->user_base % BOUNCE_REGION_UNIT, ==, 0);
        g_assert_cmphex(r->guest_base, >=, 1ULL << 40);
        g_assert_cmphex(r->user_base + r->size, <=, 1ULL << 47);
        g_assert_true(apart(r->guest_base, 32 * GiB, r->user_base, 32 * GiB));
        g_assert_true(apart(r->guest_base, 32 * GiB, old_guest, old_size));
        g_assert_true(apart(r->user_base, 32 * GiB, old_user, old_size));
        g_assert_true(apart(r->guest_base, 32 * GiB, old_user, old_size));
        g_assert_true(r->guest_base != (uintptr_t)r->host);
        g_assert_true(r->user_base != (uintptr_t)r->host);
        old_guest = r->guest_base;
        old_user = r->user_base;
        old_size = 32 * GiB;
        bounce_region_free(r);
    }
}

static void expect_refused(uint64_t size, const char *why)
{
    Error *err = NULL;

    g_assert_null(bounce_region_new(size, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "memory-isolation"));
    g_assert_nonnull(strstr(error_get_pretty(err), why));
    error_free(err);
}

static void test_region_refused(void)
{
    expect_refused(0, "32 GiB");
    expect_refused(32 * GiB + 1, "32 GiB");
    expect_refused(UINT64_MAX, "32 GiB");
}

/* No file can be made: an error that says what wanted it. */
static void test_region_no_file(void)
{
    struct rlimit none = { .rlim_cur = 0 };
    struct rlimit saved;

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &saved), ==, 0);
    none.rlim_max = saved.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    expect_refused(BOUNCE_REGION_UNIT, "memfd");
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &saved), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/bounce/pool/random-spans-never-overlap", test_random);
    g_test_add_func("/bounce/pool/fragments-merge-again", test_fragmented);
    g_test_add_func("/bounce/pool/last-given-is-first-taken", test_lifo);
    g_test_add_func("/bounce/pool/tail-stays-untouched",
                    test_tail_untouched);
    g_test_add_func("/bounce/pool/exhausted-says-no", test_exhausted);
    g_test_add_func("/bounce/pool/requests-allocate-nothing",
                    test_steady_state);
    g_test_add_func("/bounce/layout/large-buffers-keep-their-alignment",
                    test_layout);
    if (qemu_memfd_check(MFD_ALLOW_SEALING)) {
        g_test_add_func("/bounce/region/is-sealed", test_region_sealed);
        g_test_add_func("/bounce/region/cleared-is-zero-and-given-back",
                        test_region_cleared);
        g_test_add_func("/bounce/region/leaves-nothing-behind",
                        test_region_freed);
        g_test_add_func("/bounce/region/is-zero-and-sparse",
                        test_region_zero);
        g_test_add_func("/bounce/region/addresses-are-made-up-and-new",
                        test_region_addresses);
    }
    g_test_add_func("/bounce/region/bad-sizes-are-refused",
                    test_region_refused);
    g_test_add_func("/bounce/region/failure-names-memory-isolation",
                    test_region_no_file);
    return g_test_run();
}
