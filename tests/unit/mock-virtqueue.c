/*
 * Mock virtqueue: the guest's queue behind virtqueue_pop() and its like, for
 * tests of devices that map elements.
 *
 * Every step asserts that it may happen in the state that the request is in,
 * and that what is popped is mapped exactly so long as it is out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "monitor/monitor.h"
#include "hw/virtio/vhost-user-compat.h"
#include "hw/virtio/virtio-chain.h"
#include "mock-virtqueue.h"

/* Requests in the life of a queue. */
#define AVAIL_MAX 100000

static unsigned num_error_reports;
static char error_report_text[512];
static size_t error_report_len;

/* The BQL is the main thread's. */

bool bql_locked(void)
{
    return true;
}

void bql_lock_impl(const char *file, int line)
{
}

void bql_unlock(void)
{
}

void bql_block_unlock(bool increase)
{
}

/* A newer QEMU asks for these too, and would find its own of all of them. */
#if !QEMU_OLDER_THAN(10, 2)
bool mutex_is_bql(QemuMutex *mutex)
{
    return false;
}

void bql_update_status(bool locked)
{
}
#endif

/* Each report is several pieces; the last one ends the line. */
int error_vprintf(const char *fmt, va_list ap)
{
    size_t room = sizeof(error_report_text) - error_report_len;
    int len = vsnprintf(error_report_text + error_report_len, room, fmt, ap);

    g_assert_cmpint(len, <, room);
    error_report_len += len;
    if (strchr(error_report_text, '\n')) {
        num_error_reports++;
        error_report_len = 0;
    }
    return len;
}

const char *mock_error_report(void)
{
    return error_report_text;
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return error_vprintf(fmt, ap);
}

unsigned mock_num_error_reports(void)
{
    unsigned num = num_error_reports;

    num_error_reports = 0;
    return num;
}

/* The driver. */

