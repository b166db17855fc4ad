/*
 * Shadow virtqueue of vhost-vdpa: one request's way to the device.
 *
 * Nothing is copied.  The device reads and writes the buffers themselves, at
 * addresses that the IOVA tree tells: for buffers of the guest by their
 * guest-physical address, since QEMU can have the same memory in two places;
 * for others by QEMU's.  A buffer lies in one mapping, or the request is
 * refused: QEMU's virtqueue splits buffers where guest memory does.
 *
 * A direct chain costs the device no extra access, so an indirect table is
 * used for want of descriptors only.
 *
 * Building is all or nothing: addresses are translated into scratch space and
 * room is found before anything is written.
 *
 * Requests are recycled: in steady state nothing is allocated here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vhost-svq-internal.h"

/* Where the device finds [@addr, @addr + @len), which is not empty. */
static bool svq_translate(const Svq *q, hwaddr addr, size_t len, bool guest,
                          hwaddr *iova)
{
    /* In a DMAMap, "size" is the offset of the last byte. */
    const DMAMap needle = {
        .translated_addr = addr,
        .size = len - 1,
    };
    const DMAMap *map = guest ? vhost_iova_tree_find_gpa(q->tree, &needle)
                        : vhost_iova_tree_find_iova(q->tree, &needle);
    hwaddr offset;

    if (!map) {
        return false;
    }
    /* What is found overlaps.  It need not contain, or begin before. */
    offset = addr - map->translated_addr;
    if (offset > map->size || needle.size > map->size - offset) {
        return false;
    }
    *iova = map->iova + offset;
    return true;
}

/* All buffers of one direction, into @bufs. */
static bool svq_translate_bufs(const Svq *q, const SvqBuffers *buffers,
                               unsigned dir, ShadowRingBuf *bufs)
{
    const struct iovec *sg = buffers->sg[dir];
    const hwaddr *gpa = buffers->addr[dir];

    for (size_t i = 0; i < buffers->num[dir]; i++) {
        hwaddr addr = gpa ? gpa[i] : (uintptr_t)sg[i].iov_base;
        hwaddr iova;

        if (!sg[i].iov_len || sg[i].iov_len > UINT32_MAX ||
            !svq_translate(q, addr, sg[i].iov_len, gpa, &iova)) {
            return false;
        }
        bufs[i] = (ShadowRingBuf) { .addr = iova, .len = sg[i].iov_len };
    }
    return true;
}

/* The area is mapped for the device between start and the first request. */
static bool svq_find_area(Svq *q)
{
    if (!q->area_iova_known) {
        q->area_iova_known = svq_translate(q, (uintptr_t)q->area,
                                           q->area_bytes, false,
                                           &q->area_iova);
    }
    return q->area_iova_known;
}

/* Where a table of @num descriptors can be had now, or NULL. */
static SvqTables *svq_find_tables(Svq *q, size_t num)
{
    for (unsigned i = 0; i < SVQ_TABLES__MAX; i++) {
        SvqTables *tables = &q->tables[i];

        if (num <= tables->num_descs && tables->num_free) {
            return tables;
        }
    }
    return NULL;
}

/*
 * Is there room for @num descriptors, and does it take a table?
 *
 * Returns: 0, -ENOSPC if not now, -E2BIG if never.
 */
static int svq_find_room(Svq *q, size_t num, SvqTables **tables)
{
    uint16_t room = shadow_ring_room(q->ring);

    *tables = NULL;
    if (num <= room) {
        return 0;
    }
    if (num > shadow_ring_size(q->ring) && !shadow_ring_indirect(q->ring)) {
        return -E2BIG;
    }
    if (!room || !shadow_ring_indirect(q->ring) || !svq_find_area(q)) {
        return -ENOSPC;
    }
    *tables = svq_find_tables(q, num);
    return *tables ? 0 : -ENOSPC;
}

static SvqRequest *svq_request_get(Svq *q)
{
    SvqRequest *req = QTAILQ_FIRST(&q->spare);

    if (req) {
        QTAILQ_REMOVE(&q->spare, req, next);
    } else {
        req = g_new0(SvqRequest, 1);
    }
    return req;
}

static uint64_t svq_bytes(const ShadowRingBuf *bufs, size_t num)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < num; i++) {
        bytes += bufs[i].len;
    }
    return bytes;
}

int svq_request_add(Svq *q, const SvqBuffers *buffers, VirtQueueElement *elem)
{
    size_t num_out = buffers->num[SVQ_OUT], num_in = buffers->num[SVQ_IN];
    SvqTables *tables;
    SvqRequest *req;
    int ret;

    if (!q->ring || q->fault) {
        return -EIO;
    }
    if (!(num_out + num_in) || num_out > VIRTQUEUE_MAX_SIZE ||
        num_in > VIRTQUEUE_MAX_SIZE - num_out) {
        return -EINVAL;
    }
    ret = svq_find_room(q, num_out + num_in, &tables);
    if (ret) {
        return ret;
    }
    if (!svq_translate_bufs(q, buffers, SVQ_OUT, q->bufs) ||
        !svq_translate_bufs(q, buffers, SVQ_IN, q->bufs + num_out)) {
        return -EINVAL;
    }

    req = svq_request_get(q);
    *req = (SvqRequest) {
        .elem = elem,
        .seq = q->next_seq - 1,
        .bytes_in = svq_bytes(q->bufs + num_out, num_in),
        .tables = tables,
        .table = tables ? tables->free[--tables->num_free] : 0,
    };
    shadow_ring_add(q->ring, &(ShadowRingChain) {
        .bufs = q->bufs,
        .num_out = num_out,
        .num_in = num_in,
        .table = tables ? q->area + req->table : NULL,
        .table_addr = tables ? q->area_iova + req->table : 0,
    }, req);
    QTAILQ_INSERT_TAIL(&q->in_flight, req, next);
    return 0;
}

/*
 * used.len is a claim, and the guest believes what QEMU says.  Too much is
 * cut, never punished: there are honest devices that count differently.
 */
void svq_request_used(Svq *q, SvqRequest *req, uint32_t raw_len)
{
    req->len = MIN(raw_len, req->bytes_in);
    if (req->tables) {
        req->tables->free[req->tables->num_free++] = req->table;
        req->tables = NULL;
    }
}

void svq_request_drop(Svq *q, SvqRequestList *list, SvqRequest *req)
{
    g_clear_pointer(&req->elem, g_free);
    QTAILQ_REMOVE(list, req, next);
    QTAILQ_INSERT_HEAD(&q->spare, req, next);
}
