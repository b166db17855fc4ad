/*
 * Feature bits of memory isolation: who is told what.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "standard-headers/linux/vhost_types.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_ring.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-user-isolation-internal.h"

#define ALL UINT64_MAX
#define SOCKET BIT_ULL(VHOST_USER_F_PROTOCOL_FEATURES)
#define VERSION_1 BIT_ULL(VIRTIO_F_VERSION_1)
#define ANY_LAYOUT BIT_ULL(VIRTIO_F_ANY_LAYOUT)
#define EVENT_IDX BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define DEVICE_BITS (~MAKE_64BIT_MASK(24, 26))

/* The guest must find the same ring features behind every backend. */
static void test_guest_sees_no_backend_ring(void)
{
    uint64_t payload = VERSION_1 | ANY_LAYOUT | SOCKET;
    uint64_t none = isolation_offered_features(ALL, payload);
    uint64_t all = isolation_offered_features(ALL, ALL & ~DEVICE_BITS);

    g_assert_cmphex(none, ==, all);
    g_assert_true(none & BIT_ULL(VIRTIO_F_RING_PACKED));
    g_assert_true(none & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM));
    g_assert_false(none & BIT_ULL(VIRTIO_F_IN_ORDER));
    g_assert_false(none & BIT_ULL(VIRTIO_F_RING_RESET));
    g_assert_false(none & BIT_ULL(VIRTIO_F_NOTIFICATION_DATA));
    g_assert_false(none & BIT_ULL(VHOST_F_LOG_ALL));
}

static void test_payload_bits_follow_backend(void)
{
    g_assert_cmphex(isolation_offered_features(ALL, 0) & DEVICE_BITS, ==, 0);
    g_assert_cmphex(isolation_offered_features(ALL, ALL) & DEVICE_BITS, ==,
                    DEVICE_BITS);
    g_assert_false(isolation_offered_features(ALL, 0) &
                   (VERSION_1 | ANY_LAYOUT));
    g_assert_true(isolation_offered_features(ALL, VERSION_1) & VERSION_1);
}

/* Whatever the guest acknowledges about its ring, the backend is not told. */
static void test_backend_is_told_of_no_guest_ring(void)
{
    uint64_t told = isolation_payload_features(VIRTIO_ID_NET, ALL, 0);

    g_assert_cmphex(told & ~DEVICE_BITS, ==, VERSION_1 | ANY_LAYOUT);
    g_assert_cmphex(told & DEVICE_BITS, ==, DEVICE_BITS);
    g_assert_cmphex(isolation_payload_features(VIRTIO_ID_NET, 0, ALL), ==, 0);
}

/* Of what the driver uses, and a backend has had before. */
static void test_what_a_backend_lacks(void)
{
    uint64_t a = BIT_ULL(3), b = BIT_ULL(5), c = BIT_ULL(7);
    uint64_t seen = a | b | c | VERSION_1 | EVENT_IDX;

    g_assert_cmphex(isolation_lacking_features(a | b, seen, a | b), ==, 0);
    g_assert_cmphex(isolation_lacking_features(a | b, seen, a), ==, b);
    g_assert_cmphex(isolation_lacking_features(a, seen, a | b), ==, 0);
    g_assert_cmphex(isolation_lacking_features(VERSION_1, seen, 0), ==,
                    VERSION_1);
    /* Rings are no matter of the driver's, and nobody offered bit 9. */
    g_assert_cmphex(isolation_lacking_features(EVENT_IDX, seen, 0), ==, 0);
    g_assert_cmphex(isolation_lacking_features(BIT_ULL(9), seen, 0), ==, 0);
}

#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)
#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
#define BLK VIRTIO_ID_BLOCK

