/*
 * Fuzzing the data path: the guest.
 *
 * The driver of its ring is a shadow ring, which believes nothing that the
 * device writes: as long as the guest keeps to the rules, whatever breaks it is
 * a fault of QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio.h"
#include "fuzz.h"

#define TABLES_ADDR (FUZZ_RAM_ADDR + FUZZ_RING_BYTES)
#define REQUESTS_ADDR (TABLES_ADDR + FUZZ_TABLES_BYTES)
#define TABLE_BYTES (FUZZ_TABLES_BYTES / FUZZ_REQUESTS & ~15)

QEMU_BUILD_BUG_ON(FUZZ_BUFS_MAX * SHADOW_RING_DESC_BYTES > TABLE_BYTES);
QEMU_BUILD_BUG_ON(REQUESTS_ADDR + FUZZ_REQUESTS * FUZZ_REQUEST_BYTES !=
                  FUZZ_RAM_ADDR + FUZZ_RAM_BYTES);

/* What the driver writes is what RAM must be. */
static void accept_driver(const FuzzGuest *g)
{
    ShadowRingLayout layout = shadow_ring_layout(g->config.format,
                                                 g->config.size);

    fuzz_ram_accept(FUZZ_RAM_ADDR, layout.bytes);
    fuzz_ram_accept(TABLES_ADDR, FUZZ_TABLES_BYTES);
}

void fuzz_guest_accept_ring(const FuzzGuest *g)
{
    ShadowRingLayout layout = shadow_ring_layout(g->config.format,
                                                 g->config.size);

    if (g->config.format == SHADOW_RING_PACKED) {
        fuzz_ram_accept(FUZZ_RAM_ADDR + layout.desc,
                        g->config.size * SHADOW_RING_DESC_BYTES);
        fuzz_ram_accept(FUZZ_RAM_ADDR + layout.device, 4);
    } else {
        fuzz_ram_accept(FUZZ_RAM_ADDR + layout.device,
                        4 + 8 * g->config.size +
                        (g->config.event_idx ? 2 : 0));
    }
}

void fuzz_guest_start(FuzzGuest *g, const ShadowRingConfig *config)
{
    ShadowRingLayout layout = shadow_ring_layout(config->format, config->size);

    *g = (FuzzGuest) { .config = *config };
    g_assert_cmpuint(layout.bytes, <=, FUZZ_RING_BYTES);
    g->config.mem = fuzz_ram_host(FUZZ_RAM_ADDR);
    memset(g->config.mem, 0, FUZZ_RING_BYTES);
    fuzz_ram_accept(FUZZ_RAM_ADDR, FUZZ_RING_BYTES);
    g->ring = shadow_ring_new(&g->config);
    fuzz_virtqueue_start(&g->config);
    shadow_ring_arm_calls(g->ring);
    accept_driver(g);
}

void fuzz_guest_stop(FuzzGuest *g)
{
    fuzz_virtqueue_clean_up();
    shadow_ring_free(g->ring);
    g->ring = NULL;
}

static FuzzRequest *free_request(FuzzGuest *g, unsigned hint)
{
    for (unsigned i = 0; i < FUZZ_REQUESTS; i++) {
        FuzzRequest *r = &g->requests[(hint + i) % FUZZ_REQUESTS];

        if (!r->out) {
            return r;
        }
    }
    return NULL;
}

static void add(FuzzGuest *g, FuzzRequest *r, bool table)
{
    unsigned slot = r - g->requests;
    unsigned num = r->num_out + r->num_in;
    ShadowRingChain chain = {
        .bufs = r->bufs,
        .num_out = r->num_out,
        .num_in = r->num_in,
    };

    if (table && g->config.indirect) {
        chain.table_addr = TABLES_ADDR + slot * TABLE_BYTES;
        chain.table = fuzz_ram_host(chain.table_addr);
    }
    if (!num || shadow_ring_fault(g->ring) ||
        shadow_ring_room(g->ring) < (chain.table ? 1 : num)) {
        return;
    }
    r->out = true;
    g->num_out++;
    shadow_ring_add(g->ring, &chain, r);
    accept_driver(g);
}

/* Bytes of seven bits: no canary. */
static void fill(uint64_t addr, uint32_t len, uint8_t seed)
{
    for (uint32_t i = 0; i < len; i++) {
        *fuzz_ram_host(addr + i) = (seed + i) & 0x7f;
    }
    fuzz_ram_accept(addr, len);
}

