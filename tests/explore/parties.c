/*
 * The two parties that the explorer runs.
 *
 * Each operation of either is one call of the ring or of the device, so that
 * its private memory between operations is all there is to know.  Requests are
 * numbered; addresses, lengths and what the device says it wrote follow from
 * the number, so neither party can mistake one for another.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "parties.h"

#define SIZE_MAX_EXPLORED 4
#define TABLES_ADDR 0x7000000

/* A request that is out. */
typedef struct Slot {
    bool out;
    uint32_t n;
} Slot;

typedef enum DriverDoes {
    DRIVER_SUPPRESSES,
    DRIVER_TAKES,
    DRIVER_ADDS,
    DRIVER_PUBLISHES,
    DRIVER_KICKS,
    DRIVER_ARMS,
    DRIVER_SLEEPS,
} DriverDoes;

typedef struct Driver {
    ShadowRing *ring;
    uint8_t does;
    bool late;                /* added one more before the kick check    */
    uint32_t next;            /* number of the next request              */
    uint32_t taken;
    Slot slot[SIZE_MAX_EXPLORED];
} Driver;

typedef enum DeviceDoes {
    DEVICE_SUPPRESSES,
    DEVICE_FETCHES,
    DEVICE_USES,
    DEVICE_PUBLISHES,
    DEVICE_CALLS,
    DEVICE_ARMS,
    DEVICE_SLEEPS,
} DeviceDoes;

/* A request that was fetched and not given back. */
typedef struct Held {
    uint16_t id;
    uint16_t num_descs;
    uint32_t n;
} Held;

typedef struct Device {
    RingDevice ring;
    uint8_t does;
    uint8_t num_held;
    uint32_t next;            /* number of the next request              */
    Held held[SIZE_MAX_EXPLORED];
} Device;

static const Scenario *scenario;
static uint32_t end;          /* number behind the last request          */

void ring_device_fault(const char *rule)
{
    explore_fail("the device sees %s", rule);
}

static unsigned request_bufs(uint32_t n)
{
    return 1 + n % scenario->max_bufs;
}

static unsigned request_in(uint32_t n)
{
    return request_bufs(n) > 1 ? request_bufs(n) / 2 : n & 1;
}

static ShadowRingBuf request_buf(uint32_t n, unsigned i)
{
    return (ShadowRingBuf) { .addr = 0x10000 + 16 * n + i, .len = 1 + n + i };
}

static uint32_t request_len(uint32_t n)
{
    return n * 3 + 1;
}

static bool request_has_table(uint32_t n)
{
    return scenario->indirect && (n / scenario->max_bufs) % 2 == 0;
}

static bool driver_can_add(const Driver *d)
{
    unsigned need = request_has_table(d->next) ? 1 : request_bufs(d->next);

    return d->next < end && need <= shadow_ring_room(d->ring);
}

static void driver_add(Driver *d)
{
    uint8_t *tables = explore_shared() +
        shadow_ring_layout(scenario->format, scenario->size).bytes;
    unsigned table_bytes = scenario->max_bufs * SHADOW_RING_DESC_BYTES;
    unsigned num = request_bufs(d->next);
    ShadowRingBuf bufs[RING_DEVICE_BUFS];
    ShadowRingChain chain = {
        .bufs = bufs,
        .num_in = request_in(d->next),
        .num_out = num - request_in(d->next),
    };
    unsigned i = 0;

    while (d->slot[i].out) {
        i++;
    }
    if (request_has_table(d->next)) {
        chain.table = tables + i * table_bytes;
        chain.table_addr = TABLES_ADDR + i * table_bytes;
    }
    for (unsigned b = 0; b < num; b++) {
        bufs[b] = request_buf(d->next, b);
    }
    d->slot[i] = (Slot) { .out = true, .n = d->next };
    d->next++;
    shadow_ring_add(d->ring, &chain, &d->slot[i]);
}

/* Returns: false if there was nothing. */
static bool driver_take(Driver *d)
{
    ShadowRingResult result;
    uint32_t raw_len;
    void *token;
    Slot *slot;

    result = shadow_ring_take(d->ring, &token, &raw_len);
    if (result == SHADOW_RING_BROKEN) {
        explore_fail("an honest device broke the ring: %s",
                     shadow_ring_fault(d->ring));
    }
    if (result == SHADOW_RING_EMPTY) {
        return false;
    }
    slot = token;
    if (slot < d->slot || slot >= d->slot + scenario->size || !slot->out) {
        explore_fail("a token came back that is not out");
    }
    if (raw_len != request_len(slot->n)) {
        explore_fail("request %u came back with the length %u",
                     slot->n, raw_len);
    }
    *slot = (Slot) { 0 };
    d->taken++;
    return true;
}

static bool driver_wants_more(const Driver *d)
{
    if (!driver_can_add(d)) {
        return false;
    }
    switch (scenario->driver) {
    case HABIT_ONE:
    case HABIT_LATE:
        return false;
    case HABIT_FREE:
        return explore_choose(2);
    default:
        return true;
    }
}

