/*
 * Harness for vhost-vdpa's shadow virtqueue.
 *
 * The owner's part is written from what vhost-vdpa does: features, notifiers,
 * base, start, map, and backwards.  The device checks that it finds every
 * buffer of the guest, in the order in which the guest offered them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "standard-headers/linux/virtio_config.h"
#include "linux-headers/linux/vhost.h"
#include "svq-harness.h"

#define GPA (4 * GiB)
#define IOVA_FIRST (1 * MiB)
#define REQUESTS_MIN 64

/* As much of a device as has a name. */

static const TypeInfo mock_device_type = {
    .name = TYPE_DEVICE,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(VirtIODevice),
};

BusState *qdev_get_parent_bus(const DeviceState *dev)
{
    return dev->parent_bus;
}

char *qdev_get_human_name(DeviceState *dev)
{
    return g_strdup(dev->id);
}

static void device_new(SvqHarness *h)
{
    static bool registered;

    if (!registered) {
        module_call_init(MODULE_INIT_QOM);
        type_register_static(&mock_device_type);
        registered = true;
    }
    object_initialize(&h->vdev, sizeof(h->vdev), TYPE_DEVICE);
    h->proxy.id = (char *)SVQ_DEVICE;
    h->bus.parent = &h->proxy;
    h->vdev.parent_obj.parent_bus = &h->bus;
}

uint64_t svq_take_events(EventNotifier *n)
{
    uint64_t num = 0;
    ssize_t len = read(event_notifier_get_fd(n), &num, sizeof(num));

    return len == sizeof(num) ? num : 0;
}

void svq_settle(void)
{
    for (unsigned i = 0; i < 4; i++) {
        main_loop_wait(true);
    }
}

static uint64_t params_features(const SvqParams *p)
{
    return BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) |
           (p->event_idx ? BIT_ULL(VIRTIO_RING_F_EVENT_IDX) : 0) |
           (p->indirect ? BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
           (p->format == SHADOW_RING_PACKED ? BIT_ULL(VIRTIO_F_RING_PACKED)
                                            : 0);
}

static void map_area(SvqHarness *h, struct vhost_vring_addr *addr)
{
    vhost_svq_get_vring_addr(h->svq, addr);
    h->area = (DMAMap) {
        .size = vhost_svq_area_size(h->svq) - 1,
        .perm = IOMMU_RW,
    };
    g_assert_cmpuint(vhost_svq_area_size(h->svq) %
                     qemu_real_host_page_size(), ==, 0);
    g_assert_cmpint(vhost_iova_tree_map_alloc(h->tree, &h->area,
                                              addr->desc_user_addr), ==,
                    IOVA_OK);
}

void svq_start(SvqHarness *h)
{
    ShadowRingConfig config = {
        .format = h->params.format,
        .event_idx = h->params.event_idx,
        .indirect = h->params.indirect,
    };
    struct vhost_vring_addr addr;

    g_assert_false(h->running);
    vhost_svq_set_svq_call_fd(h->svq, event_notifier_get_fd(&h->vq->call));
    if (!h->keep_kick_fd) {
        vhost_svq_set_svq_kick_fd(h->svq, event_notifier_get_fd(&h->vq->kick));
    }
    vhost_svq_set_device(h->svq, params_features(&h->params),
                         MOCK_SIZE_MAX);
    g_assert_cmpint(event_notifier_init(&h->svq->hdev_kick, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&h->svq->hdev_call, 0), ==, 0);
    config.size = vhost_svq_ring_size(h->svq, h->vq->size);
    vhost_svq_start(h->svq, &h->vdev, h->vq, h->tree);
    map_area(h, &addr);
    config.mem = (void *)(uintptr_t)addr.desc_user_addr;
    mock_device_init(&h->device, &config);
    h->device.tables = config.mem;
    h->device.tables_addr = h->area.iova;
    h->device.tables_bytes = h->area.size + 1;
    /* The device reads this number as virtio and vhost have it. */
    g_assert_cmphex(vhost_svq_ring_base(h->svq), ==,
                    mock_device_base(&h->device));
    mock_device_resume(&h->device, vhost_svq_ring_base(h->svq));
    g_assert_true(addr.avail_user_addr ==
                  (uintptr_t)h->device.driver);
    g_assert_true(addr.used_user_addr == (uintptr_t)h->device.device);
    h->running = true;
}

void svq_stop(SvqHarness *h)
{
    struct vhost_vring_addr before, after;

    g_assert_true(h->running);
    vhost_svq_get_vring_addr(h->svq, &before);
    vhost_svq_stop(h->svq);
    /* vhost-vdpa unmaps it now. */
    vhost_svq_get_vring_addr(h->svq, &after);
    g_assert_true(before.desc_user_addr == after.desc_user_addr);
    memset((void *)(uintptr_t)after.desc_user_addr, 0, 1);
    vhost_iova_tree_remove(h->tree, h->area);
    event_notifier_cleanup(&h->svq->hdev_kick);
    event_notifier_cleanup(&h->svq->hdev_call);
    mock_device_cleanup(&h->device);
    g_array_set_size(h->held, 0);
    h->running = false;
}

SvqHarness *svq_harness_new(const SvqParams *params)
{
    SvqHarness *h = g_new0(SvqHarness, 1);

    h->params = *params;
    h->params.size = params->size ?: 64;
    device_new(h);
    h->vq = mock_vq_new(&h->vdev, h->params.size,
                        MAX(h->params.size, REQUESTS_MIN), GPA);
    h->vdev.vq = h->vq;
    h->tree = vhost_iova_tree_new(IOVA_FIRST, UINT64_MAX);
    h->ram = (DMAMap) { .size = h->vq->ram_bytes - 1, .perm = IOMMU_RW };
    g_assert_cmpint(vhost_iova_tree_map_alloc_gpa(h->tree, &h->ram, GPA), ==,
                    IOVA_OK);
    h->held = g_array_new(false, false, sizeof(SvqHeld));
    h->used = g_array_new(false, false, sizeof(SvqUsed));
    h->svq = vhost_svq_new(params->ops, h);
    g_assert_cmpuint(vhost_svq_available_slots(h->svq), ==, 0);
    svq_start(h);
    return h;
}

