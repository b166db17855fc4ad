/*
 * Ring harness: a shadow ring, a mock device at its other end, and a model of
 * what must come out.
 *
 * The model is a handful of lists: a request is in exactly one, and each step
 * of driver or device moves it on.  After every step the ring's counters are
 * compared with the lists.
 *
 * A blind case hides from the driver what it has written: before each of its
 * steps the areas that only it should write are filled with a garbage word
 * that no such step stores; words that differ afterwards are its stores, and
 * go to the truth, which the device gets to see.  So the ring works as if its
 * memory could be written, but not read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "ring-harness.h"

#define TABLE_BYTES (HARNESS_TABLE_BUFS * SHADOW_RING_DESC_BYTES)
#define TABLES_ADDR (1ULL << 40)

static void write_bufs(const RingRequest *request, ShadowRingBuf *bufs)
{
    unsigned num = request->num_out + request->num_in;

    /* Even words only, see blind_begin(). */
    for (unsigned i = 0; i < num; i++) {
        bufs[i].addr = (2ULL << 40) +
                       ((uint64_t)request->serial << 20) + 16 * i;
        bufs[i].len = 2 * i + 2;
    }
}

/* Odd, not small, and far from any index that the driver may store now. */
static uint16_t garbage_word(const RingHarness *h)
{
    uint16_t word = (h->next_serial + 0x4000) | 1;

    return word < 64 ? word + 64 : word;
}

/* The last word of each descriptor. */
static bool is_packed_flags(const RingHarness *h, size_t i)
{
    return h->params.format == SHADOW_RING_PACKED &&
           i * 2 < h->device.desc_bytes && i % 8 == 7;
}

/*
 * These flags the driver must look at, so they must not say "used": the two
 * bits differ.  Another bit is set that no driver sets.
 */
static uint16_t garbage_at(const RingHarness *h, size_t i, uint16_t garbage)
{
    if (is_packed_flags(h, i)) {
        return 0x40 | (garbage & 2 ? 0x80 : 0x8000);
    }
    return garbage;
}

/* What the device stored is there to be read. */
static bool blind_word(const RingHarness *h, size_t i)
{
    return !h->wrote[i] &&
           (i * 2 < h->device_offset || i * 2 >= h->tables_offset);
}

static void blind_begin(RingHarness *h)
{
    uint16_t *mem = h->config.mem;
    uint16_t garbage = garbage_word(h);

    if (!h->params.blind) {
        return;
    }
    for (size_t i = 0; i < h->mem_bytes / 2; i++) {
        if (blind_word(h, i)) {
            mem[i] = garbage_at(h, i, garbage);
        } else {
            h->truth[i] = mem[i];
        }
    }
}

static void blind_end(RingHarness *h, uint16_t garbage)
{
    uint16_t *mem = h->config.mem;

    if (!h->params.blind) {
        return;
    }
    for (size_t i = 0; i < h->mem_bytes / 2; i++) {
        if (!blind_word(h, i)) {
            h->wrote[i] &= mem[i] == h->truth[i];
        } else if (mem[i] == garbage_at(h, i, garbage)) {
            mem[i] = h->truth[i];
        }
        h->truth[i] = mem[i];
    }
}

/* One step of the driver. */
#define DRIVER(h, step)                                 \
    do {                                                \
        uint16_t garbage_ = garbage_word(h);            \
        blind_begin(h);                                 \
        step;                                           \
        blind_end(h, garbage_);                         \
    } while (0)

static void check_counters(const RingHarness *h)
{
    unsigned num = h->added->len + h->held->len + h->used->len;

    g_assert_cmpuint(shadow_ring_in_flight(h->ring), ==, num);
    g_assert_cmpuint(shadow_ring_room(h->ring), ==,
                     h->params.size - h->num_descs);
    g_assert_cmpuint(h->idle->len, ==, h->params.size - num);
}

