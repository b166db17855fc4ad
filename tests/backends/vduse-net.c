/*
 * Two network devices in user space with a cable between them, for tests of
 * vhost-vdpa without hardware.
 *
 *   vduse-net FEATURES SIZE REFUSALS NAME NAME
 *
 * makes /dev/vduse/NAME twice; FEATURES are ring features, a sum of numbers as
 * in 1 << 28, SIZE is what a ring can have at most, and REFUSALS how often each
 * device refuses to start.  What one device is given to transmit the other one
 * receives.  A NAME that a program which has ended left behind is made anew.
 * "vdpa dev add" turns them into vDPA devices.  It runs until it is killed;
 * SIGUSR1 makes the next device that is to start refuse to, once, and SIGUSR2
 * the one after it.
 *
 * Rings are those of the unit tests' mock device: it asserts each rule that a
 * driver must keep, and every assertion ends the program.  One thread does
 * everything, so a message of the kernel's never meets a ring at work.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vduse.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_net.h"
#include "mock-device.h"

#define MAPS_MAX 64
#define FRAME_MAX (128 * 1024)
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)

/* While a queue may be made ready, which no message tells. */
#define LOOK_MS 20

/* A queue that has carried so many frames since it is on says so. */
#define AT_WORK 100

/* Linux sets these up in this order. */
enum { RX, TX, QUEUES };

typedef struct Map {
    uint64_t start;
    uint64_t last;
    uint8_t *mem;
    size_t bytes;             /* that are mapped, from an earlier address */
    void *base;
} Map;

typedef struct Queue {
    bool on;
    int kick;
    MockDevice ring;
    uint64_t moved;
    uint64_t moved_before;        /* when it was turned on                */
} Queue;

typedef struct Device {
    const char *name;
    int fd;
    bool driver_ok;
    unsigned refusals;            /* still to come                        */
    uint64_t features;
    Queue queue[QUEUES];
    Map maps[MAPS_MAX];
    unsigned num_maps;
} Device;

static Device devices[2];
static volatile sig_atomic_t refuse_in;     /* starts; 0: none is refused   */
static MockRequest tx_request, rx_request;
static uint8_t frame[FRAME_MAX];

