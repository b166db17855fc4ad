/*
 * Fuzzing the data path: one string, one life of a queue.
 *
 * The first bytes choose both rings; each byte after that is a move of the
 * guest, of the backend, of the queue's thread or of control, which may take
 * more bytes.  Moves that are not possible now are skipped, so that every
 * string means something.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "fuzz.h"

/* More says no more, and takes long. */
#define MOVES_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FuzzConfig read_config(FuzzInput *in)
{
    uint8_t bits = fuzz_u8(in);
    uint8_t sizes = fuzz_u8(in);
    uint8_t more = fuzz_u8(in);
    FuzzConfig c = {
        .guest.format = bits & 1,
        .guest.event_idx = bits & 2,
        .guest.indirect = bits & 4,
        .guest.size = 1 << (sizes & 7) % 7,
        .backend.format = bits >> 3 & 1,
        .backend.event_idx = bits & 0x10,
        .backend.indirect = bits & 0x20,
        .backend.size = 1 << (sizes >> 3 & 7) % 7,
        .scrub = !(bits & 0x40),
        .all_writable = bits & 0x80,
        .share = 4096 * (1 + (more & 15)),
    };

    if (c.backend.format == SHADOW_RING_PACKED) {
        c.backend.size = MAX(1, c.backend.size - (more >> 4));
    }
    return c;
}

static void on_faulted(void *opaque)
{
    FuzzWorld *w = opaque;

    /* The guest may have reset the device meanwhile. */
    w->num_faulted += isolated_queue_state(w->q) == ISOLATED_QUEUE_BROKEN;
}

static bool is_running(const FuzzWorld *w)
{
    return isolated_queue_attached(w->q);
}

static void attach(FuzzWorld *w)
{
    if (w->lost) {
        return;
    }
    if (w->backend.stopped && !w->backend.confused) {
        mock_device_resume(&w->backend.device,
                           shadow_ring_base(w->backend.link.ring));
    }
    w->backend.stopped = false;
    fuzz_enter(false);
    isolated_queue_connect(w->q, &w->backend.link);
    isolated_queue_attach(w->q, fuzz_ctx, false);
}

static void detach(FuzzWorld *w)
{
    fuzz_loop_poll(false);
    isolated_queue_detach(w->q);
    fuzz_enter(true);
}

/* The ring of a guest that does not lie says what was popped last. */
static void unpark(FuzzWorld *w)
{
    IsolatedRequest *last = QTAILQ_LAST(&w->q->in_flight);
    bool newest = last && !last->sent && last->seq == w->q->next_seq - 1 &&
                  isolated_queue_state(w->q) != ISOLATED_QUEUE_BROKEN &&
                  !w->guest.hostile;
    unsigned num = isolated_queue_in_flight(w->q);

    isolated_queue_unpark(w->q);
    g_assert_true(!newest || isolated_queue_in_flight(w->q) < num);
}

/* As vhost stops a device: with an answer to GET_VRING_BASE, or none. */
static void stop(FuzzWorld *w, FuzzInput *in)
{
    uint8_t how = fuzz_u8(in);
    FuzzBackend *b = &w->backend;
    uint32_t base;

    if (w->lost || b->stopped) {
        return;
    }
    detach(w);
    unpark(w);
    if (!b->confused) {
        mock_device_publish(&b->device);
    }
    isolated_queue_drain(w->q);
    base = mock_device_base(&b->device);
    if (how & 0x40) {
        base = (how & 0x20) ? fuzz_u32(in) :
                              mock_device_base_at(&b->device, (int8_t)how % 8);
        b->hostile = true;
        b->confused = true;
    }
    isolated_queue_stopped(w->q, base, !(how & 0x80));
    b->stopped = true;
    w->lost = how & 0x80;
}

static void reconnect(FuzzWorld *w)
{
    if (is_running(w)) {
        detach(w);
    }
    isolated_queue_disconnect(w->q);
    w->blamed |= w->backend.hostile;
    fuzz_backend_stop(&w->backend);
    fuzz_backend_start(&w->backend, &w->config);
    isolated_queue_connect(w->q, &w->backend.link);
    w->lost = false;
}

/* The guest resets its device, and sets it up again. */
static void reset(FuzzWorld *w)
{
    bool restless = w->guest.restless;

    if (is_running(w)) {
        detach(w);
    }
    fuzz_check_after(w);
    isolated_queue_reset(w->q);
    w->num_faulted = 0;
    fuzz_check_before(w);
    if (shadow_ring_fault(w->backend.link.ring) || w->lost) {
        reconnect(w);
    }
    w->blamed = false;
    fuzz_guest_stop(&w->guest);
    fuzz_guest_start(&w->guest, &w->config.guest);
    /* Its buffers may be in the backend's hands still. */
    w->guest.restless = restless;
}

