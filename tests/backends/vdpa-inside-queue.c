/*
 * vDPA devices inside QEMU: memory as the device sees it, and rings.
 *
 * An access outside what is mapped in the address space of the queue's group
 * ends the process, which takes QEMU along: hardware behind an IOMMU would
 * stop, and the test must not go on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vdpa-inside.h"

/* Memory */

static struct vhost_iotlb_msg *find_map(GArray *maps, uint64_t iova,
                                        uint64_t last)
{
    for (guint i = 0; i < maps->len; i++) {
        struct vhost_iotlb_msg *m =
            &g_array_index(maps, struct vhost_iotlb_msg, i);

        if (m->iova <= last && iova <= m->iova + (m->size - 1)) {
            return m;
        }
    }
    return NULL;
}

static int add_map(GArray *maps, const struct vhost_iotlb_msg *m)
{
    if (!m->size || m->iova + (m->size - 1) < m->iova) {
        errno = EINVAL;
        return -1;
    }
    if (find_map(maps, m->iova, m->iova + (m->size - 1))) {
        errno = EEXIST;
        return -1;
    }
    g_array_append_vals(maps, m, 1);
    return 0;
}

static void remove_maps(GArray *maps, uint64_t iova, uint64_t last)
{
    struct vhost_iotlb_msg *m;

    while ((m = find_map(maps, iova, last))) {
        g_array_remove_index_fast(
            maps, m - (struct vhost_iotlb_msg *)(void *)maps->data);
    }
}

/* Linux takes messages about one address space only between two of a batch. */
static bool is_in_order(Device *d, unsigned space,
                        const struct vhost_iotlb_msg *m)
{
    if (space >= SPACES || (d->in_batch && d->batch_space != space)) {
        return false;
    }
    switch (m->type) {
    case VHOST_IOTLB_BATCH_BEGIN:
        d->in_batch = true;
        d->batch_space = space;
        return true;
    case VHOST_IOTLB_BATCH_END:
        d->in_batch = false;
        return true;
    default:
        return m->type == VHOST_IOTLB_UPDATE ||
               m->type == VHOST_IOTLB_INVALIDATE;
    }
}

int memory_message(Device *d, unsigned space, const struct vhost_iotlb_msg *m)
{
    if (!is_in_order(d, space, m)) {
        errno = EINVAL;
        return -1;
    }
    if (m->type == VHOST_IOTLB_UPDATE) {
        return add_map(d->maps[space], m);
    }
    if (m->type == VHOST_IOTLB_INVALIDATE) {
        remove_maps(d->maps[space], m->iova, m->iova + (m->size - 1));
    }
    return 0;
}

unsigned queue_group(const Device *d, unsigned index)
{
    return index == control_queue(d) ? GROUP_CONTROL : GROUP_DATA;
}

/* What @iova is for a queue, and how many bytes from there on: at least 1. */
static void *translate(Device *d, unsigned index, uint64_t iova,
                       uint8_t access, uint64_t *bytes)
{
    unsigned space = d->space[queue_group(d, index)];
    const struct vhost_iotlb_msg *m = find_map(d->maps[space], iova, iova);

    if (!m || (m->perm & access) != access) {
        device_log(d, "queue %u: no access %u to 0x%" PRIx64 " in space %u",
                   index, access, iova, space);
        abort();
    }
    *bytes = m->size - (iova - m->iova);
    return (uint8_t *)(uintptr_t)m->uaddr + (iova - m->iova);
}

static void *translate_all(Device *d, unsigned index, uint64_t iova,
                           uint8_t access, uint64_t bytes)
{
    uint64_t there;
    void *mem = translate(d, index, iova, access, &there);

    g_assert_cmpuint(bytes, <=, there);
    return mem;
}

void read_buffers(Device *d, unsigned index, const MockRequest *request,
                  void *bytes, size_t size, size_t *done)
{
    *done = 0;
    for (unsigned i = 0; i < request->num_out; i++) {
        const ShadowRingBuf *buf = &request->bufs[i];

        for (uint64_t at = 0, part; at < buf->len; at += part) {
            const void *mem = translate(d, index, buf->addr + at,
                                        VHOST_ACCESS_RO, &part);

            part = MIN(part, buf->len - at);
            g_assert_cmpuint(part, <=, size - *done);
            memcpy((uint8_t *)bytes + *done, mem, part);
            *done += part;
        }
    }
}

