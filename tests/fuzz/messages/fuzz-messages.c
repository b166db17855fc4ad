/*
 * Fuzzing messages: one string, one life of a device and of its backends.
 *
 * The first bytes say what device and backend are like; each byte after that
 * is a move of the guest or the user, of the backend, or of the world around
 * them, which may take more bytes.  Whenever QEMU waits, the next byte is a
 * move of the backend.  Moves that are not possible now are skipped.
 *
 * Whatever the backend says: no sanitizer has anything to say; QEMU waits no
 * longer than it may, for an answer and in all; nothing that somebody else has
 * sent is closed but by the thread that closes; a backend that broke a rule is
 * disconnected, and what it had is gone; what is logged is limited, so is what
 * is allocated; no descriptor is left at the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sanitizer/allocator_interface.h>
#include <sys/resource.h>
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "messages.h"

/* More says no more, and takes long. */
#define MOVES_MAX 200

/* What a device and its connection may allocate, but for the region. */
#define BYTES_MAX (1 * MiB)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FuzzDevice device;

static void connect_anew(void)
{
    int fd;

    /* Until QEMU has noticed that the last one went there is no other. */
    if (device.connected) {
        return;
    }
    fd = backend_connect();
    if (fd >= 0) {
        device_plug_socket(&device, fd);
    }
}

static void move_of_world(unsigned which, FuzzInput *in)
{
    switch (which) {
    case 0:
    case 1:
        connect_anew();
        break;
    case 2:
        world_pass(fuzz_u8(in) * (int64_t)(1000 * SCALE_MS));
        break;
    case 3:
        world_pass(fuzz_u8(in) * (int64_t)SCALE_MS);
        break;
    case 4:
        world_close_some(fuzz_u8(in));
        break;
    default:
        world_turn();
        break;
    }
}

static void move(FuzzInput *in)
{
    uint8_t code = fuzz_u8(in);
    unsigned which = code >> 2 & 7;

    switch (code & 3) {
    case 0:
        move_of_world(which, in);
        break;
    case 1:
        device_move(&device, which, in);
        break;
    default:
        backend_move(0);
        break;
    }
    if (!(code & 0x80)) {
        world_turn();
    }
    device_check(&device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzInput in = { .data = data, .left = size };
    size_t bytes;

    world_begin();
    bytes = __sanitizer_get_current_allocated_bytes();
    memset(&device, 0, sizeof(device));
    backend_begin(&in);
    device_realize(&device, &in);
    connect_anew();
    for (unsigned i = 0; i < MOVES_MAX && in.left; i++) {
        move(&in);
        g_assert_cmpuint(__sanitizer_get_current_allocated_bytes(), <,
                         bytes + BYTES_MAX);
    }
    device_unplug(&device);
    backend_end();
    world_end();
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    /* As many descriptors as the world looks at. */
    struct rlimit files = { .rlim_cur = 1024, .rlim_max = 1024 };
    sigset_t alarm;

    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);
    /* It gets this one from a descriptor, when it turns: libFuzzer cannot. */
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    /* It opens what stays open. */
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    return 0;
}
