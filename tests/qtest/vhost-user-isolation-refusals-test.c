/*
 * What memory isolation refuses when a device is made, and in which words.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_config.h"
#include "libqtest.h"
#include "isolation-backend.h"
#include "isolation-target.h"

/**
 * Refusal - a command line that must not work
 * @claim: test name
 * @args: with "%s" for the path of the backend's socket, on which QEMU listens
 * @offers: of bits 24 to 49, what the backend has
 * @says: what is in the message
 * @arm_only: QEMU has the device for no other targets
 */
typedef struct Refusal {
    const char *claim;
    const char *args;
    uint64_t offers;
    const char *says;
    bool arm_only;
} Refusal;

#define CHARDEV "-chardev socket,id=socket,server=on,path=%s "
#define RNG CHARDEV "-device vhost-user-rng-pci,chardev=socket"
#define BLK CHARDEV "-device vhost-user-blk-pci,chardev=socket,num-queues=1"
#define SCSI CHARDEV "-device vhost-user-scsi-pci,chardev=socket,num_queues=1"
#define SCMI CHARDEV "-device vhost-user-scmi-pci,chardev=socket"
#define NET CHARDEV "-device virtio-net-pci,netdev=net" \
            " -netdev vhost-user,id=net,chardev=socket"

#define REQUIRE "-object vhost-user-isolation,id=iso0,policy=require "

#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)

static const Refusal refusals[] = {
    { "gpu", CHARDEV "-device vhost-user-gpu-pci,chardev=socket,"
      "memory-isolation=on", 0, "contain guest addresses" },
    { "vga", CHARDEV "-device vhost-user-vga,chardev=socket,"
      "memory-isolation=on", 0, "contain guest addresses" },
    { "packed-on-split-backend", SCSI ",memory-isolation=on,"
      "x-memory-isolation-packed=on", 0,
      "x-memory-isolation-packed=on, but the backend does not offer it" },
    { "packed-on-split-backend-rng", RNG ",memory-isolation=on,"
      "x-memory-isolation-packed=on", 0,
      "x-memory-isolation-packed=on, but the backend does not offer it" },
    { "packed-on-split-backend-scmi", SCMI ",memory-isolation=on,"
      "x-memory-isolation-packed=on", 0,
      "x-memory-isolation-packed=on, but the backend does not offer it",
      .arm_only = true },
    { "event-idx-without", SCSI ",memory-isolation=on,"
      "x-memory-isolation-event-idx=on", PACKED,
      "x-memory-isolation-event-idx=on, but the backend does not offer it" },
    { "indirect-without", SCSI ",memory-isolation=on,"
      "x-memory-isolation-indirect=on", PACKED,
      "x-memory-isolation-indirect=on, but the backend does not offer it" },
    { "size-too-small", RNG ",memory-isolation=on,memory-isolation-size=4096",
      0, "memory-isolation-size=4096 is too small for 1 queue(s)" },
    { "size-too-small-net", NET ",memory-isolation=on,"
      "memory-isolation-size=4096", 0, "memory-isolation-size=4096 is too "
      "small" },
    { "too-many-queues", CHARDEV "-netdev vhost-user,id=net,chardev=socket,"
      "queues=600,memory-isolation=on", 0, "is possible for 256 queues at "
      "most, not 1200" },
    { "queues-beyond-eight-bits", CHARDEV "-netdev vhost-user,id=net,"
      "chardev=socket,queues=129,memory-isolation=on", 0,
      "is possible for 256 queues at most, not 258" },
    { "no-time-to-answer", RNG ",memory-isolation=on,"
      "memory-isolation-timeout-ms=0", 0,
      "memory-isolation-timeout-ms=0 leaves the backend no time to answer" },
    { "too-much-time-to-answer", RNG ",memory-isolation=on,"
      "memory-isolation-timeout-ms=600001", 0, "is too long" },
    { "ring-size-is-odd", RNG ",memory-isolation=on,"
      "memory-isolation-ring-size=100", 0,
      "memory-isolation-ring-size=100 is not a power of two up to 1024" },
    { "ring-size-too-large-net", NET ",memory-isolation=on,"
      "memory-isolation-ring-size=2048", 0,
      "memory-isolation-ring-size=2048 is not a power of two up to 1024" },
    { "chardev-of-another-type", "-chardev null,id=socket "
      "-device vhost-user-rng-pci,chardev=socket,memory-isolation=on", 0,
      "needs a chardev of the type socket" },
    { "timeout-alone", RNG ",memory-isolation-timeout-ms=1", 0,
      "memory-isolation-timeout-ms has no effect without "
      "memory-isolation=on" },
    { "size-too-large", RNG ",memory-isolation=on,memory-isolation-size=1T",
      0, "is too large" },
    { "size-alone", RNG ",memory-isolation-size=64M", 0,
      "memory-isolation-size has no effect without memory-isolation=on" },
    { "size-alone-net", NET ",memory-isolation-size=64M", 0,
      "memory-isolation-size has no effect without memory-isolation=on" },
    { "scrub-alone", BLK ",memory-isolation-scrub=off", 0,
      "memory-isolation-scrub has no effect without memory-isolation=on" },
    { "trim-alone", BLK ",memory-isolation-trim=on", 0,
      "memory-isolation-trim has no effect without memory-isolation=on" },
    { "wipe-alone", BLK ",memory-isolation-wipe=on", 0,
      "memory-isolation-wipe has no effect without memory-isolation=on" },
    { "packed-alone", RNG ",x-memory-isolation-packed=off", 0,
      "x-memory-isolation-packed has no effect without memory-isolation=on" },
    { "required-gpu", REQUIRE CHARDEV "-device vhost-user-gpu-pci,"
      "chardev=socket", 0, "vhost-user-gpu cannot be isolated, and object "
      "'iso0' has policy=require" },
    { "required-gpu-off", REQUIRE CHARDEV "-device vhost-user-gpu-pci,"
      "chardev=socket,memory-isolation=off", 0, "memory-isolation=off is not "
      "possible for vhost-user-gpu: object 'iso0' has policy=require" },
    { "required-vga", REQUIRE CHARDEV "-device vhost-user-vga,chardev=socket",
      0, "vhost-user-gpu cannot be isolated, and object 'iso0' has "
      "policy=require" },
    { "required-blk-off", BLK ",memory-isolation=off " REQUIRE, 0,
      "memory-isolation=off is not possible for virtio-blk: object 'iso0' has "
      "policy=require" },
    { "required-net-off", NET ",memory-isolation=off " REQUIRE, 0,
      "memory-isolation=off is not possible for virtio-net: object 'iso0' has "
      "policy=require" },
    { "required-crypto-off", "-object cryptodev-vhost-user,id=crypto,"
      "chardev=socket,memory-isolation=off " REQUIRE CHARDEV, 0,
      "memory-isolation=off is not possible for virtio-crypto: object 'iso0' "
      "has policy=require" },
    { "required-scmi-off", REQUIRE SCMI ",memory-isolation=off", 0,
      "memory-isolation=off is not possible for virtio-scmi: object 'iso0' has "
      "policy=require", .arm_only = true },
    { "policies-of-two-minds", REQUIRE "-object vhost-user-isolation,id=iso1,"
      "policy=prefer " RNG, 0,
      "object 'iso0' is the policy of this VM already" },
    { "policy-without-a-word", "-object vhost-user-isolation,id=iso0 " RNG, 0,
      "Parameter 'policy' is missing" },
    { "policy-iothread-that-is-not", "-object vhost-user-isolation,id=iso0,"
      "policy=prefer,iothread=nobody " RNG, 0, "nobody" },
};