VirtQueue *mock_vq_new(VirtIODevice *vdev, uint16_t size,
                       unsigned num_requests, hwaddr gpa)
{
    VirtQueue *vq = g_new0(VirtQueue, 1);

    vq->vdev = vdev;
    vq->size = size;
    vq->gpa = gpa;
    vq->num_requests = num_requests;
    vq->ram_bytes = (uint64_t)num_requests * MOCK_VQ_SLOT;
    vq->ram = mmap(NULL, vq->ram_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(vq->ram != MAP_FAILED);
    vq->requests = g_new0(MockVqRequest, num_requests);
    for (unsigned i = 0; i < num_requests; i++) {
        vq->requests[i].id = i;
    }
    vq->avail = g_new0(MockVqRequest *, AVAIL_MAX);
    vq->used = g_ptr_array_new();
    vq->notify = true;
    g_assert_cmpint(event_notifier_init(&vq->kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&vq->call, 0), ==, 0);
    return vq;
}

void mock_vq_free(VirtQueue *vq)
{
    for (unsigned i = 0; i < vq->num_requests; i++) {
        g_assert_false(vq->requests[i].mapped);
    }
    g_assert_cmpuint(vq->inuse, ==, 0);
    event_notifier_cleanup(&vq->kick);
    event_notifier_cleanup(&vq->call);
    munmap(vq->ram, vq->ram_bytes);
    g_ptr_array_unref(vq->used);
    g_free(vq->avail);
    g_free(vq->requests);
    g_free(vq->error);
    g_free(vq);
}

MockVqRequest *mock_vq_get(VirtQueue *vq, unsigned num_out, unsigned num_in)
{
    g_assert_cmpuint(num_out + num_in, <=, MOCK_VQ_BUFS);
    for (unsigned i = 0; i < vq->num_requests; i++) {
        MockVqRequest *r = &vq->requests[i];

        if (r->state == MOCK_VQ_IDLE) {
            r->num_out = num_out;
            r->num_in = num_in;
            /* As on a packed ring, where it is not always 1. */
            r->ndescs = 1 + i % 3;
            r->outside = false;
            return r;
        }
    }
    return NULL;
}

void mock_vq_offer(VirtQueue *vq, MockVqRequest *r)
{
    g_assert_cmpint(r->state, ==, MOCK_VQ_IDLE);
    g_assert_cmpuint(vq->sent_avail, <, AVAIL_MAX);
    r->state = MOCK_VQ_OFFERED;
    vq->avail[vq->sent_avail++] = r;
    if (vq->notify) {
        vq->num_kicks++;
        event_notifier_set(&vq->kick);
    }
}

MockVqRequest *mock_vq_take(VirtQueue *vq)
{
    MockVqRequest *r;

    g_assert_cmpuint(vq->num_filled, ==, 0);
    if (!vq->used->len) {
        return NULL;
    }
    r = g_ptr_array_steal_index(vq->used, 0);
    g_assert_cmpint(r->state, ==, MOCK_VQ_USED);
    r->state = MOCK_VQ_IDLE;
    return r;
}

/* Buffers keep a distance, so that they cannot be merged. */
uint64_t mock_vq_offset(const MockVqRequest *r, unsigned i)
{
    return (uint64_t)r->id * MOCK_VQ_SLOT + i * 64;
}

unsigned mock_vq_num_offered(const VirtQueue *vq)
{
    return vq->sent_avail - vq->next_pop;
}

/* The device: hw/virtio/virtio.h. */

static void fill_iov(const VirtQueue *vq, const MockVqRequest *r,
                     unsigned first, unsigned num, struct iovec *sg,
                     hwaddr *addr)
{
    for (unsigned i = 0; i < num; i++) {
        uint64_t offset = mock_vq_offset(r, first + i);

        if (r->outside && first + i == 0) {
            offset = vq->ram_bytes - MOCK_VQ_BUF_LEN + 1;
        }
        sg[i].iov_base = vq->ram + offset;
        sg[i].iov_len = MOCK_VQ_BUF_LEN;
        addr[i] = vq->gpa + offset;
    }
}

/* In one piece, as QEMU's, so that g_free() frees all of it. */
static void *new_element(const VirtQueue *vq, const MockVqRequest *r, size_t sz)
{
    unsigned num = r->num_out + r->num_in;
    size_t addrs = ROUND_UP(sz, 16), sgs = addrs + num * sizeof(hwaddr);
    char *mem = g_malloc0(ROUND_UP(sgs, 16) + num * sizeof(struct iovec));
    VirtQueueElement *elem = (VirtQueueElement *)mem;

    elem->index = r->id;
    elem->ndescs = r->ndescs;
    elem->out_num = r->num_out;
    elem->in_num = r->num_in;
    elem->out_addr = (hwaddr *)(mem + addrs);
    elem->in_addr = elem->out_addr + r->num_out;
    elem->out_sg = (struct iovec *)(mem + ROUND_UP(sgs, 16));
    elem->in_sg = elem->out_sg + r->num_out;
    fill_iov(vq, r, 0, r->num_out, elem->out_sg, elem->out_addr);
    fill_iov(vq, r, r->num_out, r->num_in, elem->in_sg, elem->in_addr);
    return elem;
}

void *virtqueue_pop(VirtQueue *vq, size_t sz)
{
    MockVqRequest *r;

    if (vq->vdev->broken || !mock_vq_num_offered(vq)) {
        return NULL;
    }
    r = vq->avail[vq->next_pop++];
    g_assert_cmpint(r->state, ==, MOCK_VQ_OFFERED);
    r->state = MOCK_VQ_POPPED;
    r->mapped = true;
    vq->inuse += r->ndescs;
    return new_element(vq, r, sz);
}

static void unmap(VirtQueue *vq, MockVqRequest *r)
{
    g_assert_cmpint(r->state, ==, MOCK_VQ_POPPED);
    g_assert_true(r->mapped);
    r->mapped = false;
}

void virtqueue_detach_element(VirtQueue *vq, const VirtQueueElement *elem,
                              unsigned int len)
{
    MockVqRequest *r = &vq->requests[elem->index];

    unmap(vq, r);
    vq->inuse -= elem->ndescs;
    /* Without its descriptors: to be un-popped next. */
    if (elem->ndescs) {
        g_assert_cmpuint(elem->ndescs, ==, r->ndescs);
        r->state = MOCK_VQ_LOST;
    }
}

void virtqueue_unpop_chain(VirtQueue *vq, const VirtQueueChain *chain)
{
    MockVqRequest *r = vq->avail[--vq->next_pop];

    /* Only the newest, or another would be offered in its place. */
    g_assert_cmpint(r->state, ==, MOCK_VQ_POPPED);
    g_assert_false(r->mapped);
    g_assert_cmpuint(chain->ndescs, ==, r->ndescs);
    r->state = MOCK_VQ_OFFERED;
    vq->inuse -= r->ndescs;
}

void virtqueue_fill(VirtQueue *vq, const VirtQueueElement *elem,
                    unsigned int len, unsigned int idx)
{
    MockVqRequest *r = &vq->requests[elem->index];

    g_assert_cmpuint(get_ptr_rcu_reader()->depth, >, 0);
    unmap(vq, r);
    g_assert_cmpuint(idx, ==, vq->num_filled);
    g_assert_cmpuint(len, <=, r->num_in * MOCK_VQ_BUF_LEN);
    r->state = MOCK_VQ_FILLED;
    r->len = len;
    g_ptr_array_add(vq->used, r);
    vq->num_filled++;
}

void virtqueue_flush(VirtQueue *vq, unsigned int count)
{
    /* Of nothing, it would harm a packed ring. */
    g_assert_cmpuint(count, >, 0);
    g_assert_cmpuint(count, ==, vq->num_filled);
    for (unsigned i = vq->used->len - count; i < vq->used->len; i++) {
        MockVqRequest *r = g_ptr_array_index(vq->used, i);

        r->state = MOCK_VQ_USED;
        vq->inuse -= r->ndescs;
    }
    vq->num_filled = 0;
    vq->num_flushes++;
    if (vq->flushed) {
        void (*flushed)(void *opaque) = g_steal_pointer(&vq->flushed);

        flushed(vq->opaque);
    }
}

void virtqueue_push(VirtQueue *vq, const VirtQueueElement *elem,
                    unsigned int len)
{
    const unsigned int position = 0;

    WITH_RCU_READ_LOCK_GUARD() {
        virtqueue_fill(vq, elem, len, position);
    }
    virtqueue_flush(vq, position + 1);
}

int virtio_queue_empty(VirtQueue *vq)
{
    if (vq->flickers) {
        vq->flickers--;
        return 0;
    }
    return vq->vdev->broken || !mock_vq_num_offered(vq);
}

void virtio_queue_set_notification(VirtQueue *vq, int enable)
{
    vq->notify = enable;
}

int virtio_queue_get_num(VirtIODevice *vdev, int n)
{
    return vdev->vq[n].size;
}

uint16_t virtio_get_queue_index(VirtQueue *vq)
{
    return vq - vq->vdev->vq;
}

void virtio_error(VirtIODevice *vdev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_free(vdev->vq->error);
    vdev->vq->error = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    vdev->broken = true;
}
