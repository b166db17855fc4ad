/*
 * Words of a ring's shared memory, by name (virtio 1.2, 2.7 and 2.8).
 *
 * Written from the specification and not from the ring files: an access that
 * fits no word of this table is a fault of whoever made it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "locations.h"

static Location table[LOCATIONS_MAX];
static unsigned num_locations;
static uint16_t end;

static void add(uint64_t offset, unsigned size, bool both_write,
                const char *area, int index, const char *field)
{
    Location *l = &table[num_locations++];

    g_assert_cmpuint(num_locations, <=, LOCATIONS_MAX);
    end = MAX(end, offset + size);
    *l = (Location) {
        .offset = offset,
        .size = size,
        .both_write = both_write,
    };
    if (index < 0) {
        snprintf(l->name, sizeof(l->name), "%s.%s", area, field);
    } else {
        snprintf(l->name, sizeof(l->name), "%s[%d]%s", area, index, field);
    }
}

static void add_desc(uint64_t offset, bool packed, bool both_write,
                     const char *area, int index)
{
    add(offset, 8, false, area, index, ".addr");
    add(offset + 8, 4, both_write, area, index, ".len");
    if (packed) {
        add(offset + 12, 2, both_write, area, index, ".id");
        add(offset + 14, 2, both_write, area, index, ".flags");
    } else {
        add(offset + 12, 2, false, area, index, ".flags");
        add(offset + 14, 2, false, area, index, ".next");
    }
}

static void add_split(const ShadowRingLayout *layout, uint16_t size)
{
    uint64_t ring = layout->driver + 4;
    uint64_t used = layout->device + 4;

    add(layout->driver, 2, false, "avail", -1, "flags");
    add(layout->driver + 2, 2, false, "avail", -1, "idx");
    add(layout->device, 2, false, "used", -1, "flags");
    add(layout->device + 2, 2, false, "used", -1, "idx");
    for (unsigned i = 0; i < size; i++) {
        add_desc(layout->desc + 16 * i, false, false, "desc", i);
        add(ring + 2 * i, 2, false, "avail.ring", i, "");
        add(used + 8 * i, 4, false, "used.ring", i, ".id");
        add(used + 8 * i + 4, 4, false, "used.ring", i, ".len");
    }
    add(ring + 2 * size, 2, false, "avail", -1, "used_event");
    add(used + 8 * size, 2, false, "used", -1, "avail_event");
}

static void add_packed(const ShadowRingLayout *layout, uint16_t size)
{
    for (unsigned i = 0; i < size; i++) {
        add_desc(layout->desc + 16 * i, true, true, "desc", i);
    }
    add(layout->driver, 4, false, "driver", -1, "event");
    add(layout->device, 4, false, "device", -1, "event");
}

void locations_init(ShadowRingFormat format, uint16_t size,
                    unsigned num_tables, unsigned table_descs)
{
    ShadowRingLayout layout = shadow_ring_layout(format, size);
    bool packed = format == SHADOW_RING_PACKED;

    num_locations = 0;
    end = 0;
    if (packed) {
        add_packed(&layout, size);
    } else {
        add_split(&layout, size);
    }
    for (unsigned i = 0; i < num_tables * table_descs; i++) {
        add_desc(layout.bytes + 16 * i, packed, false, "table", i);
    }
}

unsigned locations_num(void)
{
    return num_locations;
}

uint16_t locations_end(void)
{
    return end;
}

const Location *location(unsigned n)
{
    g_assert_cmpuint(n, <, num_locations);
    return &table[n];
}

const char *location_name(uint16_t offset)
{
    if (offset == UINT16_MAX) {
        return "a signal";
    }
    for (unsigned n = 0; n < num_locations; n++) {
        if ((unsigned)(offset - table[n].offset) < table[n].size) {
            return table[n].name;
        }
    }
    return "nowhere";
}

int location_at(uint16_t offset, uint8_t size)
{
    for (unsigned n = 0; n < num_locations; n++) {
        if (table[n].offset == offset && table[n].size == size) {
            return n;
        }
    }
    return -1;
}
