/*
 * Mock device, packed ring: device side of virtio 1.2, 2.8.
 *
 * Used descriptors are written where the device stands, one for a chain,
 * which is then skipped (2.8.7).  Of a batch the first one's flags come last:
 * the driver cannot look past it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "mock-device-internal.h"

#define F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define F_USED (1 << VRING_PACKED_DESC_F_USED)

typedef struct vring_packed_desc PackedDesc;
typedef struct vring_packed_desc_event PackedEvent;

static PackedDesc *desc_at(const MockDevice *d, uint32_t place)
{
    return (PackedDesc *)d->desc + place % d->size;
}

static PackedEvent *driver_event(const MockDevice *d)
{
    return (PackedEvent *)d->driver;
}

static PackedEvent *device_event(const MockDevice *d)
{
    return (PackedEvent *)d->device;
}

/* 2.8.1: 1 in the first lap, and in every second one after it. */
static bool wrap_at(const MockDevice *d, uint32_t place)
{
    return place < d->size;
}

static uint16_t off_wrap(const MockDevice *d, uint32_t place)
{
    return place % d->size |
           wrap_at(d, place) << VRING_PACKED_EVENT_F_WRAP_CTR;
}

/* The place, or UINT32_MAX if there is none of that kind. */
static uint32_t place_of(const MockDevice *d, uint16_t off_wrap)
{
    uint32_t off = off_wrap & ~(1 << VRING_PACKED_EVENT_F_WRAP_CTR);

    if (off >= d->size) {
        return UINT32_MAX;
    }
    return off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR ? off : off + d->size;
}

static void packed_init(MockDevice *d)
{
    d->cycle = 2 * (uint32_t)d->size;
    d->driver_bytes = sizeof(PackedEvent);
}

/* 2.8.1: available if the two bits differ, and the first is the counter. */
static bool is_avail(const MockDevice *d, uint32_t place, uint16_t flags)
{
    bool avail = flags & F_AVAIL;
    bool used = flags & F_USED;

    return avail != used && avail == wrap_at(d, place);
}

uint16_t mock_device_read_flags(const MockDevice *d, uint32_t place)
{
    return le16_to_cpu(qatomic_load_acquire(&desc_at(d, place)->flags));
}

static bool packed_has_avail(const MockDevice *d)
{
    return is_avail(d, d->next_avail,
                    mock_device_read_flags(d, d->next_avail));
}

/* 2.8.8: there is no chain in a table, and WRITE is the only flag. */
static void fetch_table(const MockDevice *d, MockRequest *request,
                        const PackedDesc *desc)
{
    uint32_t bytes = le32_to_cpu(desc->len);
    const PackedDesc *table = mock_device_table(d, le64_to_cpu(desc->addr),
                                                bytes);

    for (unsigned i = 0; i < bytes / sizeof(*desc); i++) {
        uint16_t flags = le16_to_cpu(table[i].flags);

        g_assert_cmphex(flags & ~VRING_DESC_F_WRITE, ==, 0);
        mock_request_add(request, le64_to_cpu(table[i].addr),
                         le32_to_cpu(table[i].len), flags);
    }
}

static void packed_fetch(MockDevice *d, MockRequest *request)
{
    uint32_t place = d->next_avail;
    uint16_t flags;

    request->id = le16_to_cpu(desc_at(d, place)->id);
    do {
        const PackedDesc *desc = desc_at(d, place);

        flags = mock_device_read_flags(d, place);
        /* The first of a chain becomes available last (2.8.21.1.1). */
        g_assert_true(is_avail(d, place, flags));
        g_assert_cmpuint(le16_to_cpu(desc->id), ==, request->id);
        flags &= ~(F_AVAIL | F_USED);
        place = mock_device_place(d, place, 1);
        g_assert_cmpuint(++request->num_descs, <=, d->size);

        request->indirect = flags == VRING_DESC_F_INDIRECT;
        if (request->indirect) {
            g_assert_cmpuint(request->num_descs, ==, 1);
            fetch_table(d, request, desc);
            return;
        }
        g_assert_cmphex(flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE),
                        ==, 0);
        mock_request_add(request, le64_to_cpu(desc->addr),
                         le32_to_cpu(desc->len), flags & VRING_DESC_F_WRITE);
    } while (flags & VRING_DESC_F_NEXT);
}

static void packed_fetched(MockDevice *d, uint16_t num_descs, bool forward)
{
    d->next_avail = mock_device_place(d, d->next_avail,
                                      forward ? num_descs : -num_descs);
}

/* The device's words are no secret to the driver. */
static void wrote(MockDevice *d, const void *word, size_t bytes)
{
    size_t first = ((const uint8_t *)word - d->desc) / 2;

    if (d->wrote) {
        memset(d->wrote + first, 1, bytes / 2);
    }
}

void mock_device_write_flags(MockDevice *d, uint32_t place, uint16_t flags)
{
    PackedDesc *desc = desc_at(d, place);

    qatomic_store_release(&desc->flags, cpu_to_le16(flags));
    wrote(d, &desc->flags, sizeof(desc->flags));
}

