/*
 * Feature bits of memory isolation: who is told what.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
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
#define DEVICE_BITS (~MAKE_64BIT_MASK(24, 26))

/* The guest must find the same ring features behind every backend. */
static void test_guest_sees_no_backend_ring(void)
{
    uint64_t payload = VERSION_1 | ANY_LAYOUT | SOCKET;
    uint64_t none = isolation_guest_features(payload);
    uint64_t all = isolation_guest_features(ALL & ~DEVICE_BITS);

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
    g_assert_cmphex(isolation_guest_features(0) & DEVICE_BITS, ==, 0);
    g_assert_cmphex(isolation_guest_features(ALL) & DEVICE_BITS, ==,
                    DEVICE_BITS);
    g_assert_false(isolation_guest_features(0) & (VERSION_1 | ANY_LAYOUT));
    g_assert_true(isolation_guest_features(VERSION_1) & VERSION_1);
}

/* Whatever the guest acknowledges, of the ring only our own choice goes out. */
static void test_backend_is_told_of_no_guest_ring(void)
{
    uint64_t ours = BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |
                    BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    uint64_t told = isolation_backend_features(VIRTIO_ID_NET, ALL, 0);

    g_assert_cmphex(told & ~DEVICE_BITS, ==, VERSION_1 | ANY_LAYOUT);
    told = isolation_backend_features(VIRTIO_ID_NET, 0, ALL);
    g_assert_cmphex(told, ==, ours);
    told = isolation_backend_features(VIRTIO_ID_NET, ALL, ALL);
    g_assert_cmphex(told & ~DEVICE_BITS, ==, VERSION_1 | ANY_LAYOUT | ours);
}

static void test_legacy_guest_on_modern_backend(void)
{
    static const uint16_t ignore[] = { VIRTIO_ID_BLOCK, VIRTIO_ID_SCSI };

    for (size_t i = 0; i < ARRAY_SIZE(ignore); i++) {
        g_assert_cmphex(isolation_backend_features(ignore[i], 0, VERSION_1),
                        ==, VERSION_1);
        g_assert_cmphex(isolation_backend_features(ignore[i], 0, 0), ==, 0);
    }
    /* The header of a network packet depends on it. */
    g_assert_cmphex(isolation_backend_features(VIRTIO_ID_NET, 0, VERSION_1),
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func(PATH "guest-sees-the-same-ring-bits-behind-every-backend",
                    test_guest_sees_no_backend_ring);
    g_test_add_func(PATH "payload-bits-follow-the-backend",
                    test_payload_bits_follow_backend);
    g_test_add_func(PATH "backend-is-told-of-no-ring-feature-of-the-guest",
                    test_backend_is_told_of_no_guest_ring);
    g_test_add_func(PATH "legacy-guest-on-a-backend-that-needs-version-1",
                    test_legacy_guest_on_modern_backend);
    g_test_add_func(PATH "protocol-features-are-an-allow-list",
                    test_protocol_features_are_an_allow_list);
    g_test_add_func(PATH "device-types-with-guest-addresses-are-refused",
                    test_payload_with_addresses_is_refused);
    return g_test_run();
}