static DriverDoes driver_after_add(const Driver *d)
{
    if (d->late) {
        return DRIVER_KICKS;
    }
    return driver_wants_more(d) ? DRIVER_ADDS : DRIVER_PUBLISHES;
}

static DriverDoes driver_after_publish(Driver *d)
{
    d->late = scenario->driver == HABIT_LATE && driver_can_add(d);
    if (d->late || (scenario->driver == HABIT_FREE && driver_wants_more(d))) {
        return DRIVER_ADDS;
    }
    return DRIVER_KICKS;
}

static DriverDoes driver_after_kick(const Driver *d)
{
    if (d->late) {
        return DRIVER_PUBLISHES;
    }
    return scenario->driver == HABIT_ONE && driver_can_add(d) ?
           DRIVER_ADDS : DRIVER_ARMS;
}

static void driver_after_sleep(Driver *d)
{
    /* A request of the guest's is something else that can wake it. */
    bool guest = explore_wait(driver_can_add(d));
    bool lazy = !guest && scenario->driver == HABIT_FREE && explore_choose(2);

    d->does = guest ? DRIVER_ADDS : lazy ? DRIVER_TAKES : DRIVER_SUPPRESSES;
}

static void driver_check_end(const Driver *d)
{
    if (shadow_ring_in_flight(d->ring) ||
        shadow_ring_room(d->ring) != scenario->size) {
        explore_fail("the ring is not empty at the end");
    }
}

static bool driver_op(void *opaque)
{
    Driver *d = opaque;

    switch (d->does) {
    case DRIVER_SUPPRESSES:
        shadow_ring_suppress_calls(d->ring);
        d->does = DRIVER_TAKES;
        break;
    case DRIVER_TAKES:
        if (!driver_take(d)) {
            d->does = driver_can_add(d) ? DRIVER_ADDS : DRIVER_ARMS;
        }
        break;
    case DRIVER_ADDS:
        driver_add(d);
        d->does = driver_after_add(d);
        break;
    case DRIVER_PUBLISHES:
        shadow_ring_publish(d->ring);
        d->does = driver_after_publish(d);
        break;
    case DRIVER_KICKS:
        if (shadow_ring_should_kick(d->ring)) {
            explore_signal();
        }
        d->does = driver_after_kick(d);
        break;
    case DRIVER_ARMS:
        if (d->taken == end) {
            driver_check_end(d);
            return false;
        }
        d->does = shadow_ring_arm_calls(d->ring) ? DRIVER_SUPPRESSES :
                                                   DRIVER_SLEEPS;
        break;
    case DRIVER_SLEEPS:
        driver_after_sleep(d);
        break;
    }
    return true;
}

static const char *driver_op_name(const void *opaque)
{
    static const char *const names[] = {
        [DRIVER_SUPPRESSES] = "suppress", [DRIVER_TAKES] = "take",
        [DRIVER_ADDS] = "add", [DRIVER_PUBLISHES] = "publish",
        [DRIVER_KICKS] = "should_kick", [DRIVER_ARMS] = "arm",
        [DRIVER_SLEEPS] = "sleep",
    };

    return names[((const Driver *)opaque)->does];
}

static bool device_fetch(Device *d)
{
    RingDeviceRequest request;
    uint32_t n = d->next;

    if (!ring_device_fetch(&d->ring, &request)) {
        return false;
    }
    if (request.num_in != request_in(n) ||
        request.num_out + request.num_in != request_bufs(n)) {
        explore_fail("request %u has %u + %u buffers for the device", n,
                     request.num_out, request.num_in);
    }
    for (unsigned i = 0; i < request_bufs(n); i++) {
        ShadowRingBuf buf = request_buf(n, i);

        if (request.bufs[i].addr != buf.addr ||
            request.bufs[i].len != buf.len) {
            explore_fail("buffer %u of request %u is 0x%" PRIx64
                         " for the device", i, n, request.bufs[i].addr);
        }
    }
    g_assert_cmpuint(d->num_held, <, SIZE_MAX_EXPLORED);
    d->held[d->num_held++] = (Held) {
        .id = request.id, .num_descs = request.num_descs, .n = n,
    };
    d->next++;
    return true;
}

static unsigned device_pick(const Device *d)
{
    switch (scenario->device) {
    case HABIT_REVERSE:
        return d->num_held - 1;
    case HABIT_FREE:
        return explore_choose(d->num_held);
    default:
        return 0;
    }
}

static void device_use(Device *d)
{
    unsigned i = device_pick(d);
    Held held = d->held[i];

    ring_device_use(&d->ring, held.id, held.num_descs, request_len(held.n));
    d->num_held--;
    for (; i < d->num_held; i++) {
        d->held[i] = d->held[i + 1];
    }
    d->held[i] = (Held) { 0 };
}

