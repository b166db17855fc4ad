/*
 * A backend that counts what it can see of its guest:
 *
 *     small-spy SOCKET blk      a disk of 4 MiB in memory
 *     small-spy SOCKET net      a network that sends every frame back
 *
 * It has a copy of all memory that QEMU shared with it, rings excepted, and
 * compares whenever it is kicked.  A byte that has changed since, and is not 0,
 * has come from QEMU.  It is "given" if it lies in a device-readable buffer of
 * a request that is popped now or comes later, before the byte changes again:
 * QEMU may have copied what it has not published yet.  Any other is a "stray".
 * A byte that is not 0 in a device-writable buffer, when its request is popped,
 * is "stale".  All of these are visible; "visible" over "given" is 1 if the spy
 * sees what the guest gave it and nothing else.
 *
 * Tables of indirect descriptors are QEMU's own, but not told from data here:
 * use x-memory-isolation-indirect=off.  What comes and goes between two looks is
 * not seen.
 *
 * SIGUSR1 makes it look once more and print a line that begins with "SPY": the
 * counts, and as "residue" how many bytes that are not 0 it can read just now.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "small.h"
#include "standard-headers/linux/virtio_blk.h"

#define DISK_BYTES (4u << 20)
#define SECTOR 512u
#define PAGE 4096u
#define REGIONS_MAX 8

/* Of a frame of virtio 1.0, in front of it; the last two bytes count buffers. */
#define NET_HEADER 12
#define FRAME_MAX 2048
enum { RX, TX };

/**
 * Watched - memory that QEMU shared, and what is known of it
 * @memory: where it is mapped
 * @seen: its bytes when they were last looked at
 * @open: a byte here came from QEMU, and no request has it yet
 */
typedef struct Watched {
    uint8_t *memory;
    size_t size;
    uint8_t *seen;
    bool *open;
} Watched;

static Watched watched[REGIONS_MAX];
static unsigned num_watched;
static uint64_t given, stray, stale, requests;

static uint8_t disk[DISK_BYTES];

/* Memory */

static uint8_t *region_memory(const VuDevRegion *region)
{
    return (uint8_t *)(uintptr_t)(region->mmap_addr + region->mmap_offset);
}

static bool same_regions(const VuDev *dev)
{
    bool same = num_watched == dev->nregions;

    for (unsigned i = 0; same && i < num_watched; i++) {
        same = watched[i].memory == region_memory(&dev->regions[i]) &&
               watched[i].size == dev->regions[i].size;
    }
    return same;
}

/* A new connection has new memory. */
static void watch_regions(const VuDev *dev)
{
    if (same_regions(dev)) {
        return;
    }
    for (unsigned i = 0; i < num_watched; i++) {
        free(watched[i].seen);
        free(watched[i].open);
    }
    num_watched = dev->nregions;
    if (num_watched > REGIONS_MAX) {
        small_fail("too many regions");
    }
    for (unsigned i = 0; i < num_watched; i++) {
        Watched *w = &watched[i];

        w->memory = region_memory(&dev->regions[i]);
        w->size = dev->regions[i].size;
        w->seen = calloc(w->size, 1);
        w->open = calloc(w->size, sizeof(*w->open));
        if (!w->seen || !w->open) {
            small_fail("no memory");
        }
    }
}

/* Whether the page at @at holds a ring: that is QEMU's, and changes always. */
static bool is_ring(VuDev *dev, const uint8_t *at, unsigned queues)
{
    for (unsigned i = 0; i < queues; i++) {
        const VuRing *ring = &vu_get_queue(dev, i)->vring;
        const uint8_t *start = (const uint8_t *)ring->desc;
        /* Behind the elements is the event index. */
        const uint8_t *end = (const uint8_t *)(ring->used->ring + ring->num) +
                             sizeof(uint16_t);

        if (ring->desc && at + PAGE > start && at < end) {
            return true;
        }
    }
    return false;
}

/* A byte that QEMU has changed: what was there and open was never given. */
static void changed(Watched *w, size_t at)
{
    uint8_t now = w->memory[at];

    if (now == w->seen[at]) {
        return;
    }
    stray += w->open[at];
    w->open[at] = now != 0;
    w->seen[at] = now;
}

static void look(VuDev *dev, unsigned queues)
{
    watch_regions(dev);
    for (unsigned i = 0; i < num_watched; i++) {
        Watched *w = &watched[i];

        for (size_t at = 0; at + PAGE <= w->size; at += PAGE) {
            if (!memcmp(w->memory + at, w->seen + at, PAGE) ||
                is_ring(dev, w->memory + at, queues)) {
                continue;
            }
            for (size_t byte = at; byte < at + PAGE; byte++) {
                changed(w, byte);
            }
        }
    }
}

/* Bytes of @iov are accounted for; their old content is not, if it changed. */
static void settle(const struct iovec *iov, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *base = iov[i].iov_base;

        for (unsigned r = 0; r < num_watched; r++) {
            Watched *w = &watched[r];
            size_t at = base - w->memory;

            if (base < w->memory || base >= w->memory + w->size) {
                continue;
            }
            for (size_t byte = at; byte < at + iov[i].iov_len; byte++) {
                changed(w, byte);
                w->open[byte] = false;
            }
        }
    }
}

