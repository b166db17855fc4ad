/*
 * A vhost-user backend in a thread of the test: messages.
 *
 * Everything that comes is counted or kept, for isolation-evidence.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_config.h"
#include "isolation-backend.h"

enum {
    FLAG_VERSION = 1,
    FLAG_REPLY = 1 << 2,
    FLAG_NEED_REPLY = 1 << 3,
    VRING_NO_FD = 1 << 8,
};

static MockQueue *queue_at(MockBackend *b, unsigned n)
{
    g_assert_cmpuint(n, <, b->model->num_queues);
    return &b->queues[n];
}

static void reply(MockMessage *message, size_t size)
{
    message->flags = FLAG_VERSION | FLAG_REPLY;
    message->size = size;
}

static void reply_u64(MockMessage *message, uint64_t value)
{
    message->u64 = value;
    reply(message, sizeof(message->u64));
}

static void keep_received(MockBackend *b, uint32_t request, int fd)
{
    MockReceived received = {
        .request = request,
        .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
    };

    g_assert_cmpint(received.fd, >=, 0);
    g_array_append_val(b->received, received);
}

static void add_mapping(MockBackend *b, const MockRegion *region, int fd)
{
    MockMapping mapping = {
        .region = *region,
        .bytes = region->file_offset + region->size,
    };

    mapping.map = mmap(NULL, mapping.bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED, fd, 0);
    g_assert_true(mapping.map != MAP_FAILED);
    g_array_append_val(b->mappings, mapping);
}

static void set_mem_table(MockBackend *b, const MockMessage *message,
                          const int *fds, unsigned num_fds)
{
    g_assert_cmpuint(message->table.num, <=, MOCK_REGIONS_MAX);
    g_assert_cmpuint(message->table.num, ==, num_fds);
    b->num_regions = message->table.num;
    b->table_fds = num_fds;
    b->table_received = b->received->len - 1;
    for (unsigned i = 0; i < num_fds; i++) {
        b->table[i] = message->table.regions[i];
        add_mapping(b, &b->table[i], fds[i]);
    }
    for (unsigned n = 0; n < MOCK_QUEUES_MAX; n++) {
        if (b->queues[n].running) {
            mock_queue_start(b, n);
        }
    }
}

/* Returns: the descriptor, now the caller's, or -1. */
static int take_vring_fd(const MockMessage *message, const int *fds,
                         unsigned num_fds)
{
    int fd;

    g_assert_cmpuint(num_fds, ==, message->u64 & VRING_NO_FD ? 0 : 1);
    if (!num_fds) {
        return -1;
    }
    fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void set_vring_kick(MockBackend *b, const MockMessage *message,
                           const int *fds, unsigned num_fds)
{
    unsigned n = message->u64 & 0xff;
    MockQueue *q = queue_at(b, n);

    if (q->kick >= 0) {
        close(q->kick);
    }
    q->kick = take_vring_fd(message, fds, num_fds);
    g_assert_cmpint(q->kick, >=, 0);
    /* Without PROTOCOL_FEATURES a ring needs no SET_VRING_ENABLE. */
    if (!(b->features & BIT_ULL(MOCK_F_PROTOCOL_FEATURES)) ||
        b->model->never_enabled) {
        q->enabled = true;
    }
    mock_queue_start(b, n);
    mock_backend_poke(b);
}

static void set_vring_call(MockBackend *b, const MockMessage *message,
                           const int *fds, unsigned num_fds)
{
    MockQueue *q = queue_at(b, message->u64 & 0xff);

    mock_queue_set_call(q, take_vring_fd(message, fds, num_fds));
}

static void get_vring_base(MockBackend *b, MockMessage *message)
{
    MockQueue *q = queue_at(b, message->state.index);

    mock_queue_stop(b, message->state.index);
    message->state.num = q->base + b->base_lie;
    reply(message, sizeof(message->state));
}

static void set_vring_enable(MockBackend *b, const MockMessage *message)
{
    MockQueue *q = queue_at(b, message->state.index);

    q->enabled = message->state.num;
    if (q->running && q->enabled) {
        mock_queue_start(b, message->state.index);
    }
    g_cond_broadcast(&b->changed);
}

static void set_vring_addr(MockBackend *b, const MockMessage *message)
{
    MockQueue *q = queue_at(b, message->addr.index);

    q->addr = message->addr;
    q->addressed = true;
}

static void config_message(MockBackend *b, MockMessage *message)
{
    uint8_t *config = b->config + message->config.offset;

    g_assert_cmpuint(message->config.offset, <=, b->model->config_size);
    g_assert_cmpuint(message->config.size, <=,
                     b->model->config_size - message->config.offset);
    if (message->request == MOCK_GET_CONFIG) {
        memcpy(message->config.data, config, message->config.size);
        reply(message, message->size);
    } else {
        memcpy(config, message->config.data, message->config.size);
    }
}

static uint64_t offered_features(const MockBackend *b)
{
    return b->model->features | b->ring_features |
           BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(MOCK_F_LOG_ALL) |
           BIT_ULL(MOCK_F_PROTOCOL_FEATURES);
}

static uint64_t offered_protocol_features(const MockBackend *b)
{
    return BIT_ULL(MOCK_PROTOCOL_MQ) | BIT_ULL(MOCK_PROTOCOL_LOG_SHMFD) |
           BIT_ULL(MOCK_PROTOCOL_REPLY_ACK) |
           (b->model->config_size ? BIT_ULL(MOCK_PROTOCOL_CONFIG) : 0);
}

static void set_features(MockBackend *b, const MockMessage *message)
{
    g_assert_cmphex(message->u64 & ~offered_features(b), ==, 0);
    b->features = message->u64;
}

/* Messages that set something; those that have a reply are answered. */
static void handle(MockBackend *b, MockMessage *message, const int *fds,
                   unsigned num_fds)
{
    switch (message->request) {
    case MOCK_GET_FEATURES:
        return reply_u64(message, offered_features(b));
    case MOCK_SET_FEATURES:
        return set_features(b, message);
    case MOCK_GET_PROTOCOL_FEATURES:
        return reply_u64(message, offered_protocol_features(b));
    case MOCK_SET_PROTOCOL_FEATURES:
        b->protocol_features = message->u64;
        return;
    case MOCK_GET_QUEUE_NUM:
        return reply_u64(message, b->model->num_queues);
    case MOCK_SET_MEM_TABLE:
        return set_mem_table(b, message, fds, num_fds);
    case MOCK_SET_LOG_BASE:
        return reply_u64(message, 0);
    case MOCK_SET_VRING_NUM:
        queue_at(b, message->state.index)->ring.size = message->state.num;
        return;
    case MOCK_SET_VRING_ADDR:
        return set_vring_addr(b, message);
    case MOCK_SET_VRING_BASE:
        queue_at(b, message->state.index)->base = message->state.num;
        return;
    case MOCK_GET_VRING_BASE:
        return get_vring_base(b, message);
    case MOCK_SET_VRING_KICK:
        return set_vring_kick(b, message, fds, num_fds);
    case MOCK_SET_VRING_CALL:
        return set_vring_call(b, message, fds, num_fds);
    case MOCK_SET_VRING_ENABLE:
        return set_vring_enable(b, message);
    case MOCK_GET_CONFIG:
    case MOCK_SET_CONFIG:
        return config_message(b, message);
    case MOCK_SET_OWNER:
    case MOCK_SET_VRING_ERR:
        return;
    default:
        g_test_message("message %u is not known", message->request);
        g_assert_not_reached();
    }
}

bool mock_backend_message(MockBackend *b, MockMessage *message,
                          const int *fds, unsigned num_fds)
{
    bool need_reply = message->flags & FLAG_NEED_REPLY;
    uint32_t request = message->request;

    g_assert_cmpuint(request, <, MOCK_REQUEST_MAX);
    b->messages[request]++;
    for (unsigned i = 0; i < num_fds; i++) {
        keep_received(b, request, fds[i]);
    }
    handle(b, message, fds, num_fds);
    for (unsigned i = 0; i < num_fds; i++) {
        close(fds[i]);
    }
    g_cond_broadcast(&b->changed);

    if (!(message->flags & FLAG_REPLY) && need_reply) {
        reply_u64(message, 0);
    }
    return message->flags & FLAG_REPLY;
}
