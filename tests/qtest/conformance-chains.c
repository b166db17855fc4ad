/*
 * Chains, tables and rings that a guest may not write, or hardly.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "conformance.h"

#define WRITE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

static const char *offer(Rig *r, const GuestDesc *descs, unsigned num)
{
    queue_offer(rig_queue(r), descs, num);
    r->asked++;
    return NULL;
}

/* Chains: one descriptor of a proper request is not proper. */

static const char *first_is_at(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    descs[0].addr = rig_where(r, c->arg);
    return offer(r, descs, num);
}

static const char *last_is_at(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    descs[num - 1].addr = rig_where(r, c->arg);
    descs[num - 1].len = MAX(descs[num - 1].len, 16);
    return offer(r, descs, num);
}

static const char *first_is_long(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    descs[0].len = c->arg;
    return offer(r, descs, num);
}

static const char *last_is_long(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    descs[num - 1].len = c->arg;
    return offer(r, descs, num);
}

static const char *flags_of_head(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    descs[0].flags |= c->arg;
    return offer(r, descs, num);
}

static const char *readable_behind_writable(Rig *r, const Case *c)
{
    GuestDesc descs[2];

    rig_init(r);
    descs[0] = (GuestDesc) { rig_data(r, 0x3000), 64, WRITE };
    descs[1] = (GuestDesc) { rig_data(r, 0), 64, 0 };
    return offer(r, descs, 2);
}

static const char *whole_ring_goes_on(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];

    rig_init(r);
    for (unsigned i = 0; i < RIG_QUEUE_SIZE; i++) {
        descs[i] = (GuestDesc) { rig_data(r, 0), 1, c->arg | NEXT };
    }
    return offer(r, descs, RIG_QUEUE_SIZE);
}

/* Split: the head of a proper request says that @arg is next. */
static const char *head_says_next(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    GuestQueue *q;
    unsigned num;

    rig_init(r);
    q = rig_queue(r);
    num = r->kind->request(r, descs);
    queue_write_chain(q, descs, num);
    descs[0].flags |= NEXT;
    queue_put_desc(q, q->desc, descs[0], c->arg);
    queue_publish(q);
    queue_kick(q);
    return NULL;
}

static const char *avail_head_is(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    GuestQueue *q;

    rig_init(r);
    q = rig_queue(r);
    queue_write_chain(q, descs, r->kind->request(r, descs));
    q->head_slot = c->arg;
    queue_publish(q);
    queue_kick(q);
    return NULL;
}

static const char *avail_advances_by(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    GuestQueue *q;

    rig_init(r);
    q = rig_queue(r);
    queue_write_chain(q, descs, r->kind->request(r, descs));
    q->next_avail += c->arg - 1;
    queue_publish(q);
    queue_kick(q);
    return NULL;
}

/* Packed: a slot is stepped over; the first has other flags. */
static const char *slots_are_skipped(Rig *r, const Case *c)
{
    GuestQueue *q;

    rig_init(r);
    q = rig_queue(r);
    q->next_avail += c->arg;
    rig_offer(r);
    return IDLE;
}

static const char *wrap_is_wrong(Rig *r, const Case *c)
{
    rig_init(r);
    rig_queue(r)->avail_wrap = false;
    rig_offer(r);
    return NULL;
}

static const char *chain_is_broken_off(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];

    rig_init(r);
    r->kind->request(r, descs);
    descs[0].flags |= NEXT;
    return offer(r, descs, 1);
}

static const char *buffer_id_is(Rig *r, const Case *c)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    GuestQueue *q;

    rig_init(r);
    q = rig_queue(r);
    r->kind->request(r, descs);
    queue_write_chain(q, descs, 1);
    qtest_writew(r->qts, q->desc + 12, c->arg);
    queue_publish(q);
    queue_kick(q);
    return NULL;
}

/* Tables */

static const char *offer_table(Rig *r, GuestDesc table)
{
    return offer(r, &table, 1);
}

static GuestDesc proper_table(Rig *r)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num;

    rig_init(r);
    num = r->kind->request(r, descs);
    return queue_put_table(rig_queue(r), rig_table(r), descs, num);
}

static const char *table_has_bytes(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);

    table.len = c->arg;
    return offer_table(r, table);
}

static const char *table_has_flags(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);

    table.flags |= c->arg;
    return offer_table(r, table);
}

static const char *table_is_at(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);

    table.addr = rig_where(r, c->arg);
    return offer_table(r, table);
}

static const char *table_in_table(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);

    table = queue_put_table(rig_queue(r), rig_table(r) + 0x1000, &table, 1);
    return offer_table(r, table);
}

static const char *table_is_itself(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);

    queue_put_table(rig_queue(r), rig_table(r), &table, 1);
    table.len = 16;
    return offer_table(r, table);
}

static const char *table_is_proper(Rig *r, const Case *c)
{
    return offer_table(r, proper_table(r));
}

static const char *table_behind_descriptor(Rig *r, const Case *c)
{
    GuestDesc descs[2];

    descs[1] = proper_table(r);
    descs[0] = (GuestDesc) { rig_data(r, 0), 16, 0 };
    return offer(r, descs, 2);
}

static const char *table_entry_says_next(Rig *r, const Case *c)
{
    GuestDesc table = proper_table(r);
    GuestDesc entry = { rig_data(r, 0), 16, NEXT };

    queue_put_desc(rig_queue(r), rig_table(r), entry, c->arg);
    return offer_table(r, table);
}

#define AT(_name, _run, _arg) { .name = _name, .run = _run, .arg = _arg }