void svq_harness_free(SvqHarness *h)
{
    if (h->running) {
        svq_stop(h);
    }
    g_assert_cmpuint(mock_num_error_reports(), ==, 0);
    vhost_svq_free(h->svq);
    vhost_iova_tree_delete(h->tree);
    mock_vq_free(h->vq);
    object_unref(OBJECT(&h->vdev));
    g_array_unref(h->held);
    g_array_unref(h->used);
    g_free(h);
}

void svq_run_matrix(const SvqParams *params, SvqScenario *scenario)
{
    for (unsigned i = 0; i < 8; i++) {
        SvqParams p = *params;
        SvqHarness *h;

        p.format = i & 1 ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT;
        p.event_idx = i & 2;
        p.indirect = i & 4;
        h = svq_harness_new(&p);
        scenario(h);
        svq_harness_free(h);
    }
}

MockVqRequest *svq_offer(SvqHarness *h, unsigned num, unsigned num_out,
                         unsigned num_in)
{
    MockVqRequest *r = NULL;

    while (num--) {
        r = mock_vq_get(h->vq, num_out, num_in);
        g_assert_nonnull(r);
        mock_vq_offer(h->vq, r);
    }
    return r;
}

unsigned svq_collect(SvqHarness *h)
{
    MockVqRequest *r;
    unsigned num = 0;

    while ((r = mock_vq_take(h->vq))) {
        const SvqUsed *used = &g_array_index(h->used, SvqUsed, num);

        g_assert_cmpuint(num, <, h->used->len);
        g_assert_true(used->request == r);
        g_assert_cmpuint(r->len, ==,
                         MIN(used->len, r->num_in * MOCK_VQ_BUF_LEN));
        num++;
    }
    g_array_remove_range(h->used, 0, num);
    return num;
}

/* Which request of the guest has its first buffer here? */
static MockVqRequest *request_at(SvqHarness *h, uint64_t iova)
{
    uint64_t offset = iova - h->ram.iova;

    return offset < h->vq->ram_bytes ?
           &h->vq->requests[offset / MOCK_VQ_SLOT] : NULL;
}

static void check_fetched(SvqHarness *h, const MockVqRequest *r)
{
    g_assert_cmpint(r->state, ==, MOCK_VQ_POPPED);
    g_assert_cmpuint(h->fetched.num_out, ==, r->num_out);
    g_assert_cmpuint(h->fetched.num_in, ==, r->num_in);
    for (unsigned i = 0; i < r->num_out + r->num_in; i++) {
        g_assert_cmphex(h->fetched.bufs[i].addr, ==,
                        h->ram.iova + mock_vq_offset(r, i));
        g_assert_cmpuint(h->fetched.bufs[i].len, ==, MOCK_VQ_BUF_LEN);
    }
}

bool svq_fetch(SvqHarness *h)
{
    SvqHeld held;

    if (!mock_device_fetch(&h->device, &h->fetched)) {
        return false;
    }
    held.id = h->fetched.id;
    held.indirect = h->fetched.indirect;
    held.request = request_at(h, h->fetched.bufs[0].addr);
    if (held.request) {
        check_fetched(h, held.request);
    }
    g_array_append_val(h->held, held);
    h->num_fetched++;
    return true;
}

unsigned svq_fetch_all(SvqHarness *h)
{
    unsigned num = 0;

    while (svq_fetch(h)) {
        num++;
    }
    return num;
}

void svq_use(SvqHarness *h, unsigned index, uint32_t len)
{
    SvqHeld held = g_array_index(h->held, SvqHeld, index);
    SvqUsed used = { .request = held.request, .len = len };

    mock_device_use(&h->device, held.id, len);
    if (held.request) {
        g_array_append_val(h->used, used);
    }
    g_array_remove_index(h->held, index);
}

void svq_publish_used(SvqHarness *h)
{
    mock_device_publish(&h->device);
    if (mock_device_should_call(&h->device)) {
        event_notifier_set(&h->svq->hdev_call);
    }
}

void svq_use_all(SvqHarness *h)
{
    while (h->held->len) {
        svq_use(h, g_test_rand_int_range(0, h->held->len),
                g_test_rand_int_range(0, 2 * MOCK_VQ_BUF_LEN));
    }
    svq_publish_used(h);
}

/* A device that sleeps between rounds: what is lost is found here. */
void svq_round_trips(SvqHarness *h, unsigned num)
{
    unsigned out = 0;

    while (num || out) {
        unsigned num_in = g_test_rand_int_range(0, MIN(3, h->params.size));
        MockVqRequest *r = num ? mock_vq_get(h->vq, 1, num_in) : NULL;

        if (r) {
            mock_vq_offer(h->vq, r);
            num--;
            out++;
            if (g_test_rand_int_range(0, 4)) {
                continue;
            }
        }
        svq_settle();
        if (mock_device_has_avail(&h->device)) {
            /* It had asked for this one. */
            g_assert_cmpuint(svq_take_events(&h->svq->hdev_kick), >, 0);
        }
        svq_fetch_all(h);
        mock_device_arm_kicks(&h->device);
        g_assert_cmpuint(h->held->len, >, 0);
        svq_use_all(h);
        svq_settle();
        out -= svq_collect(h);
        g_assert_cmpuint(h->used->len, ==, 0);
    }
}