/* Move element @i of @from to the end of @to. */
static RingRequest *move(GPtrArray *from, unsigned i, GPtrArray *to)
{
    RingRequest *request;

    g_assert_cmpuint(i, <, from->len);
    request = g_ptr_array_index(from, i);
    g_ptr_array_remove_index(from, i);
    g_ptr_array_add(to, request);
    return request;
}

RingHarness *harness_new(const RingParams *params)
{
    RingHarness *h = g_new0(RingHarness, 1);
    ShadowRingLayout layout = shadow_ring_layout(params->format,
                                                 params->size);

    h->params = *params;
    h->device_offset = layout.device;
    h->tables_offset = layout.bytes;
    h->mem_bytes = layout.bytes + TABLE_BYTES * params->size;
    h->truth = g_malloc0(h->mem_bytes);
    h->wrote = g_malloc0(h->mem_bytes / 2);
    h->config = (ShadowRingConfig) {
        .format = params->format,
        .size = params->size,
        .event_idx = params->event_idx,
        .indirect = params->indirect,
        .mem = qemu_memalign(64, h->mem_bytes),
    };
    memset(h->config.mem, 0, h->mem_bytes);
    h->ring = shadow_ring_new(&h->config);
    mock_device_init(&h->device, &h->config);
    h->device.wrote = h->wrote;
    h->device.tables = (uint8_t *)h->config.mem + h->tables_offset;
    h->device.tables_addr = TABLES_ADDR;
    h->device.tables_bytes = h->mem_bytes - h->tables_offset;

    h->requests = g_new0(RingRequest, params->size);
    h->idle = g_ptr_array_sized_new(params->size);
    h->added = g_ptr_array_sized_new(params->size);
    h->held = g_ptr_array_sized_new(params->size);
    h->used = g_ptr_array_sized_new(params->size);
    for (unsigned i = 0; i < params->size; i++) {
        h->requests[i].table_offset = i * TABLE_BYTES;
        g_ptr_array_add(h->idle, &h->requests[i]);
    }
    check_counters(h);
    return h;
}

void harness_free(RingHarness *h)
{
    shadow_ring_free(h->ring);
    mock_device_cleanup(&h->device);
    qemu_vfree(h->config.mem);
    g_free(h->truth);
    g_free(h->wrote);
    g_free(h->requests);
    g_ptr_array_free(h->idle, true);
    g_ptr_array_free(h->added, true);
    g_ptr_array_free(h->held, true);
    g_ptr_array_free(h->used, true);
    g_free(h);
}

static bool wants_table(const RingHarness *h, unsigned num)
{
    return h->params.indirect && num <= HARNESS_TABLE_BUFS &&
           h->next_serial % 2;
}

void harness_without_table(RingHarness *h)
{
    h->next_serial += h->next_serial % 2;
}

void harness_with_table(RingHarness *h)
{
    h->next_serial += !(h->next_serial % 2);
}

bool harness_has_room(const RingHarness *h, unsigned num)
{
    return shadow_ring_room(h->ring) >= (wants_table(h, num) ? 1 : num);
}

RingRequest *harness_add(RingHarness *h, unsigned num_out, unsigned num_in)
{
    RingRequest *request = move(h->idle, h->idle->len - 1, h->added);
    g_autofree ShadowRingBuf *bufs = g_new(ShadowRingBuf, num_out + num_in);
    ShadowRingChain chain = {
        .bufs = bufs,
        .num_out = num_out,
        .num_in = num_in,
    };

    request->has_table = wants_table(h, num_out + num_in);
    request->serial = h->next_serial++;
    request->num_out = num_out;
    request->num_in = num_in;
    request->num_descs = request->has_table ? 1 : num_out + num_in;
    if (request->has_table) {
        chain.table = (uint8_t *)h->config.mem + h->tables_offset +
                      request->table_offset;
        chain.table_addr = TABLES_ADDR + request->table_offset;
    }
    write_bufs(request, bufs);

    DRIVER(h, shadow_ring_add(h->ring, &chain, request));
    h->num_descs += request->num_descs;
    h->num_unpublished++;
    check_counters(h);
    return request;
}