/* Buffers one after the other in the slot; a few bytes or many. */
void fuzz_guest_offer(FuzzGuest *g, FuzzInput *in)
{
    uint8_t shape = fuzz_u8(in);
    FuzzRequest *r = free_request(g, fuzz_u8(in));
    uint64_t addr, end;

    if (!r) {
        return;
    }
    addr = REQUESTS_ADDR + (r - g->requests) * FUZZ_REQUEST_BYTES;
    end = addr + FUZZ_REQUEST_BYTES;
    *r = (FuzzRequest) {};
    for (unsigned i = 0; i < (shape & 3) + (shape >> 2 & 3); i++) {
        bool writable = i >= (shape & 3);
        uint8_t code = fuzz_u8(in);
        uint32_t len = (code & 0x80) ? (code & 0x1f) * 32 + 1 : 1 + code;

        addr += shape >> 6;
        if (addr + len > end) {
            break;
        }
        r->bufs[i] = (ShadowRingBuf) { addr, len };
        r->num_out += !writable;
        r->num_in += writable;
        r->bytes_in += writable ? len : 0;
        if (!writable) {
            fill(addr, len, shape ^ code);
        }
        addr += len;
    }
    add(g, r, shape & 0x20);
}

/* Addresses and lengths as they come. */
void fuzz_guest_offer_raw(FuzzGuest *g, FuzzInput *in)
{
    uint8_t shape = fuzz_u8(in);
    FuzzRequest *r = free_request(g, 0);

    if (!r) {
        return;
    }
    *r = (FuzzRequest) {
        .raw = true,
        .num_out = shape & 3,
        .num_in = shape >> 2 & 3,
    };
    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        uint16_t where = fuzz_u16(in);
        uint16_t len = fuzz_u16(in);

        r->bufs[i].addr = FUZZ_RAM_ADDR - 0x100 + where;
        r->bufs[i].len = (len & 0x8000) ? (uint32_t)len << 16 : len;
        if (shape & 0x40) {
            r->bufs[i].addr |= (uint64_t)fuzz_u8(in) << 56;
        }
    }
    g->hostile = true;
    add(g, r, shape & 0x20);
}

void fuzz_guest_publish(FuzzGuest *g)
{
    shadow_ring_publish(g->ring);
    accept_driver(g);
    if (shadow_ring_should_kick(g->ring)) {
        event_notifier_set(virtio_queue_get_host_notifier(fuzz_virtqueue()));
    }
}

void fuzz_guest_collect(FuzzGuest *g)
{
    ShadowRingResult result;
    uint32_t len;
    void *token;

    fuzz_virtqueue_called();
    do {
        while ((result = shadow_ring_take(g->ring, &token, &len)) ==
               SHADOW_RING_OK) {
            FuzzRequest *r = token;

            g_assert_true(r->out);
            g_assert_true(g->hostile || len <= r->bytes_in);
            r->out = false;
            g->num_out--;
        }
        if (result == SHADOW_RING_BROKEN) {
            g_assert_true(g->hostile);
            break;
        }
    } while (shadow_ring_arm_calls(g->ring));
    accept_driver(g);
}

/* Ring and tables, as they come. */
void fuzz_guest_write_raw(FuzzGuest *g, FuzzInput *in)
{
    uint64_t at = fuzz_u16(in) % (FUZZ_RING_BYTES + FUZZ_TABLES_BYTES);
    unsigned len = 1 + fuzz_u8(in) % 16;

    g->hostile = true;
    for (unsigned i = 0; i < len; i++) {
        uint8_t *host = fuzz_ram_host(FUZZ_RAM_ADDR + at + i);

        *host = fuzz_u8(in);
    }
    fuzz_ram_accept(FUZZ_RAM_ADDR + at, len);
}

void fuzz_guest_write_bufs(FuzzGuest *g, FuzzInput *in)
{
    uint64_t at = REQUESTS_ADDR + fuzz_u16(in) %
                  (FUZZ_REQUESTS * FUZZ_REQUEST_BYTES - 8);

    g->restless = true;
    for (unsigned i = 0; i < 8; i++) {
        *fuzz_ram_host(at + i) = fuzz_u8(in) & 0x7f;
    }
    fuzz_ram_accept(at, 8);
}