static void drain(FuzzWorld *w)
{
    if (is_running(w)) {
        detach(w);
    }
    isolated_queue_drain(w->q);
    unpark(w);
}

static void move_of_guest(FuzzWorld *w, unsigned which, FuzzInput *in)
{
    FuzzGuest *g = &w->guest;

    switch (which) {
    case 0:
    case 1:
        fuzz_guest_offer(g, in);
        break;
    case 2:
        fuzz_guest_publish(g);
        break;
    case 3:
        fuzz_guest_collect(g);
        break;
    case 4:
        shadow_ring_suppress_calls(g->ring);
        fuzz_ram_accept(FUZZ_RAM_ADDR, FUZZ_RING_BYTES);
        break;
    case 5:
        fuzz_guest_offer_raw(g, in);
        break;
    case 6:
        fuzz_guest_write_raw(g, in);
        break;
    default:
        fuzz_guest_write_bufs(g, in);
        break;
    }
}

static void move_of_backend(FuzzWorld *w, unsigned which, FuzzInput *in)
{
    FuzzBackend *b = &w->backend;

    switch (which) {
    case 0:
    case 1:
        fuzz_backend_fetch(b, w->q, &w->guest);
        break;
    case 2:
        fuzz_backend_use(b, fuzz_u8(in), in);
        break;
    case 3:
        fuzz_backend_publish(b);
        break;
    case 4:
        fuzz_backend_arm(b, fuzz_u8(in) & 1);
        break;
    case 5:
        fuzz_backend_write_raw(b, in);
        break;
    case 6:
        fuzz_backend_write_bufs(b, in);
        break;
    default:
        fuzz_backend_lie(b, in);
        break;
    }
}

static void move_of_queue(FuzzWorld *w, unsigned which, FuzzInput *in)
{
    switch (which) {
    case 0:
    case 1:
    case 2:
        fuzz_loop_run();
        break;
    case 3:
        fuzz_loop_spurious(fuzz_u8(in));
        break;
    default:
        fuzz_loop_poll(which & 1);
        break;
    }
}

static void move_of_control(FuzzWorld *w, unsigned which, FuzzInput *in)
{
    switch (which) {
    case 0:
        drain(w);
        break;
    case 1:
        stop(w, in);
        break;
    case 2:
        reconnect(w);
        break;
    case 3:
        reset(w);
        break;
    default:
        if (is_running(w)) {
            detach(w);
        }
        break;
    }
    if (which < 7 && !is_running(w)) {
        attach(w);
    }
}

static void move(FuzzWorld *w, FuzzInput *in)
{
    uint8_t code = fuzz_u8(in);
    unsigned which = code >> 2 & 7;

    switch (code & 3) {
    case 0:
        move_of_guest(w, which, in);
        break;
    case 1:
        move_of_backend(w, which, in);
        break;
    case 2:
        fuzz_check_before(w);
        move_of_queue(w, which, in);
        fuzz_check_after(w);
        break;
    default:
        fuzz_check_before(w);
        move_of_control(w, which, in);
        fuzz_check_after(w);
        break;
    }
}

static void begin(FuzzWorld *w)
{
    fuzz_loop_reset();
    fuzz_ram_reset();
    fuzz_enter(false);
    fuzz_guest_start(&w->guest, &w->config.guest);
    fuzz_backend_start(&w->backend, &w->config);
    w->faulted = aio_bh_new(fuzz_ctx, on_faulted, w);
    w->q = isolated_queue_new(&(IsolatedQueueConfig) {
        .vdev = fuzz_device(),
        .name = "fuzz",
        .vq = fuzz_virtqueue(),
        .scrub = w->config.scrub,
        .all_writable = w->config.all_writable,
        .faulted = w->faulted,
    });
    attach(w);
}

static void end(FuzzWorld *w)
{
    if (is_running(w)) {
        detach(w);
    }
    isolated_queue_disconnect(w->q);
    isolated_queue_free(w->q);
    qemu_bh_delete(w->faulted);
    fuzz_backend_stop(&w->backend);
    fuzz_guest_stop(&w->guest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzInput in = { .data = data, .left = size };
    FuzzWorld *w = g_new0(FuzzWorld, 1);

    w->config = read_config(&in);
    begin(w);
    for (unsigned i = 0; i < MOVES_MAX && in.left; i++) {
        move(w, &in);
    }
    fuzz_check_end(w);
    end(w);
    g_free(w);
    return 0;
}
