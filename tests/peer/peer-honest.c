/*
 * The explorer's honest device at full speed, for both formats.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "device.h"
#include "peer.h"

QEMU_BUILD_BUG_ON(PEER_BUFS > RING_DEVICE_BUFS);

void ring_device_fault(const char *rule)
{
    fprintf(stderr, "the device sees %s\n", rule);
    abort();
}

static void *honest_new(const PeerRing *ring)
{
    RingDevice *d = g_new0(RingDevice, 1);
    ShadowRingConfig config = {
        .format = ring->packed ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT,
        .size = ring->size,
        .event_idx = ring->event_idx,
        .indirect = ring->indirect,
        .mem = ring->mem,
    };

    ring_device_init(d, &config);
    /* Tables are anywhere in the process: a pointer is an offset from 0. */
    d->tables = NULL;
    d->tables_addr = 0;
    d->tables_bytes = UINT64_MAX;
    return d;
}

static void honest_free(void *opaque)
{
    g_free(opaque);
}

static int honest_fetch(void *opaque, PeerRequest *request)
{
    RingDeviceRequest got;

    if (!ring_device_fetch(opaque, &got)) {
        return 0;
    }
    if (got.num_out + got.num_in > PEER_BUFS) {
        return -1;
    }
    request->id = got.id;
    request->num_descs = got.num_descs;
    request->num_out = got.num_out;
    request->num_in = got.num_in;
    for (unsigned i = 0; i < got.num_out + got.num_in; i++) {
        request->buf[i].base = (void *)(uintptr_t)got.bufs[i].addr;
        request->buf[i].len = got.bufs[i].len;
    }
    return 1;
}

static void honest_use(void *opaque, const PeerRequest *request, uint32_t len)
{
    ring_device_use(opaque, request->id, request->num_descs, len);
}

static void honest_publish(void *opaque)
{
    ring_device_publish(opaque);
}

static bool honest_should_call(void *opaque)
{
    return ring_device_should_call(opaque);
}

static void honest_suppress_kicks(void *opaque)
{
    ring_device_suppress_kicks(opaque);
}

static bool honest_arm_kicks(void *opaque)
{
    return ring_device_arm_kicks(opaque);
}

const PeerOps peer_ops = {
    .new = honest_new,
    .free = honest_free,
    .fetch = honest_fetch,
    .use = honest_use,
    .publish = honest_publish,
    .should_call = honest_should_call,
    .suppress_kicks = honest_suppress_kicks,
    .arm_kicks = honest_arm_kicks,
};
