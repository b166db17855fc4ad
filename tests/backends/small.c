/*
 * The loop, the socket and the copying of the small backends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "small.h"
#include "standard-headers/linux/virtio_config.h"

#define WATCHES_MAX 32

typedef struct Watch {
    int fd;
    short events;
    vu_watch_cb call;
    void *data;
} Watch;

static const SmallDevice *device;
static Watch watches[WATCHES_MAX];
static unsigned num_watches;
static bool connected;
static bool refused;

void small_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    exit(1);
}

bool small_damage(void)
{
    return getenv("SMALL_DAMAGE") != NULL;
}

/* As backends that have memory for rings up to a length only. */
static unsigned longest_ring(void)
{
    const char *word = getenv("SMALL_RING_MAX");

    return word ? strtoul(word, NULL, 0) : VIRTQUEUE_MAX_SIZE;
}

/* Copying */

size_t small_bytes(const struct iovec *iov, unsigned count)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

static size_t copy(const struct iovec *iov, unsigned count, size_t offset,
                   uint8_t *to, const uint8_t *from, size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < size; i++) {
        uint8_t *base = iov[i].iov_base;
        size_t part = iov[i].iov_len;

        if (offset >= part) {
            offset -= part;
            continue;
        }
        part -= offset;
        part = part < size - done ? part : size - done;
        if (to) {
            memcpy(to + done, base + offset, part);
        } else {
            memcpy(base + offset, from + done, part);
        }
        offset = 0;
        done += part;
    }
    return done;
}

size_t small_read(const struct iovec *iov, unsigned count, size_t offset,
                  void *to, size_t size)
{
    return copy(iov, count, offset, to, NULL, size);
}

size_t small_write(const struct iovec *iov, unsigned count, size_t offset,
                   const void *from, size_t size)
{
    return copy(iov, count, offset, NULL, from, size);
}

/* Queues */

VuVirtqElement *small_pop(VuDev *dev, int queue)
{
    VuVirtq *vq = vu_get_queue(dev, queue);

    if (!vu_queue_started(dev, vq)) {
        return NULL;
    }
    return vu_queue_pop(dev, vq, sizeof(VuVirtqElement));
}

void small_push(VuDev *dev, int queue, VuVirtqElement *element, size_t size)
{
    vu_queue_push(dev, vu_get_queue(dev, queue), element, size);
    free(element);
}

void small_notify(VuDev *dev, int queue)
{
    VuVirtq *vq = vu_get_queue(dev, queue);

    /*
     * A ring starts with its kick descriptor and may have requests before the
     * other descriptor comes.  libvhost-user gives up if it has none to write
     * to; when it comes, libvhost-user itself calls.
     */
    if (vq->call_fd >= 0) {
        vu_queue_notify(dev, vq);
    }
}

/* What libvhost-user asks for */

static Watch *find_watch(int fd)
{
    for (unsigned i = 0; i < num_watches; i++) {
        if (watches[i].fd == fd) {
            return &watches[i];
        }
    }
    return NULL;
}

static void set_watch(VuDev *dev, int fd, int condition, vu_watch_cb call,
                      void *data)
{
    Watch *watch = find_watch(fd);

    (void)dev;
    if (!watch) {
        if (num_watches == WATCHES_MAX) {
            small_fail("too many descriptors to watch");
        }
        watch = &watches[num_watches++];
    }
    *watch = (Watch) { fd, condition, call, data };
}

static void remove_watch(VuDev *dev, int fd)
{
    Watch *watch = find_watch(fd);

    (void)dev;
    if (watch) {
        *watch = watches[--num_watches];
    }
}

void small_watch(VuDev *dev, int fd, vu_watch_cb call, void *data)
{
    set_watch(dev, fd, POLLIN, call, data);
}

static void panicked(VuDev *dev, const char *why)
{
    (void)dev;
    small_fail("libvhost-user gives up: %s", why);
}

static uint64_t get_features(VuDev *dev)
{
    (void)dev;
    return device->features | 1ULL << VIRTIO_F_VERSION_1 |
           1ULL << VIRTIO_RING_F_INDIRECT_DESC |
           1ULL << VIRTIO_RING_F_EVENT_IDX;
}

static void set_features(VuDev *dev, uint64_t features)
{
    (void)dev;
    printf("features %#jx\n", (uintmax_t)features);
    fflush(stdout);
}