/* Split rings count requests, packed rings descriptors. */
static unsigned num_places(const RingHarness *h, const RingRequest *request)
{
    return h->params.format == SHADOW_RING_PACKED ? request->num_descs : 1;
}

void harness_publish(RingHarness *h)
{
    unsigned num = 0;

    DRIVER(h, shadow_ring_publish(h->ring));
    for (; h->num_unpublished; h->num_unpublished--) {
        num += num_places(h, g_ptr_array_index(h->added, h->added->len -
                                               h->num_unpublished));
    }
    h->published_end = mock_device_place(&h->device, h->published_end, num);
    h->num_unasked += num;
    check_counters(h);
}

/* Without the model: for event words that mean nothing. */
bool harness_should_kick_any(RingHarness *h)
{
    bool kick;

    DRIVER(h, kick = shadow_ring_should_kick(h->ring));
    g_assert_false(kick && !h->num_unasked);
    h->num_unasked = 0;
    return kick;
}

bool harness_should_kick(RingHarness *h)
{
    bool expected = mock_device_wants_kick(&h->device, h->published_end,
                                           h->num_unasked);

    g_assert_cmpint(harness_should_kick_any(h), ==, expected);
    return expected;
}

bool harness_has_used(RingHarness *h)
{
    bool has_used;

    DRIVER(h, has_used = shadow_ring_has_used(h->ring));
    return has_used;
}

void harness_suppress_calls(RingHarness *h)
{
    DRIVER(h, shadow_ring_suppress_calls(h->ring));
}

bool harness_arm_calls(RingHarness *h)
{
    bool look_again;

    DRIVER(h, look_again = shadow_ring_arm_calls(h->ring));
    return look_again;
}

/* Without the model: for devices that do not play by the rules. */
ShadowRingResult harness_take_any(RingHarness *h, RingRequest **request)
{
    ShadowRingResult result;
    void *token = NULL;
    uint32_t raw_len;

    DRIVER(h, result = shadow_ring_take(h->ring, &token, &raw_len));
    *request = token;
    return result;
}

RingRequest *harness_take(RingHarness *h)
{
    bool expected = h->used->len > h->num_hidden;
    ShadowRingResult result;
    RingRequest *request;
    void *token = NULL;
    uint32_t raw_len = 0;

    g_assert_cmpint(harness_has_used(h), ==, expected);
    DRIVER(h, result = shadow_ring_take(h->ring, &token, &raw_len));
    if (!expected) {
        g_assert_cmpint(result, ==, SHADOW_RING_EMPTY);
        return NULL;
    }
    g_assert_cmpint(result, ==, SHADOW_RING_OK);
    request = move(h->used, 0, h->idle);
    h->num_descs -= request->num_descs;
    g_assert_true(token == request);
    g_assert_cmpuint(raw_len, ==, request->len);
    check_counters(h);
    return request;
}

RingRequest *harness_take_back(RingHarness *h)
{
    RingRequest *request;
    void *token;

    DRIVER(h, token = shadow_ring_take_back(h->ring));
    if (!token) {
        return NULL;
    }
    request = move(h->added, h->added->len - 1, h->idle);
    h->num_descs -= request->num_descs;
    h->published_end = mock_device_place(&h->device, h->published_end,
                                         -(int)num_places(h, request));
    h->num_unasked -= MIN(h->num_unasked, num_places(h, request));
    g_assert_true(token == request);
    check_counters(h);
    return request;
}