/* Of what the backend offers, the best that the user does not rule out. */
static void test_rings_take_the_best_that_is_offered(void)
{
    static const struct {
        VhostUserIsolationConfig config;
        uint64_t expect;
    } cases[] = {
        { { 0 }, PACKED | EVENT_IDX | INDIRECT },
        { { .packed = ON_OFF_AUTO_OFF }, EVENT_IDX | INDIRECT },
        { { .event_idx = ON_OFF_AUTO_OFF }, PACKED | INDIRECT },
        { { .indirect = ON_OFF_AUTO_OFF }, PACKED | EVENT_IDX },
        { { .packed = ON_OFF_AUTO_ON, .event_idx = ON_OFF_AUTO_ON,
            .indirect = ON_OFF_AUTO_ON }, PACKED | EVENT_IDX | INDIRECT },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const VhostUserIsolationConfig *config = &cases[i].config;

        g_assert_cmphex(isolation_ring_features(config, BLK, ALL, true), ==,
                        cases[i].expect);
        g_assert_cmphex(isolation_ring_features(config, BLK, ALL, false), ==,
                        cases[i].expect & ~PACKED);
        g_assert_cmphex(isolation_ring_features(config, BLK, ~EVENT_IDX,
                                                true), ==,
                        cases[i].expect & ~EVENT_IDX);
        g_assert_cmphex(isolation_ring_features(config, BLK, 0, true), ==, 0);
    }
}

/* Frames would land in the tables of a known backend. */
static void test_packed_net_has_tables_only_if_told(void)
{
    static const VhostUserIsolationConfig automatic, split = {
        .packed = ON_OFF_AUTO_OFF,
    }, told = {
        .indirect = ON_OFF_AUTO_ON,
    };

    g_assert_false(isolation_ring_features(&automatic, VIRTIO_ID_NET, ALL,
                                           true) & INDIRECT);
    g_assert_true(isolation_ring_features(&automatic, VIRTIO_ID_NET, ~PACKED,
                                          true) & INDIRECT);
    g_assert_true(isolation_ring_features(&split, VIRTIO_ID_NET, ALL, true) &
                  INDIRECT);
    g_assert_true(isolation_ring_features(&told, VIRTIO_ID_NET, ALL, true) &
                  INDIRECT);
}

static void test_pin_that_the_backend_lacks(void)
{
    static const struct {
        VhostUserIsolationConfig config;
        uint64_t bit;
    } cases[] = {
        { { .packed = ON_OFF_AUTO_ON }, PACKED },
        { { .event_idx = ON_OFF_AUTO_ON }, EVENT_IDX },
        { { .indirect = ON_OFF_AUTO_ON }, INDIRECT },
    };
    VhostUserIsolationConfig none = {
        .packed = ON_OFF_AUTO_OFF, .indirect = ON_OFF_AUTO_OFF,
    };

    g_assert_true(isolation_check_pins(&none, 0, &error_abort));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Error *err = NULL;

        g_assert_true(isolation_check_pins(&cases[i].config, cases[i].bit,
                                           &error_abort));
        g_assert_false(isolation_check_pins(&cases[i].config, ~cases[i].bit,
                                            &err));
        g_assert_nonnull(strstr(error_get_pretty(err), "memory-isolation-"));
        error_free(err);
    }
}

/* A device that offers whatever its backend has must not offer its rings. */
static void test_properties_decide_about_the_ring(void)
{
    uint64_t got = isolation_offered_features(0, VERSION_1 | BIT_ULL(3));

    g_assert_cmphex(got, ==, VERSION_1 | BIT_ULL(3));
    g_assert_cmphex(isolation_device_features(ALL) & DEVICE_BITS, ==,
                    DEVICE_BITS);
    got = isolation_device_features(ALL & ~BIT_ULL(4));
    g_assert_true(got & PACKED);
    g_assert_false(got & BIT_ULL(VIRTIO_F_IN_ORDER));
    g_assert_false(got & BIT_ULL(VIRTIO_F_RING_RESET));
    g_assert_false(got & BIT_ULL(4));
}

static void test_legacy_guest_on_modern_backend(void)
{
    static const uint16_t ignore[] = { VIRTIO_ID_BLOCK, VIRTIO_ID_SCSI };

    for (size_t i = 0; i < ARRAY_SIZE(ignore); i++) {
        g_assert_cmphex(isolation_payload_features(ignore[i], 0, VERSION_1),
                        ==, VERSION_1);
        g_assert_cmphex(isolation_payload_features(ignore[i], 0, 0), ==, 0);
    }
    /* The header of a network packet depends on it. */
    g_assert_cmphex(isolation_payload_features(VIRTIO_ID_NET, 0, VERSION_1),
                    ==, 0);
}