static void check(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* Memory */

static void unmap_range(Device *d, uint64_t start, uint64_t last)
{
    for (unsigned i = d->num_maps; i-- > 0;) {
        Map *m = &d->maps[i];

        if (m->start <= last && start <= m->last) {
            munmap(m->base, m->bytes);
            *m = d->maps[--d->num_maps];
        }
    }
}

static Map *map_at(Device *d, uint64_t addr)
{
    struct vduse_iotlb_entry entry = { .start = addr, .last = addr };
    Map *m;
    int fd;

    for (unsigned i = 0; i < d->num_maps; i++) {
        if (d->maps[i].start <= addr && addr <= d->maps[i].last) {
            return &d->maps[i];
        }
    }
    g_assert_cmpuint(d->num_maps, <, MAPS_MAX);
    fd = ioctl(d->fd, VDUSE_IOTLB_GET_FD, &entry);
    check(fd >= 0, "no memory at an address of the driver's");
    m = &d->maps[d->num_maps++];
    m->start = entry.start;
    m->last = entry.last;
    m->bytes = entry.offset + entry.last - entry.start + 1;
    m->base = mmap(NULL, m->bytes, entry.perm == VDUSE_ACCESS_RO ? PROT_READ
                   : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(m->base != MAP_FAILED, "mmap");
    m->mem = (uint8_t *)m->base + entry.offset;
    close(fd);
    return m;
}

/* A buffer lies in one mapping. */
static uint8_t *host(Device *d, uint64_t addr, uint64_t len)
{
    Map *m = map_at(d, addr);

    g_assert_cmpuint(len - 1, <=, m->last - addr);
    return m->mem + (addr - m->start);
}

/* Queues */

static uint32_t packed_base(const struct vduse_vq_state_packed *s)
{
    return s->last_avail_idx | s->last_avail_counter << 15 |
           (uint32_t)(s->last_used_idx | s->last_used_counter << 15) << 16;
}

static void queue_on(Device *d, unsigned index)
{
    struct vduse_vq_info info = { .index = index };
    bool packed = d->features & BIT_ULL(VIRTIO_F_RING_PACKED);
    struct vduse_vq_eventfd kick = { .index = index };
    Queue *q = &d->queue[index];
    Map *m;

    check(!ioctl(d->fd, VDUSE_VQ_GET_INFO, &info), "VDUSE_VQ_GET_INFO");
    if (!info.ready) {
        return;
    }
    mock_device_init(&q->ring, &(ShadowRingConfig) {
        .format = packed ? SHADOW_RING_PACKED : SHADOW_RING_SPLIT,
        .size = info.num,
        .event_idx = d->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
        .mem = host(d, info.desc_addr, 16 * info.num),
    });
    q->ring.driver = host(d, info.driver_addr, 4);
    q->ring.device = host(d, info.device_addr, 4);
    m = map_at(d, info.desc_addr);
    q->ring.tables = m->mem;
    q->ring.tables_addr = m->start;
    q->ring.tables_bytes = m->last - m->start + 1;
    mock_device_resume(&q->ring, packed ? packed_base(&info.packed)
                                        : info.split.avail_index);
    q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    kick.fd = q->kick;
    check(!ioctl(d->fd, VDUSE_VQ_SETUP_KICKFD, &kick), "SETUP_KICKFD");
    q->on = true;
    q->moved_before = q->moved;
    printf("%s: queue %u: %s ring of %u%s%s, base %#x\n", d->name, index,
           packed ? "packed" : "split", info.num,
           q->ring.event_idx ? ", event_idx" : "",
           d->features & BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
           ? ", indirect" : "", mock_device_base(&q->ring));
}

static void queue_off(Device *d, unsigned index)
{
    Queue *q = &d->queue[index];

    if (q->on) {
        struct vduse_vq_eventfd kick = {
            .index = index, .fd = VDUSE_EVENTFD_DEASSIGN,
        };

        ioctl(d->fd, VDUSE_VQ_SETUP_KICKFD, &kick);
        close(q->kick);
        mock_device_cleanup(&q->ring);
        q->on = false;
        printf("%s: queue %u: off after %" PRIu64 " frames\n", d->name, index,
               q->moved);
    }
}

static void call(Device *d, unsigned index)
{
    mock_device_publish(&d->queue[index].ring);
    if (mock_device_should_call(&d->queue[index].ring)) {
        check(!ioctl(d->fd, VDUSE_VQ_INJECT_IRQ, &index), "INJECT_IRQ");
    }
}

/* The cable */

static size_t read_frame(Device *d)
{
    size_t len = 0;

    g_assert_true(mock_device_fetch(&d->queue[TX].ring, &tx_request));
    g_assert_cmpuint(tx_request.num_in, ==, 0);
    for (unsigned i = 0; i < tx_request.num_out; i++) {
        const ShadowRingBuf *buf = &tx_request.bufs[i];

        g_assert_cmpuint(buf->len, <=, sizeof(frame) - len);
        memcpy(frame + len, host(d, buf->addr, buf->len), buf->len);
        len += buf->len;
    }
    g_assert_cmpuint(len, >, HEADER_BYTES);
    return len;
}

static void write_frame(Device *d, size_t len)
{
    struct virtio_net_hdr_v1 header = { .num_buffers = 1 };
    size_t done = 0;

    memcpy(frame, &header, HEADER_BYTES);
    g_assert_true(mock_device_fetch(&d->queue[RX].ring, &rx_request));
    g_assert_cmpuint(rx_request.num_out, ==, 0);
    for (unsigned i = 0; i < rx_request.num_in && done < len; i++) {
        const ShadowRingBuf *buf = &rx_request.bufs[i];
        size_t part = MIN(buf->len, len - done);

        memcpy(host(d, buf->addr, buf->len), frame + done, part);
        done += part;
    }
    g_assert_cmpuint(done, ==, len);
}

static void has_moved(Device *d, unsigned index)
{
    Queue *q = &d->queue[index];

    q->moved++;
    if (q->moved - q->moved_before == AT_WORK) {
        printf("%s: queue %u: at work\n", d->name, index);
    }
}

/* Returns: whether anything moved. */
static bool carry(Device *from, Device *to)
{
    Queue *tx = &from->queue[TX], *rx = &to->queue[RX];
    bool moved = false;

    if (!tx->on || !rx->on) {
        return false;
    }
    while (mock_device_has_avail(&tx->ring) &&
           mock_device_has_avail(&rx->ring)) {
        size_t len = read_frame(from);

        write_frame(to, len);
        mock_device_use(&tx->ring, tx_request.id, 0);
        mock_device_use(&rx->ring, rx_request.id, len);
        has_moved(from, TX);
        has_moved(to, RX);
        moved = true;
    }
    if (moved) {
        call(from, TX);
        call(to, RX);
    }
    mock_device_arm_kicks(&tx->ring);
    mock_device_arm_kicks(&rx->ring);
    return moved;
}

/* The kernel's messages */

static bool must_refuse(Device *d)
{
    if (refuse_in) {
        return --refuse_in == 0;
    }
    if (d->refusals) {
        d->refusals--;
        return true;
    }
    return false;
}

/* Returns: whether the device does as it is told. */
static bool set_status(Device *d, uint8_t status)
{
    bool ok = status & VIRTIO_CONFIG_S_DRIVER_OK;

    if (ok && must_refuse(d)) {
        printf("%s: refused to start\n", d->name);
        return false;
    }
    if (!ok) {
        for (unsigned i = 0; i < QUEUES; i++) {
            queue_off(d, i);
        }
    } else if (!d->driver_ok) {
        check(!ioctl(d->fd, VDUSE_DEV_GET_FEATURES, &d->features),
              "VDUSE_DEV_GET_FEATURES");
    }
    d->driver_ok = ok;
    return true;
}

static void get_state(const Device *d, const struct vduse_vq_state *asked,
                      struct vduse_vq_state *state)
{
    const Queue *q = &d->queue[asked->index];
    uint32_t base = q->on ? mock_device_base(&q->ring) : 0;

    state->index = asked->index;
    if (d->features & BIT_ULL(VIRTIO_F_RING_PACKED)) {
        state->packed.last_avail_idx = base & 0x7fff;
        state->packed.last_avail_counter = base >> 15 & 1;
        state->packed.last_used_idx = base >> 16 & 0x7fff;
        state->packed.last_used_counter = base >> 31;
    } else {
        state->split.avail_index = base;
    }
}

static void answer(Device *d)
{
    struct vduse_dev_request request;
    struct vduse_dev_response response = { .result = VDUSE_REQ_RESULT_OK };

    check(read(d->fd, &request, sizeof(request)) == sizeof(request), "read");
    response.request_id = request.request_id;
    switch (request.type) {
    case VDUSE_GET_VQ_STATE:
        get_state(d, &request.vq_state, &response.vq_state);
        break;
    case VDUSE_SET_STATUS:
        if (!set_status(d, request.s.status)) {
            response.result = VDUSE_REQ_RESULT_FAILED;
        }
        break;
    case VDUSE_UPDATE_IOTLB:
        unmap_range(d, request.iova.start, request.iova.last);
        break;
    default:
        response.result = VDUSE_REQ_RESULT_FAILED;
    }
    check(write(d->fd, &response, sizeof(response)) == sizeof(response),
          "write");
}

/* Life */

static void device_new(Device *d, const char *name, uint64_t features,
                       uint16_t size, unsigned number)
{
    struct virtio_net_config net = {
        .mac = { 0x52, 0x54, 0, 0, 1, number },
        .status = VIRTIO_NET_S_LINK_UP,
        .max_virtqueue_pairs = 1,
        .mtu = 1500,
    };
    size_t bytes = sizeof(struct vduse_dev_config) + sizeof(net);
    g_autofree struct vduse_dev_config *config = g_malloc0(bytes);
    g_autofree char *path = g_strdup_printf("/dev/vduse/%s", name);
    int control = open("/dev/vduse/control", O_RDWR);

    check(control >= 0, "/dev/vduse/control");
    g_strlcpy(config->name, name, sizeof(config->name));
    config->device_id = VIRTIO_ID_NET;
    config->features = features | BIT_ULL(VIRTIO_F_VERSION_1) |
                       BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) |
                       BIT_ULL(VIRTIO_NET_F_MAC) |
                       BIT_ULL(VIRTIO_NET_F_STATUS);
    config->vq_num = QUEUES;
    config->vq_align = 4096;
    config->config_size = sizeof(net);
    memcpy(config->config, &net, sizeof(net));
    /* Fails as a rule: there is none of before, or somebody has it. */
    ioctl(control, VDUSE_DESTROY_DEV, config->name);
    check(!ioctl(control, VDUSE_CREATE_DEV, config), "VDUSE_CREATE_DEV");
    close(control);
    d->name = name;
    d->fd = open(path, O_RDWR | O_NONBLOCK);
    check(d->fd >= 0, path);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct vduse_vq_config vq = { .index = i, .max_size = size };

        check(!ioctl(d->fd, VDUSE_VQ_SETUP, &vq), "VDUSE_VQ_SETUP");
    }
}