static VuVirtqElement *spy_pop(VuDev *dev, int queue)
{
    VuVirtqElement *element;

    watch_regions(dev);
    element = small_pop(dev, queue);
    if (!element) {
        return NULL;
    }
    requests++;
    given += small_bytes(element->out_sg, element->out_num);
    for (unsigned i = 0; i < element->in_num; i++) {
        const uint8_t *base = element->in_sg[i].iov_base;

        for (size_t at = 0; at < element->in_sg[i].iov_len; at++) {
            stale += base[at] != 0;
        }
    }
    settle(element->out_sg, element->out_num);
    settle(element->in_sg, element->in_num);
    return element;
}

/* What is in its device-writable buffers now is the spy's own. */
static void spy_push(VuDev *dev, int queue, VuVirtqElement *element,
                     size_t size)
{
    settle(element->in_sg, element->in_num);
    small_push(dev, queue, element, size);
}

static unsigned num_queues;

static void report(VuDev *dev, int condition, void *data)
{
    struct signalfd_siginfo info;
    uint64_t open = 0, residue = 0;

    (void)condition;
    if (read(*(int *)data, &info, sizeof(info)) != sizeof(info)) {
        small_fail("signalfd");
    }
    look(dev, num_queues);
    for (unsigned i = 0; i < num_watched; i++) {
        for (size_t at = 0; at < watched[i].size; at++) {
            if (at % PAGE == 0 &&
                is_ring(dev, watched[i].memory + at, num_queues)) {
                at += PAGE - 1;
                continue;
            }
            open += watched[i].open[at];
            residue += watched[i].memory[at] != 0;
        }
    }
    printf("SPY {\"requests\": %" PRIu64 ", \"given\": %" PRIu64
           ", \"stray\": %" PRIu64 ", \"stale\": %" PRIu64
           ", \"visible\": %" PRIu64 ", \"residue\": %" PRIu64 "}\n",
           requests, given, stray + open, stale,
           given + stray + open + stale, residue);
    fflush(stdout);
}

/* The first kick, or start, is where there is a VuDev to watch with. */
static void listen_for_signal(VuDev *dev, int queue)
{
    static int fd = -1;
    sigset_t set;

    (void)queue;
    if (fd < 0) {
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        small_watch(dev, fd, report, &fd);
    }
}

/* The disk */

static uint8_t disk_request(VuVirtqElement *element, size_t *written)
{
    struct virtio_blk_outhdr header;
    size_t in = small_bytes(element->in_sg, element->in_num);
    size_t out = small_bytes(element->out_sg, element->out_num);
    uint64_t start;

    if (small_read(element->out_sg, element->out_num, 0, &header,
                   sizeof(header)) != sizeof(header) || !in) {
        small_fail("no request of a disk");
    }
    start = header.sector * SECTOR;
    *written = 1;
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
        if (start > DISK_BYTES || in - 1 > DISK_BYTES - start) {
            return VIRTIO_BLK_S_IOERR;
        }
        small_write(element->in_sg, element->in_num, 0, disk + start, in - 1);
        *written = in;
        return VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_OUT:
        out -= sizeof(header);
        if (start > DISK_BYTES || out > DISK_BYTES - start) {
            return VIRTIO_BLK_S_IOERR;
        }
        small_read(element->out_sg, element->out_num, sizeof(header),
                   disk + start, out);
        return VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_FLUSH:
        return VIRTIO_BLK_S_OK;
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

static void disk_kicked(VuDev *dev, int queue)
{
    VuVirtqElement *element;

    while ((element = spy_pop(dev, queue))) {
        size_t in = small_bytes(element->in_sg, element->in_num);
        size_t written;
        uint8_t status = disk_request(element, &written);

        small_write(element->in_sg, element->in_num, in - 1, &status, 1);
        spy_push(dev, queue, element, written);
    }
    look(dev, num_queues);
    small_notify(dev, queue);
}

/* The network */

static void net_kicked(VuDev *dev, int queue)
{
    VuVirtqElement *sent, *received;
    uint8_t frame[FRAME_MAX];

    (void)queue;
    while ((sent = spy_pop(dev, TX))) {
        size_t size = small_read(sent->out_sg, sent->out_num, 0, frame,
                                 sizeof(frame));

        spy_push(dev, TX, sent, 0);
        received = spy_pop(dev, RX);
        if (!received) {
            continue;                   /* as a network may */
        }
        memset(frame, 0, NET_HEADER);
        frame[NET_HEADER - 2] = 1;
        size = small_write(received->in_sg, received->in_num, 0, frame, size);
        spy_push(dev, RX, received, size);
    }
    look(dev, num_queues);
    small_notify(dev, TX);
    small_notify(dev, RX);
}

int main(int argc, char **argv)
{
    static struct virtio_blk_config config = {
        .capacity = DISK_BYTES / SECTOR,
        .num_queues = 1,
    };
    static const SmallDevice disk_device = {
        .queues = 1,
        .features = 1ULL << VIRTIO_BLK_F_FLUSH,
        .kicked = disk_kicked,
        .started = listen_for_signal,
        .config = &config,
        .config_bytes = sizeof(config),
    };
    static const SmallDevice net_device = {
        .queues = 2,
        .kicked = net_kicked,
        .started = listen_for_signal,
    };
    bool is_net = argc == 3 && !strcmp(argv[2], "net");
    sigset_t set;

    if (argc != 3 || (!is_net && strcmp(argv[2], "blk"))) {
        small_fail("usage: small-spy SOCKET blk|net");
    }
    /* It comes through a descriptor, between two requests. */
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    num_queues = is_net ? net_device.queues : disk_device.queues;
    small_run(is_net ? &net_device : &disk_device, argv[1]);
}