static const MockModel model = { .num_queues = 3 };

/* "timeout": one that is not refused would run for ever. */
static char *run_qemu(const char *args, int *status)
{
    g_autofree char *command = g_strdup_printf(
        "timeout -k 5 60 %s -nodefaults -display none -M %s -m 16 -S "
        "-accel qtest %s", getenv("QTEST_QEMU_BINARY"), target_machine(), args);
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_test_message("%s", command);
    g_spawn_command_line_sync(command, NULL, &text, status, &err);
    g_assert_no_error(err);
    return text;
}

static void test_refusal(const void *opaque)
{
    const Refusal *refusal = opaque;
    g_autofree char *dir = g_dir_make_tmp("isolation-XXXXXX", NULL);
    g_autofree char *socket = g_strdup_printf("%s/socket", dir);
    g_autofree char *args = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) parts = g_strsplit(refusal->args, "%s", 2);
    MockBackend *b = mock_backend_new(&model, refusal->offers, NULL, socket);
    int status;

    args = parts[1] ? g_strconcat(parts[0], socket, parts[1], NULL)
                    : g_strdup(parts[0]);
    text = run_qemu(args, &status);
    mock_backend_free(b);
    unlink(socket);
    rmdir(dir);

    g_test_message("%s", text);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    g_assert_nonnull(strstr(text, refusal->says));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(refusals); i++) {
        g_autofree char *path = g_strdup_printf("isolation-refusals/%s",
                                                refusals[i].claim);

        if (refusals[i].arm_only == target_is_arm()) {
            qtest_add_data_func(path, &refusals[i], test_refusal);
        }
    }
    return g_test_run();
}