/* Returns: whether all queues that can be are on. */
static bool look_at_queues(Device *d)
{
    bool all = true;

    for (unsigned i = 0; d->driver_ok && i < QUEUES; i++) {
        if (!d->queue[i].on) {
            queue_on(d, i);
        }
        all &= d->queue[i].on;
    }
    return all;
}

static void turn(void)
{
    struct pollfd fds[2 * (1 + QUEUES)];
    Device *of[2];
    unsigned num = 0;
    bool all = true;

    for (unsigned i = 0; i < 2; i++) {
        of[i] = &devices[i];
        all &= look_at_queues(of[i]);
        fds[num++] = (struct pollfd) { .fd = of[i]->fd, .events = POLLIN };
    }
    while (carry(of[0], of[1]) | carry(of[1], of[0])) {
        continue;
    }
    for (unsigned i = 0; i < 2 * QUEUES; i++) {
        const Queue *q = &of[i / QUEUES]->queue[i % QUEUES];

        fds[num++] = (struct pollfd) { .fd = q->on ? q->kick : -1,
                                       .events = POLLIN };
    }
    poll(fds, num, all ? -1 : LOOK_MS);
    for (unsigned i = 2; i < num; i++) {
        uint64_t value;

        if (fds[i].revents && read(fds[i].fd, &value, sizeof(value)) < 0) {
            check(errno == EAGAIN, "kick");
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        if (fds[i].revents) {
            answer(of[i]);
        }
    }
}

static void on_signal(int number)
{
    refuse_in = number == SIGUSR1 ? 1 : 2;
}

int main(int argc, char **argv)
{
    const struct sigaction refuse = {
        .sa_handler = on_signal,
        .sa_flags = SA_RESTART,
    };

    if (argc != 6) {
        fprintf(stderr,
                "usage: vduse-net FEATURES SIZE REFUSALS NAME NAME\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGUSR1, &refuse, NULL);
    sigaction(SIGUSR2, &refuse, NULL);
    for (unsigned i = 0; i < 2; i++) {
        devices[i].refusals = atoi(argv[3]);
        device_new(&devices[i], argv[4 + i], strtoull(argv[1], NULL, 0),
                   atoi(argv[2]), i);
    }
    printf("vduse-net: ready\n");
    for (;;) {
        turn();
    }
}
