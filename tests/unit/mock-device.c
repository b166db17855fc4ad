/*
 * Mock device: the device side of a virtqueue, for tests of drivers.
 *
 * Honest unless a test makes it write something else: it fetches in order,
 * uses in the order in which it is told, and asserts every rule of virtio
 * 1.2, 2.7 and 2.8 that a driver must keep.  Here is what both formats share;
 * what a ring looks like is in mock-device-split.c and mock-device-packed.c.
 *
 * Indices, flags and event words are atomic, the rest is not: an honest
 * device may rely on the order in which the driver shows things, and
 * ThreadSanitizer tells when it cannot.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "mock-device-internal.h"

void mock_device_init(MockDevice *d, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);
    uint8_t *mem = config->mem;

    *d = (MockDevice) {
        .ops = config->format == SHADOW_RING_PACKED ?
               &mock_device_packed_ops : &mock_device_split_ops,
        .format = config->format,
        .size = config->size,
        .event_idx = config->event_idx,
        .desc = mem + layout.desc,
        .driver = mem + layout.driver,
        .device = mem + layout.device,
        .desc_bytes = 16 * config->size,
        .held = g_new0(uint16_t, MOCK_SIZE_MAX),
    };
    d->ops->init(d);
}

void mock_device_cleanup(MockDevice *d)
{
    g_clear_pointer(&d->held, g_free);
}

uint32_t mock_device_place(const MockDevice *d, uint32_t place, int64_t num)
{
    int64_t sum = (place + num) % d->cycle;

    return sum < 0 ? sum + d->cycle : sum;
}

bool mock_device_event_passed(const MockDevice *d, uint32_t event,
                              uint32_t old, uint64_t num)
{
    for (uint64_t i = 0; i < num; i++) {
        if (mock_device_place(d, old, i) == event) {
            return true;
        }
    }
    return false;
}

bool mock_device_has_avail(const MockDevice *d)
{
    return d->ops->has_avail(d);
}

void mock_request_add(MockRequest *request, uint64_t addr, uint32_t len,
                      bool writable)
{
    unsigned num = request->num_out + request->num_in;

    g_assert_cmpuint(num, <, MOCK_BUFS_MAX);
    request->bufs[num].addr = addr;
    request->bufs[num].len = len;
    if (writable) {
        request->num_in++;
    } else {
        /* 2.7.4.2, 2.8.21.1: device-readable buffers come first. */
        g_assert_cmpuint(request->num_in, ==, 0);
        request->num_out++;
    }
}

const void *mock_device_table(const MockDevice *d, uint64_t addr,
                              uint32_t bytes)
{
    uint64_t offset = addr - d->tables_addr;

    g_assert_cmpuint(bytes, >, 0);
    g_assert_cmpuint(bytes % SHADOW_RING_DESC_BYTES, ==, 0);
    g_assert_cmpuint(offset, <=, d->tables_bytes);
    g_assert_cmpuint(bytes, <=, d->tables_bytes - offset);
    return d->tables + offset;
}

bool mock_device_fetch(MockDevice *d, MockRequest *request)
{
    if (!mock_device_has_avail(d)) {
        return false;
    }
    request->num_descs = 0;
    request->num_out = 0;
    request->num_in = 0;
    d->ops->fetch(d, request);

    /* An id names one request, and no descriptor is in two. */
    g_assert_cmpuint(request->id, <, d->size);
    g_assert_cmpuint(d->held[request->id], ==, 0);
    d->held[request->id] = request->num_descs;
    d->num_held += request->num_descs;
    g_assert_cmpuint(d->num_held, <=, d->size);
    d->ops->fetched(d, request->num_descs, true);
    return true;
}

/* Returns: its descriptors. */
static uint16_t drop_held(MockDevice *d, uint16_t id)
{
    uint16_t num_descs = d->held[id];

    g_assert_cmpuint(num_descs, >, 0);
    d->held[id] = 0;
    d->num_held -= num_descs;
    return num_descs;
}

void mock_device_unfetch(MockDevice *d, uint16_t id)
{
    d->ops->fetched(d, drop_held(d, id), false);
}

void mock_device_use(MockDevice *d, uint16_t id, uint32_t len)
{
    d->ops->use(d, id, len, drop_held(d, id));
}

void mock_device_use_raw(MockDevice *d, uint32_t id, uint32_t len)
{
    d->ops->use(d, id, len, 1);
    mock_device_publish(d);
}

void mock_device_publish(MockDevice *d)
{
    if (d->sent_used != d->next_used) {
        d->num_uncalled += mock_device_place(d, d->next_used,
                                             -(int64_t)d->sent_used);
        d->ops->publish(d);
        d->sent_used = d->next_used;
    }
}

bool mock_device_should_call(MockDevice *d)
{
    bool call;

    /*
     * Our store of used.idx or flags before our load of the driver's event
     * words; the driver stores those, then loads used.idx or flags.  Without
     * both, a call can be lost.
     */
    smp_mb();
    call = d->num_uncalled && d->ops->wants_call(d);
    d->num_uncalled = 0;
    return call;
}

void mock_device_arm_kicks(MockDevice *d)
{
    d->ops->arm(d);
    /*
     * Our store of the event words before our next look for requests; the
     * driver shows those, then loads the event words.
     */
    smp_mb();
}

void mock_device_suppress_kicks(MockDevice *d)
{
    d->ops->suppress(d);
}

bool mock_device_wants_kick(const MockDevice *d, uint32_t end, uint64_t num)
{
    uint32_t old = mock_device_place(d, end, -(int64_t)num);

    return num && d->ops->wants_kick(d, old, num);
}

void mock_device_ask_for_kick(MockDevice *d, int32_t ahead)
{
    g_assert_true(d->event_idx);
    d->ops->write_event(d, mock_device_place(d, d->next_avail, ahead));
}

uint32_t mock_device_base_at(const MockDevice *d, int32_t ahead)
{
    return d->ops->base_at(d, mock_device_place(d, d->next_avail, ahead));
}

uint32_t mock_device_base(const MockDevice *d)
{
    return mock_device_base_at(d, 0);
}

void mock_device_resume(MockDevice *d, uint32_t base)
{
    d->ops->resume(d, base);
    d->sent_used = d->next_used;
    d->num_uncalled = 0;
}

void mock_device_run_ahead(MockDevice *d, unsigned num)
{
    d->ops->run_ahead(d, num);
}

void mock_device_write_kick_words(MockDevice *d, uint16_t flags,
                                  uint16_t event)
{
    d->ops->write_kick_words(d, flags, event);
}

void mock_device_scribble(MockDevice *d)
{
    d->ops->scribble(d);
}
