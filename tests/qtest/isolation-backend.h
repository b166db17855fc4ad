/*
 * A vhost-user backend in a thread of the test, and what it was told.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_ISOLATION_BACKEND_H
#define TESTS_QTEST_ISOLATION_BACKEND_H

#include "standard-headers/linux/vhost_types.h"
#include "isolation-ring.h"

#define MOCK_QUEUES_MAX 16
#define MOCK_REGIONS_MAX 8
#define MOCK_CONFIG_MAX 512

/* Messages of the vhost-user protocol that the backend knows. */
typedef enum MockRequest {
    MOCK_GET_FEATURES = 1,
    MOCK_SET_FEATURES = 2,
    MOCK_SET_OWNER = 3,
    MOCK_SET_MEM_TABLE = 5,
    MOCK_SET_LOG_BASE = 6,
    MOCK_SET_VRING_NUM = 8,
    MOCK_SET_VRING_ADDR = 9,
    MOCK_SET_VRING_BASE = 10,
    MOCK_GET_VRING_BASE = 11,
    MOCK_SET_VRING_KICK = 12,
    MOCK_SET_VRING_CALL = 13,
    MOCK_SET_VRING_ERR = 14,
    MOCK_GET_PROTOCOL_FEATURES = 15,
    MOCK_SET_PROTOCOL_FEATURES = 16,
    MOCK_GET_QUEUE_NUM = 17,
    MOCK_SET_VRING_ENABLE = 18,
    MOCK_GET_CONFIG = 24,
    MOCK_SET_CONFIG = 25,
    MOCK_REQUEST_MAX = 64
} MockRequest;

/* Feature bits of the protocol that the backend has. */
enum {
    MOCK_PROTOCOL_MQ = 0,
    MOCK_PROTOCOL_LOG_SHMFD = 1,
    MOCK_PROTOCOL_REPLY_ACK = 3,
    MOCK_PROTOCOL_CONFIG = 9,
    MOCK_F_LOG_ALL = 26,
    MOCK_F_PROTOCOL_FEATURES = 30,
};

typedef struct MockRegion {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t file_offset;
} MockRegion;

typedef struct QEMU_PACKED MockMessage {
    uint32_t request;
    uint32_t flags;
    uint32_t size;              /* bytes of what follows */
    union {
        uint64_t u64;
        struct vhost_vring_state state;
        struct vhost_vring_addr addr;
        struct {
            uint32_t num;
            uint32_t padding;
            MockRegion regions[MOCK_REGIONS_MAX];
        } table;
        struct {
            uint32_t offset;
            uint32_t size;
            uint32_t flags;
            uint8_t data[MOCK_CONFIG_MAX];
        } config;
    };
} MockMessage;

#define MOCK_HEADER_SIZE offsetof(MockMessage, u64)

typedef struct MockBackend MockBackend;

/**
 * MockModel - the device that a backend is
 * @num_queues: of the device
 * @receive: bit mask of queues from which nothing is fetched before
 *     mock_backend_deliver() has something to put there
 * @never_enabled: QEMU sends no SET_VRING_ENABLE for this device type
 * @features: the device type's own bits
 * @config: its configuration space, or NULL
 * @serve: one request from a queue that is not in @receive.  Called in the
 *     backend's thread with its lock held.  Returns true, with the bytes
 *     written in *@len, if it is done; false: it stays with the backend, until
 *     mock_backend_deliver().
 */
typedef struct MockModel {
    unsigned num_queues;
    uint32_t receive;
    bool never_enabled;
    uint64_t features;
    const void *config;
    size_t config_size;
    bool (*serve)(MockBackend *b, unsigned queue, const MockChain *chain,
                  uint32_t *len);
} MockModel;

/**
 * MockQueue - one queue, as the peer set it up
 * @running: between SET_VRING_KICK and GET_VRING_BASE
 * @kept: requests that @serve left with the backend, oldest first
 * @served: requests that were given back
 * @missed: the driver wanted a call when there was nothing to call with
 */
typedef struct MockQueue {
    MockRing ring;
    struct vhost_vring_addr addr;
    uint32_t base;
    int kick;
    int call;
    bool addressed;
    bool running;
    bool enabled;
    bool missed;
    GQueue kept;
    unsigned served;
} MockQueue;

/** A descriptor that came with a message; kept open until the end. */
typedef struct MockReceived {
    uint32_t request;
    int fd;
} MockReceived;