static void queue_set_started(VuDev *dev, int queue, bool started)
{
    vu_set_queue_handler(dev, vu_get_queue(dev, queue),
                         started ? device->kicked : NULL);
    if (started && device->started) {
        device->started(dev, queue);
    }
    if (!started && device->stopped && !device->keeps) {
        device->stopped(dev, queue);
    }
}

static uint64_t get_protocol_features(VuDev *dev)
{
    (void)dev;
    return device->protocol_features;
}

/* What does not fit is answered, if an answer is wanted; then they hang up. */
static int process_message(VuDev *dev, VhostUserMsg *message, int *do_reply)
{
    const struct vhost_vring_state state = message->payload.state;

    if (message->request == VHOST_USER_SET_VRING_NUM) {
        refused = state.num > longest_ring();
        printf("queue %u: a ring of %u%s\n", state.index, state.num,
               refused ? " is too long" : "");
        fflush(stdout);
    }
    if (refused) {
        *do_reply = !!(message->flags & VHOST_USER_NEED_REPLY_MASK);
        message->flags = 0;
        message->size = sizeof(message->payload.u64);
        message->payload.u64 = 1;
        return true;
    }
    return device->process_message &&
           device->process_message(dev, message, do_reply);
}

static void message(VuDev *dev, int condition, void *data)
{
    uint32_t request;

    (void)condition;
    (void)data;
    if (recv(dev->sock, &request, sizeof(request), MSG_PEEK | MSG_WAITALL) !=
        sizeof(request)) {
        connected = false;
        return;
    }
    if (device->take_message && device->take_message(dev, request)) {
        return;
    }
    connected = vu_dispatch(dev) && !refused;
}

/* The loop */

static void wait_and_call(VuDev *dev)
{
    struct pollfd polled[WATCHES_MAX];
    unsigned count = num_watches;

    for (unsigned i = 0; i < count; i++) {
        polled[i] = (struct pollfd) { watches[i].fd, watches[i].events, 0 };
    }
    if (poll(polled, count, -1) < 0 && errno != EINTR) {
        small_fail("poll: %s", strerror(errno));
    }
    for (unsigned i = 0; i < count && connected; i++) {
        /* A callback may have removed the watches of others. */
        Watch *watch = polled[i].revents ? find_watch(polled[i].fd) : NULL;

        if (watch) {
            watch->call(dev, polled[i].revents, watch->data);
        }
    }
}

static int get_config(VuDev *dev, uint8_t *config, uint32_t size)
{
    (void)dev;
    if (size > device->config_bytes) {
        return -1;
    }
    memcpy(config, device->config, size);
    return 0;
}

static int refuse_config(VuDev *dev, const uint8_t *data, uint32_t offset,
                         uint32_t size, uint32_t flags)
{
    (void)dev, (void)data, (void)offset, (void)size, (void)flags;
    return -1;
}

static void serve(int fd)
{
    VuDevIface iface = {
        .get_features = get_features,
        .set_features = set_features,
        .get_protocol_features = get_protocol_features,
        .process_msg = process_message,
        .queue_set_started = queue_set_started,
    };
    VuDev dev;

    if (device->config_bytes) {
        iface.get_config = get_config;
        iface.set_config = device->set_config ?: refuse_config;
    }
    if (!vu_init(&dev, device->queues, fd, panicked, NULL, set_watch,
                 remove_watch, &iface)) {
        small_fail("vu_init failed");
    }
    connected = true;
    refused = false;
    set_watch(&dev, fd, POLLIN, message, NULL);
    while (connected) {
        wait_and_call(&dev);
    }
    for (unsigned i = 0; device->stopped && i < device->queues; i++) {
        device->stopped(&dev, i);
    }
    remove_watch(&dev, fd);
    vu_deinit(&dev);
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path)) {
        small_fail("the socket's name is too long");
    }
    strcpy(address.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
        listen(fd, 1)) {
        small_fail("%s: %s", path, strerror(errno));
    }
    return fd;
}

void small_run(const SmallDevice *what, const char *path)
{
    int listener;

    device = what;
    /* A frontend that hangs up meanwhile comes again. */
    signal(SIGPIPE, SIG_IGN);
    listener = listen_on(path);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0) {
            small_fail("accept: %s", strerror(errno));
        }
        serve(fd);
    }
}