static const Case cases[] = {
    AT("first buffer nowhere", first_is_at, WHERE_NOWHERE),
    AT("last buffer nowhere", last_is_at, WHERE_NOWHERE),
    AT("table nowhere", table_is_at, WHERE_NOWHERE),
    AT("first buffer beyond the end of RAM", first_is_at, WHERE_END),
    AT("last buffer beyond the end of RAM", last_is_at, WHERE_END),
    AT("table beyond the end of RAM", table_is_at, WHERE_END),
    AT("first buffer at the end of everything", first_is_at, WHERE_MAX),
    AT("last buffer at the end of everything", last_is_at, WHERE_MAX),
    AT("table at the end of everything", table_is_at, WHERE_MAX),
    AT("first buffer in the device's registers", first_is_at, WHERE_DEVICE),
    AT("last buffer in the device's registers", last_is_at, WHERE_DEVICE),
    AT("table in the device's registers", table_is_at, WHERE_DEVICE),
    AT("first buffer in ROM", first_is_at, WHERE_ROM),
    AT("last buffer in ROM", last_is_at, WHERE_ROM),
    AT("table in ROM", table_is_at, WHERE_ROM),
    AT("first buffer in the screen", first_is_at, WHERE_HOLE),
    AT("last buffer in the screen", last_is_at, WHERE_HOLE),
    AT("table in the screen", table_is_at, WHERE_HOLE),
    AT("first buffer beyond the processor", first_is_at, WHERE_HIGH),
    AT("last buffer beyond the processor", last_is_at, WHERE_HIGH),
    AT("table beyond the processor", table_is_at, WHERE_HIGH),
    AT("first buffer of 0 bytes", first_is_long, 0),
    AT("last buffer of 0 bytes", last_is_long, 0),
    AT("table of 0 bytes", table_has_bytes, 0),
    AT("first buffer of 1 byte", first_is_long, 1),
    AT("last buffer of 1 byte", last_is_long, 1),
    AT("table of 1 byte", table_has_bytes, 1),
    AT("first buffer of 15 bytes", first_is_long, 15),
    AT("last buffer of 15 bytes", last_is_long, 15),
    AT("table of 15 bytes", table_has_bytes, 15),
    AT("first buffer of 17 bytes", first_is_long, 17),
    AT("last buffer of 17 bytes", last_is_long, 17),
    AT("table of 17 bytes", table_has_bytes, 17),
    AT("first buffer of 2 GiB", first_is_long, 0x80000000),
    AT("last buffer of 2 GiB", last_is_long, 0x80000000),
    AT("table of 2 GiB", table_has_bytes, 0x80000000),
    AT("first buffer of 4 GiB - 1", first_is_long, 0xffffffff),
    AT("last buffer of 4 GiB - 1", last_is_long, 0xffffffff),
    AT("table of 4 GiB - 1", table_has_bytes, 0xffffffff),
    AT("first buffer of 4 GiB - 16", first_is_long, 0xfffffff0),
    AT("last buffer of 4 GiB - 16", last_is_long, 0xfffffff0),
    AT("table of 4 GiB - 16", table_has_bytes, 0xfffffff0),
    { "head with unknown flags", flags_of_head, .arg = 0x70 },
    { "head is writable", flags_of_head, .arg = WRITE },
    { "head is a table and is not", flags_of_head, .arg = INDIRECT },
    { "readable behind writable", readable_behind_writable },
    { "whole ring goes on, readable", whole_ring_goes_on },
    { "whole ring goes on, writable", whole_ring_goes_on, .arg = WRITE },
    { "next is itself", head_says_next, .arg = 0, .split = true },
    { "next is the ring's size", head_says_next, .arg = RIG_QUEUE_SIZE,
      .split = true },
    { "next is 65535", head_says_next, .arg = 0xffff, .split = true },
    { "next is an unused one", head_says_next, .arg = 9, .split = true },
    { "head is the ring's size", avail_head_is, .arg = RIG_QUEUE_SIZE,
      .split = true },
    { "head is 65535", avail_head_is, .arg = 0xffff, .split = true },
    { "head is an unused one", avail_head_is, .arg = 9, .split = true },
    { "avail index jumps by the ring's size", avail_advances_by,
      .arg = RIG_QUEUE_SIZE, .split = true },
    { "avail index jumps by one more", avail_advances_by,
      .arg = RIG_QUEUE_SIZE + 1, .split = true },
    { "avail index jumps by 32768", avail_advances_by, .arg = 0x8000,
      .split = true },
    { "avail index goes back", avail_advances_by, .arg = 0xffff,
      .split = true },
    { "a slot is skipped", slots_are_skipped, .arg = 1, .packed = true },
    { "wrap counter is wrong", wrap_is_wrong, .packed = true },
    { "chain is broken off", chain_is_broken_off, .packed = true },
    { "buffer id is the ring's size", buffer_id_is, .arg = RIG_QUEUE_SIZE,
      .packed = true },
    { "buffer id is 65535", buffer_id_is, .arg = 0xffff, .packed = true },
    { "table is proper", table_is_proper },
    { "table goes on", table_has_flags, .arg = NEXT },
    { "table is writable", table_has_flags, .arg = WRITE },
    { "table in a table", table_in_table },
    { "table is itself", table_is_itself },
    { "table behind a descriptor", table_behind_descriptor },
    { "table's entry leads to itself", table_entry_says_next, .arg = 0,
      .split = true },
    { "table's entry leads out of it", table_entry_says_next, .arg = 300,
      .split = true },
};

const CaseTable conformance_chains = { "chains", cases,
                                       G_N_ELEMENTS(cases) };