void write_buffers(Device *d, unsigned index, const MockRequest *request,
                   const void *bytes, size_t size)
{
    const ShadowRingBuf *in = request->bufs + request->num_out;
    size_t done = 0;

    for (unsigned i = 0; i < request->num_in && done < size; i++) {
        for (uint64_t at = 0, part; at < in[i].len && done < size; at += part) {
            void *mem = translate(d, index, in[i].addr + at, VHOST_ACCESS_WO,
                                  &part);

            part = MIN(MIN(part, in[i].len - at), size - done);
            memcpy(mem, (const uint8_t *)bytes + done, part);
            done += part;
        }
    }
    g_assert_cmpuint(done, ==, size);
}

/* Rings */

static void place_ring(Device *d, unsigned index, MockDevice *ring)
{
    const struct vhost_vring_addr *addr = &d->queue[index].addr;
    bool packed = ring->format == SHADOW_RING_PACKED;

    ring->desc = translate_all(d, index, addr->desc_user_addr,
                               packed ? VHOST_ACCESS_RW : VHOST_ACCESS_RO,
                               ring->desc_bytes);
    ring->driver = translate_all(d, index, addr->avail_user_addr,
                                 VHOST_ACCESS_RO, ring->driver_bytes);
    ring->device = translate_all(d, index, addr->used_user_addr,
                                 VHOST_ACCESS_RW, 4);
}

/* Whatever memory holds the descriptors holds the indirect tables too. */
static void place_tables(Device *d, unsigned index, MockDevice *ring)
{
    uint64_t addr = d->queue[index].addr.desc_user_addr;
    const struct vhost_iotlb_msg *m =
        find_map(d->maps[d->space[queue_group(d, index)]], addr, addr);

    ring->tables = (const uint8_t *)(uintptr_t)m->uaddr;
    ring->tables_addr = m->iova;
    ring->tables_bytes = m->size;
}

static void queue_on(Device *d, unsigned index)
{
    bool packed = has_feature(d, VIRTIO_F_RING_PACKED);
    Queue *q = &d->queue[index];

    mock_device_init(&q->ring, &(ShadowRingConfig) {
        .format = packed ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT,
        .size = q->num,
        .event_idx = has_feature(d, VIRTIO_RING_F_EVENT_IDX),
    });
    place_ring(d, index, &q->ring);
    place_tables(d, index, &q->ring);
    mock_device_resume(&q->ring, q->base);
    q->on = true;
    q->look = true;
    q->moved = 0;
    device_log(d, "queue %u: %s ring of %u%s%s, base %#x, space %u", index,
               packed ? "packed" : "split", q->num,
               q->ring.event_idx ? ", event_idx" : "",
               has_feature(d, VIRTIO_RING_F_INDIRECT_DESC) ? ", indirect" : "",
               mock_device_base(&q->ring), d->space[queue_group(d, index)]);
}

void queue_off(Device *d, unsigned index)
{
    Queue *q = &d->queue[index];

    if (q->on) {
        q->base = mock_device_base(&q->ring);
        mock_device_cleanup(&q->ring);
        q->on = false;
        device_log(d, "queue %u: off after %" PRIu64, index, q->moved);
    }
}

void queues_look(Device *d)
{
    if (!(d->status & VIRTIO_CONFIG_S_DRIVER_OK) || d->suspended) {
        return;
    }
    for (unsigned i = 0; i < num_queues(d); i++) {
        Queue *q = &d->queue[i];

        if (q->enabled && !q->on) {
            queue_on(d, i);
        }
    }
}

void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void queues_reset(Device *d)
{
    for (unsigned i = 0; i < num_queues(d); i++) {
        Queue *q = &d->queue[i];

        queue_off(d, i);
        close_fd(&q->kick);
        close_fd(&q->call);
        *q = (Queue) { .kick = -1, .call = -1 };
    }
}

MockDevice *queue_ring(Device *d, unsigned index)
{
    MockDevice *ring = &d->queue[index].ring;
    MockDevice now = *ring;

    place_ring(d, index, &now);
    g_assert_true(now.desc == ring->desc && now.driver == ring->driver &&
                  now.device == ring->device);
    return ring;
}

void queue_call(Device *d, unsigned index)
{
    const uint64_t one = 1;
    Queue *q = &d->queue[index];

    mock_device_publish(&q->ring);
    if (mock_device_should_call(&q->ring) && q->call >= 0) {
        g_assert_cmpint(write(q->call, &one, sizeof(one)), ==, sizeof(one));
    }
}