static void test_protocol_features_are_an_allow_list(void)
{
    static const unsigned allowed[] = { 0, 2, 3, 4, 5, 7, 9, 13, 16, 19 };
    VhostUserIsolation iso = { 0 };
    VhostUserState on = { .isolation = &iso }, off = { 0 };
    uint64_t expect = 0;

    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
        expect |= BIT_ULL(allowed[i]);
    }
    g_assert_cmphex(vhost_user_isolation_protocol_features(&on, ALL), ==,
                    expect);
    g_assert_cmphex(vhost_user_isolation_protocol_features(&on, 0), ==, 0);
    g_assert_cmphex(vhost_user_isolation_protocol_features(&off, ALL), ==,
                    ALL);
}

static void test_payload_with_addresses_is_refused(void)
{
    static const uint16_t refused[] = { 5, 13, 16, 23, 24, 27, 30, 31, 37 };
    static const uint16_t fine[] = { 1, 2, 4, 8, 18, 19, 20, 25, 26, 32, 34 };

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        g_assert_nonnull(isolation_refused(refused[i]));
    }
    for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
        g_assert_null(isolation_refused(fine[i]));
    }
}

#define PATH "/vhost-user-isolation/features/"

/* Numbers of the vhost-user specification. */
static void test_answer_has_the_size_that_was_asked_for(void)
{
    const VhostUserMessage features = { .request = 1 };
    const VhostUserMessage base = { .request = 11, .size = 8 };
    const VhostUserMessage config = { .request = 24, .size = 72 };
    const VhostUserMessage session = { .request = 26, .size = 1000 };

    g_assert_true(isolation_answer_fits(&features, 8));
    g_assert_false(isolation_answer_fits(&features, 0));
    g_assert_false(isolation_answer_fits(&features, 4));
    g_assert_false(isolation_answer_fits(&features, 16));
    g_assert_true(isolation_answer_fits(&base, 8));
    g_assert_false(isolation_answer_fits(&base, 0));
    g_assert_true(isolation_answer_fits(&config, 72));
    g_assert_false(isolation_answer_fits(&config, 71));
    g_assert_false(isolation_answer_fits(&config, 73));
    /* So a backend says that it has none. */
    g_assert_true(isolation_answer_fits(&config, 0));
    g_assert_true(isolation_answer_fits(&session, 1000));
    g_assert_false(isolation_answer_fits(&session, 8));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func(PATH "guest-sees-the-same-ring-bits-behind-every-backend",
                    test_guest_sees_no_backend_ring);
    g_test_add_func(PATH "payload-bits-follow-the-backend",
                    test_payload_bits_follow_backend);
    g_test_add_func(PATH "backend-is-told-of-no-ring-feature-of-the-guest",
                    test_backend_is_told_of_no_guest_ring);
    g_test_add_func(PATH "what-a-backend-lacks", test_what_a_backend_lacks);
    g_test_add_func(PATH "rings-take-the-best-that-is-offered",
                    test_rings_take_the_best_that_is_offered);
    g_test_add_func(PATH "packed-net-has-tables-only-if-told",
                    test_packed_net_has_tables_only_if_told);
    g_test_add_func(PATH "a-pin-that-the-backend-lacks-is-an-error",
                    test_pin_that_the_backend_lacks);
    g_test_add_func(PATH "properties-decide-about-the-ring",
                    test_properties_decide_about_the_ring);
    g_test_add_func(PATH "legacy-guest-on-a-backend-that-needs-version-1",
                    test_legacy_guest_on_modern_backend);
    g_test_add_func(PATH "protocol-features-are-an-allow-list",
                    test_protocol_features_are_an_allow_list);
    g_test_add_func(PATH "an-answer-has-the-size-that-was-asked-for",
                    test_answer_has_the_size_that_was_asked_for);
    g_test_add_func(PATH "device-types-with-guest-addresses-are-refused",
                    test_payload_with_addresses_is_refused);
    return g_test_run();
}