bool harness_fetch(RingHarness *h)
{
    bool expected = h->added->len > h->num_unpublished;
    MockRequest *fetched = &h->fetched;
    g_autofree ShadowRingBuf *bufs = NULL;
    RingRequest *request;
    unsigned num;

    g_assert_cmpint(mock_device_fetch(&h->device, fetched), ==, expected);
    if (!expected) {
        return false;
    }
    request = move(h->added, 0, h->held);
    num = request->num_out + request->num_in;
    bufs = g_new0(ShadowRingBuf, num);
    write_bufs(request, bufs);
    g_assert_cmpuint(fetched->num_out, ==, request->num_out);
    g_assert_cmpuint(fetched->num_in, ==, request->num_in);
    g_assert_cmpint(fetched->indirect, ==, request->has_table);
    g_assert_cmpuint(fetched->num_descs, ==, request->num_descs);
    for (unsigned i = 0; i < num; i++) {
        g_assert_cmphex(fetched->bufs[i].addr, ==, bufs[i].addr);
        g_assert_cmpuint(fetched->bufs[i].len, ==, bufs[i].len);
    }
    request->id = fetched->id;
    return true;
}

void harness_unfetch(RingHarness *h)
{
    RingRequest *request = g_ptr_array_steal_index(h->held, h->held->len - 1);

    g_ptr_array_insert(h->added, 0, request);
    mock_device_unfetch(&h->device, request->id);
}

void harness_use(RingHarness *h, unsigned held, uint32_t len)
{
    RingRequest *request = move(h->held, held, h->used);

    request->len = len;
    mock_device_use(&h->device, request->id, len);
    h->num_hidden++;
}

void harness_publish_used(RingHarness *h)
{
    mock_device_publish(&h->device);
    h->num_hidden = 0;
}

void harness_add_and_publish(RingHarness *h, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        harness_add(h, 1, 0);
    }
    harness_publish(h);
}

unsigned harness_fetch_all(RingHarness *h)
{
    unsigned num = 0;

    while (harness_fetch(h)) {
        num++;
    }
    return num;
}

unsigned harness_use_all(RingHarness *h)
{
    unsigned num = h->held->len;

    while (h->held->len) {
        harness_use(h, 0, h->held->len);
    }
    harness_publish_used(h);
    return num;
}

unsigned harness_take_all(RingHarness *h)
{
    unsigned num = 0;

    while (harness_take(h)) {
        num++;
    }
    return num;
}

void harness_round_trip(RingHarness *h, unsigned num)
{
    while (num--) {
        harness_add_and_publish(h, 1);
        harness_fetch_all(h);
        harness_use_all(h);
        harness_take_all(h);
    }
}

void harness_go_to(RingHarness *h, unsigned place)
{
    g_assert_cmpuint(shadow_ring_in_flight(h->ring), ==, 0);
    while (h->device.next_avail % (2 * h->params.size) != place) {
        harness_round_trip(h, 1);
    }
}

/* In a packed ring's answer the upper half may be missing, or nonsense. */
static uint32_t stop_answer(const RingHarness *h)
{
    uint32_t base = mock_device_base(&h->device);

    if (h->params.format == SHADOW_RING_SPLIT || g_test_rand_bit()) {
        return base;
    }
    return (base & 0xffff) | (g_test_rand_bit() ? g_test_rand_int() << 16 : 0);
}

void harness_stop_and_resume(RingHarness *h)
{
    uint32_t base;
    uint16_t num;

    harness_publish(h);
    harness_publish_used(h);
    harness_take_all(h);
    g_assert_true(shadow_ring_unfetched(h->ring, stop_answer(h), &num));
    g_assert_cmpuint(num, ==, h->added->len);
    while (num--) {
        g_assert_nonnull(harness_take_back(h));
    }

    /* The device's own answer is where both go on. */
    base = shadow_ring_base(h->ring);
    g_assert_cmphex(base, ==, mock_device_base(&h->device));
    h->device.next_avail = UINT32_MAX;
    h->device.next_used = UINT32_MAX;
    mock_device_resume(&h->device, base);
    g_assert_false(harness_fetch(h));
}