/* Fetched something, or found nothing: what next? */
static DeviceDoes device_after_fetch(const Device *d, bool fetched)
{
    switch (scenario->device) {
    case HABIT_ONE:
        return d->num_held ? DEVICE_USES : DEVICE_ARMS;
    case HABIT_FREE:
        if (!d->num_held || explore_choose(2)) {
            return fetched ? DEVICE_FETCHES : DEVICE_ARMS;
        }
        return DEVICE_USES;
    default:
        return fetched ? DEVICE_FETCHES :
               d->num_held ? DEVICE_USES : DEVICE_ARMS;
    }
}

static DeviceDoes device_after_use(const Device *d)
{
    if (!d->num_held || (scenario->device == HABIT_FREE &&
                         explore_choose(2))) {
        return DEVICE_PUBLISHES;
    }
    return DEVICE_USES;
}

static bool device_op(void *opaque)
{
    Device *d = opaque;
    bool again;

    switch (d->does) {
    case DEVICE_SUPPRESSES:
        ring_device_suppress_kicks(&d->ring);
        d->does = DEVICE_FETCHES;
        break;
    case DEVICE_FETCHES:
        again = device_fetch(d);
        d->does = device_after_fetch(d, again);
        break;
    case DEVICE_USES:
        device_use(d);
        d->does = device_after_use(d);
        break;
    case DEVICE_PUBLISHES:
        ring_device_publish(&d->ring);
        d->does = DEVICE_CALLS;
        break;
    case DEVICE_CALLS:
        if (ring_device_should_call(&d->ring)) {
            explore_signal();
        }
        d->does = DEVICE_FETCHES;
        break;
    case DEVICE_ARMS:
        d->does = ring_device_arm_kicks(&d->ring) ? DEVICE_SUPPRESSES :
                                                    DEVICE_SLEEPS;
        break;
    case DEVICE_SLEEPS:
        /* A request that takes its time wakes it when it is done. */
        d->does = explore_wait(d->num_held) ? DEVICE_USES : DEVICE_SUPPRESSES;
        break;
    }
    return true;
}

static const char *device_op_name(const void *opaque)
{
    static const char *const names[] = {
        [DEVICE_SUPPRESSES] = "suppress", [DEVICE_FETCHES] = "fetch",
        [DEVICE_USES] = "use", [DEVICE_PUBLISHES] = "publish",
        [DEVICE_CALLS] = "should_call", [DEVICE_ARMS] = "arm",
        [DEVICE_SLEEPS] = "sleep",
    };

    return names[((const Device *)opaque)->does];
}

/* One request after the other, both sides in turn. */
static void live(Driver *driver, Device *device)
{
    while (driver->taken < scenario->before) {
        explore_directly(DRIVER);
        shadow_ring_suppress_calls(driver->ring);
        driver_add(driver);
        shadow_ring_publish(driver->ring);
        shadow_ring_should_kick(driver->ring);
        shadow_ring_arm_calls(driver->ring);
        explore_directly(DEVICE);
        ring_device_suppress_kicks(&device->ring);
        g_assert_true(device_fetch(device));
        ring_device_use(&device->ring, device->held[0].id,
                        device->held[0].num_descs,
                        request_len(device->held[0].n));
        device->held[0] = (Held) { 0 };
        device->num_held = 0;
        ring_device_publish(&device->ring);
        ring_device_should_call(&device->ring);
        ring_device_arm_kicks(&device->ring);
        explore_directly(DRIVER);
        g_assert_true(driver_take(driver));
    }
}

void parties_init(const Scenario *wanted, ExploreActor *actors)
{
    ShadowRingLayout layout = shadow_ring_layout(wanted->format,
                                                 wanted->size);
    ShadowRingConfig config = {
        .format = wanted->format,
        .size = wanted->size,
        .event_idx = wanted->event_idx,
        .indirect = wanted->indirect,
        .mem = explore_shared(),
    };
    unsigned tables = wanted->indirect ? wanted->size : 0;
    Driver *driver;
    Device *device;

    scenario = wanted;
    end = wanted->before + wanted->num;
    g_assert_cmpuint(wanted->size, <=, SIZE_MAX_EXPLORED);
    explore_reset();
    locations_init(wanted->format, wanted->size, tables, wanted->max_bufs);

    driver = explore_alloc(DRIVER, sizeof(*driver));
    explore_alloc_for(DRIVER);
    driver->ring = shadow_ring_new(&config);
    explore_alloc_for(-1);
    device = explore_alloc(DEVICE, sizeof(*device));
    ring_device_init(&device->ring, &config);
    device->ring.halves = wanted->halves;
    device->ring.tables = explore_shared() + layout.bytes;
    device->ring.tables_addr = TABLES_ADDR;
    device->ring.tables_bytes = tables * wanted->max_bufs *
                                SHADOW_RING_DESC_BYTES;
    live(driver, device);

    actors[DRIVER] = (ExploreActor) {
        .name = "driver", .op = driver_op, .opaque = driver,
        .op_name = driver_op_name, .must_end = true,
    };
    actors[DEVICE] = (ExploreActor) {
        .name = "device", .op = device_op, .opaque = device,
        .op_name = device_op_name,
    };
}