/** A mapping of a region; stays until the connection ends. */
typedef struct MockMapping {
    MockRegion region;
    void *map;
    size_t bytes;
} MockMapping;

/**
 * MockBackend - a backend
 * @model: which device it is
 * @opaque: for the model
 * @ring_features: bits 24 to 49 that it offers
 * @expect_zeros: there must be nothing but zeros where the device is to write;
 *     set before the first request
 * @lock: for everything below
 * @changed: signalled at every change
 * @base_lie: added to what it answers to GET_VRING_BASE
 * @sessions: connections until now
 * @table: the last memory table, with @table_fds descriptors, of which the
 *     last is @received[@table_received]
 * @messages: how often each message came
 * @received: every descriptor that ever came
 */
struct MockBackend {
    const MockModel *model;
    void *opaque;
    uint64_t ring_features;
    bool expect_zeros;

    GMutex lock;
    GCond changed;
    GThread *thread;
    int wake[2];
    char *path;
    int socket;
    int listener;
    bool quit;
    uint32_t base_lie;
    unsigned sessions;

    uint64_t features;
    uint64_t protocol_features;
    uint8_t config[MOCK_CONFIG_MAX];
    MockQueue queues[MOCK_QUEUES_MAX];
    MockRegion table[MOCK_REGIONS_MAX];
    unsigned num_regions;
    unsigned table_fds;
    unsigned table_received;
    GArray *mappings;           /* of MockMapping */
    unsigned messages[MOCK_REQUEST_MAX];
    GArray *received;           /* of MockReceived */
};

/**
 * mock_backend_new() - a backend, with its thread
 * @path: of the socket that it connects to, again and again if the connection
 *     ends.  Or NULL: messages come through mock_backend_message() only.
 */
MockBackend *mock_backend_new(const MockModel *model, uint64_t ring_features,
                              void *opaque, const char *path);
/** The same, but it listens on @path, and its peer connects. */
MockBackend *mock_backend_new_listening(const MockModel *model,
                                        uint64_t ring_features, void *opaque,
                                        const char *path);
void mock_backend_free(MockBackend *b);

/**
 * mock_backend_message() - what the backend does with one message
 * @message: becomes the reply
 * @fds: consumed
 *
 * The caller holds the lock.  Returns: whether there is a reply.
 */
bool mock_backend_message(MockBackend *b, MockMessage *message,
                          const int *fds, unsigned num_fds);

/** The connection has ended.  The caller holds the lock. */
void mock_backend_disconnected(MockBackend *b);

/** End the connection, and make another one. */
void mock_backend_hang_up(MockBackend *b);

/**
 * mock_backend_deliver() - put @len bytes into the next buffer of @queue
 *
 * That is the oldest request which the model kept, or what the guest posted
 * last.  Waits for it, within a limit.
 */
void mock_backend_deliver(MockBackend *b, unsigned queue, const void *data,
                          size_t len);

/** Wait until @num connections have been made, within a limit. */
void mock_backend_wait_session(MockBackend *b, unsigned num);
/** Wait until @num requests of @queue stay with the backend, within a limit. */
void mock_backend_wait_kept(MockBackend *b, unsigned queue, unsigned num);
/** Wait until @num queues run, within a limit. */
void mock_backend_wait_running(MockBackend *b, unsigned num);
unsigned mock_backend_served(MockBackend *b, unsigned queue);
unsigned mock_backend_messages(MockBackend *b, MockRequest request);

/* For the backend's own files; the lock is held. */
void mock_queue_start(MockBackend *b, unsigned n);
void mock_queue_stop(MockBackend *b, unsigned n);
void mock_queue_run(MockBackend *b, unsigned n);
void mock_queue_set_call(MockQueue *q, int take_fd);
void mock_backend_poke(MockBackend *b);

/**
 * mock_receive_header() - a message's header, and what came with it
 * @header: MOCK_HEADER_SIZE bytes
 * @fds: MOCK_REGIONS_MAX of them; the caller closes @num_fds
 *
 * Returns: false if the peer is gone.
 */
bool mock_receive_header(int fd, void *header, int *fds, unsigned *num_fds);

/** All of @chain's readable bytes, in a new buffer. */
uint8_t *mock_chain_read(const MockChain *chain, size_t *len);
/** Write @len bytes at @offset of the writable buffers; there is room. */
void mock_chain_write(const MockChain *chain, size_t offset, const void *data,
                      size_t len);

#endif /* TESTS_QTEST_ISOLATION_BACKEND_H */
