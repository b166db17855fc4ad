/*
 * A vhost-user backend in a thread of the test: messages, and no rings.
 *
 * It connects to QEMU's socket, again and again while it may.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_VHOST_USER_MOCK_H
#define TESTS_QTEST_VHOST_USER_MOCK_H

/* Messages of the vhost-user protocol. */
enum {
    VU_MOCK_GET_FEATURES = 1,
    VU_MOCK_SET_MEM_TABLE = 5,
    VU_MOCK_SET_VRING_ADDR = 9,
    VU_MOCK_GET_VRING_BASE = 11,
    VU_MOCK_SET_VRING_KICK = 12,
    VU_MOCK_SET_VRING_CALL = 13,
    VU_MOCK_GET_PROTOCOL_FEATURES = 15,
    VU_MOCK_GET_QUEUE_NUM = 17,
    VU_MOCK_SET_VRING_ENABLE = 18,
    VU_MOCK_SET_BACKEND_REQ_FD = 21,
    VU_MOCK_GET_CONFIG = 24,
    VU_MOCK_SET_CONFIG = 25,
    VU_MOCK_CREATE_CRYPTO_SESSION = 26,
    VU_MOCK_GET_SHARED_OBJECT = 41,
    VU_MOCK_SET_STATUS = 39,
    VU_MOCK_GET_STATUS = 40,
    VU_MOCK_REQUESTS = 64,
};

/* Messages of the backend's own channel. */
enum {
    VU_MOCK_CONFIG_CHANGE = 2,
    VU_MOCK_SHARED_OBJECT_ADD = 6,
    VU_MOCK_SHARED_OBJECT_LOOKUP = 8,
};

enum {
    VU_MOCK_VERSION = 1,
    VU_MOCK_REPLY = 1 << 2,
    VU_MOCK_NEED_REPLY = 1 << 3,
    VU_MOCK_PAYLOAD_MAX = 4096,
};

typedef struct QEMU_PACKED VuMockMessage {
    uint32_t request;
    uint32_t flags;
    uint32_t size;              /* bytes of the payload */
    uint8_t payload[VU_MOCK_PAYLOAD_MAX];
} VuMockMessage;

#define VU_MOCK_HEADER offsetof(VuMockMessage, payload)

typedef struct VuMock VuMock;

/**
 * VuMockConfig - what a backend offers
 * @features: of the device type; VERSION_1 and PROTOCOL_FEATURES come on top
 * @protocol_features: besides MQ, REPLY_ACK, BACKEND_REQ and CONFIG
 * @config_size: of its configuration space, at first zeros; 0: without CONFIG
 * @num_queues: what it answers to GET_QUEUE_NUM
 */
typedef struct VuMockConfig {
    uint64_t features;
    uint64_t protocol_features;
    unsigned config_size;
    unsigned num_queues;
} VuMockConfig;

/** vu_mock_new() - a backend, which connects to @path */
VuMock *vu_mock_new(const VuMockConfig *config, const char *path);
void vu_mock_free(VuMock *m);

/** End the connection, and make no other one. */
void vu_mock_leave(VuMock *m);
/** Connect, after vu_mock_leave(). */
void vu_mock_come_back(VuMock *m);

/** vu_mock_change() - another backend comes next; @config stays */
void vu_mock_change(VuMock *m, const VuMockConfig *config);

/** vu_mock_set_space() - put bytes into the configuration space */
void vu_mock_set_space(VuMock *m, unsigned offset, const void *bytes,
                       size_t size);

/**
 * vu_mock_die_at() - end the connection at the next message @request
 *
 * It is not answered.  The next connection is there at once.
 */
void vu_mock_die_at(VuMock *m, unsigned request);

/** Wait until @num rings have a kick, within a limit. */
void vu_mock_wait_running(VuMock *m, unsigned num);
/** Wait until @num messages @request have come, within a limit. */
void vu_mock_wait_count(VuMock *m, unsigned request, unsigned num);
/** Of what came until now. */
unsigned vu_mock_count(VuMock *m, unsigned request);
/** Interrupts of what was completed before these are lost. */
unsigned vu_mock_late_calls(VuMock *m);
/** The last message @request.  Stays valid until the next one comes. */
const VuMockMessage *vu_mock_last(VuMock *m, unsigned request);

/** Send a message on the backend's channel; waits for the channel. */
void vu_mock_send(VuMock *m, unsigned request, uint32_t flags,
                  const void *payload, size_t size);
/** Returns: the answer's number, or -1 if the channel has ended. */
int64_t vu_mock_receive(VuMock *m);
void vu_mock_close_channel(VuMock *m);

#endif /* TESTS_QTEST_VHOST_USER_MOCK_H */