/* 2.8.6: of a used descriptor only these three mean anything. */
static void write_used(MockDevice *d, uint32_t place, uint16_t id,
                       uint32_t len)
{
    PackedDesc *desc = desc_at(d, place);

    desc->id = cpu_to_le16(id);
    desc->len = cpu_to_le32(len);
    wrote(d, &desc->id, sizeof(desc->id));
    wrote(d, &desc->len, sizeof(desc->len));
}

void mock_device_write_used_desc(MockDevice *d, uint32_t place, uint16_t id,
                                 uint32_t len, uint16_t flags)
{
    write_used(d, place, id, len);
    mock_device_write_flags(d, place, flags);
}

static uint16_t used_flags(const MockDevice *d, uint32_t place, uint32_t len)
{
    return (wrap_at(d, place) ? F_AVAIL | F_USED : 0) |
           (len ? VRING_DESC_F_WRITE : 0);
}

static void packed_use(MockDevice *d, uint32_t id, uint32_t len,
                       uint16_t num_descs)
{
    uint16_t flags = used_flags(d, d->next_used, len);

    write_used(d, d->next_used, id, len);
    if (d->next_used == d->sent_used) {
        d->sent_flags = flags;
    } else {
        mock_device_write_flags(d, d->next_used, flags);
    }
    d->next_used = mock_device_place(d, d->next_used, num_descs);
}

static void packed_publish(MockDevice *d)
{
    mock_device_write_flags(d, d->sent_used, d->sent_flags);
}

/* 2.8.10: flags, then what they refer to. */
static bool event_wants(const MockDevice *d, const PackedEvent *event,
                        uint32_t old, uint64_t num)
{
    uint16_t flags = le16_to_cpu(qatomic_load_acquire(&event->flags));
    uint16_t place = le16_to_cpu(qatomic_read(&event->off_wrap));

    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        g_assert_cmphex(flags, <=, VRING_PACKED_EVENT_FLAG_DISABLE);
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
    }
    g_assert_true(d->event_idx);
    g_assert_cmphex(place_of(d, place), !=, UINT32_MAX);
    return mock_device_event_passed(d, place_of(d, place), old, num);
}

static bool packed_wants_call(const MockDevice *d)
{
    uint32_t old = mock_device_place(d, d->sent_used,
                                     -(int64_t)d->num_uncalled);

    return event_wants(d, driver_event(d), old, d->num_uncalled);
}

static bool packed_wants_kick(const MockDevice *d, uint32_t old, uint64_t num)
{
    return event_wants(d, device_event(d), old, num);
}

static void write_event_flags(MockDevice *d, uint16_t flags)
{
    qatomic_store_release(&device_event(d)->flags, cpu_to_le16(flags));
}

/* Two words: whoever sees the flags sees what they refer to. */
static void packed_write_event(MockDevice *d, uint32_t place)
{
    qatomic_set(&device_event(d)->off_wrap, cpu_to_le16(off_wrap(d, place)));
    write_event_flags(d, VRING_PACKED_EVENT_FLAG_DESC);
}

static void packed_arm(MockDevice *d)
{
    if (d->event_idx) {
        packed_write_event(d, d->next_avail);
    } else {
        write_event_flags(d, VRING_PACKED_EVENT_FLAG_ENABLE);
    }
}

static void packed_suppress(MockDevice *d)
{
    write_event_flags(d, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static uint32_t packed_base_at(const MockDevice *d, uint32_t place)
{
    return off_wrap(d, place) | (uint32_t)off_wrap(d, d->next_used) << 16;
}

static void packed_resume(MockDevice *d, uint32_t base)
{
    d->next_avail = place_of(d, base);
    d->next_used = place_of(d, base >> 16);
    g_assert_cmphex(d->next_avail, !=, UINT32_MAX);
    g_assert_cmphex(d->next_used, !=, UINT32_MAX);
}

/* Descriptors look used that are not; what they say is up to the test. */
static void packed_run_ahead(MockDevice *d, unsigned num)
{
    while (num--) {
        uint32_t place = mock_device_place(d, d->next_used, num);

        mock_device_write_flags(d, place, used_flags(d, place, 0));
    }
}

static void packed_write_kick_words(MockDevice *d, uint16_t flags,
                                    uint16_t event)
{
    qatomic_set(&device_event(d)->off_wrap, cpu_to_le16(event));
    write_event_flags(d, flags);
}

static void packed_scribble(MockDevice *d)
{
    memset(d->driver, 0xff, d->driver_bytes);
    for (uint32_t place = 0; place < d->size; place++) {
        PackedDesc *desc = desc_at(d, place);
        uint16_t bits = le16_to_cpu(desc->flags) & (F_AVAIL | F_USED);

        memset(desc, 0xff, sizeof(*desc));
        desc->flags = cpu_to_le16(bits == F_USED ? 0xff7f : 0x7fff);
    }
}

const MockDeviceOps mock_device_packed_ops = {
    .init = packed_init,
    .has_avail = packed_has_avail,
    .fetch = packed_fetch,
    .fetched = packed_fetched,
    .use = packed_use,
    .publish = packed_publish,
    .wants_call = packed_wants_call,
    .wants_kick = packed_wants_kick,
    .write_event = packed_write_event,
    .arm = packed_arm,
    .suppress = packed_suppress,
    .base_at = packed_base_at,
    .resume = packed_resume,
    .run_ahead = packed_run_ahead,
    .write_kick_words = packed_write_kick_words,
    .scribble = packed_scribble,
};
