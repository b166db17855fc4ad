/*
 * vhost-user memory isolation: feature bits.  Pure functions.
 *
 * The two rings of an isolated queue are negotiated apart: the guest's with
 * QEMU, the shadow ring with the backend.  Only what concerns the payload
 * goes from end to end: the device type's bits, VERSION_1 and ANY_LAYOUT.
 *
 * What the guest sees of the rest depends on the device's properties alone,
 * never on the backend that happens to be connected, or a VM could not move
 * between two backends.  Devices leave a bit out if the backend's features
 * lack it; so the bits that QEMU implements for the guest are added here, and
 * the properties decide.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vhost-user-isolation-internal.h"

/* Bits for transport and ring (virtio 1.2, 2.2); others are the device's. */
#define RING_BITS MAKE_64BIT_MASK(24, 26)

/* Of those, the ones that tell how a payload is laid out. */
#define PAYLOAD_BITS (BIT_ULL(VIRTIO_F_VERSION_1) | \
                      BIT_ULL(VIRTIO_F_ANY_LAYOUT))

/* vhost-user's own, in the range: never the guest's, always the socket's. */
#define SOCKET_BITS BIT_ULL(VHOST_USER_F_PROTOCOL_FEATURES)

/*
 * What QEMU implements for the guest.  Not: IN_ORDER, RING_RESET,
 * NOTIFICATION_DATA, NOTIF_CONFIG_DATA, SR_IOV, ADMIN_VQ.
 */
#define GUEST_RING_BITS (BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) |  \
                         BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
                         BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |     \
                         BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) |    \
                         BIT_ULL(VIRTIO_F_RING_PACKED) |        \
                         BIT_ULL(VIRTIO_F_ORDER_PLATFORM))

/*
 * An allow-list, since a deny-list lets through what nobody has thought of.
 * Left out: everything that hands out memory or descriptors, and what QEMU
 * does itself now (dirty log, in-flight tracking, postcopy).
 */
#define PROTOCOL_BITS (BIT_ULL(VHOST_USER_PROTOCOL_F_MQ) |             \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_RARP) |           \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_REPLY_ACK) |      \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_NET_MTU) |        \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |    \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_CRYPTO_SESSION) | \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_CONFIG) |         \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |   \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_STATUS) |         \
                       BIT_ULL(VHOST_USER_PROTOCOL_F_DEVICE_STATE))

uint64_t isolation_offered_features(uint64_t wanted, uint64_t offered)
{
    return (offered & (~RING_BITS | PAYLOAD_BITS | SOCKET_BITS)) |
           (wanted & GUEST_RING_BITS);
}

uint64_t isolation_device_features(uint64_t features)
{
    return features & (~RING_BITS | PAYLOAD_BITS | GUEST_RING_BITS);
}

/*
 * No field of these depends on VERSION_1, so a legacy guest need not know that
 * its backend was told otherwise.  Backends built on libvhost-user refuse to
 * go without.
 */
static bool payload_ignores_version(uint16_t device_id)
{
    return device_id == VIRTIO_ID_BLOCK || device_id == VIRTIO_ID_SCSI;
}

uint64_t isolation_payload_features(uint16_t device_id, uint64_t acked,
                                    uint64_t offered)
{
    uint64_t features = acked & (~RING_BITS | PAYLOAD_BITS);

    if (payload_ignores_version(device_id)) {
        features |= offered & BIT_ULL(VIRTIO_F_VERSION_1);
    }
    return features;
}

uint64_t isolation_lacking_features(uint64_t told, uint64_t seen,
                                    uint64_t offered)
{
    return told & seen & ~offered & (~RING_BITS | PAYLOAD_BITS);
}

/* What a shadow ring can use if the backend offers it. */
typedef struct RingPin {
    unsigned bit;
    const char *property;
    OnOffAuto wanted;
} RingPin;

#define NUM_PINS 3

static void ring_pins(const VhostUserIsolationConfig *config, RingPin *pins)
{
    pins[0] = (RingPin) { VIRTIO_F_RING_PACKED, "x-memory-isolation-packed",
                          config->packed };
    pins[1] = (RingPin) { VIRTIO_RING_F_EVENT_IDX,
                          "x-memory-isolation-event-idx", config->event_idx };
    pins[2] = (RingPin) { VIRTIO_RING_F_INDIRECT_DESC,
                          "x-memory-isolation-indirect", config->indirect };
}

bool isolation_check_pins(const VhostUserIsolationConfig *config,
                          uint64_t offered, Error **errp)
{
    RingPin pins[NUM_PINS];

    ring_pins(config, pins);
    for (unsigned i = 0; i < NUM_PINS; i++) {
        if (pins[i].wanted == ON_OFF_AUTO_ON &&
            !(offered & BIT_ULL(pins[i].bit))) {
            error_setg(errp, "%s=on, but the backend does not offer it; use "
                       "auto", pins[i].property);
            return false;
        }
    }
    return true;
}

/*
 * A known network backend takes the table of a receive buffer on a packed ring
 * for the buffer.  Only buffers of several descriptors have tables, and those
 * are rare; so nobody who does not ask for it meets that.
 */
static bool indirect_is_risky(uint16_t device_id, uint64_t features)
{
    return device_id == VIRTIO_ID_NET &&
           (features & BIT_ULL(VIRTIO_F_RING_PACKED));
}

uint64_t isolation_ring_features(const VhostUserIsolationConfig *config,
                                 uint16_t device_id, uint64_t offered,
                                 bool version_1)
{
    RingPin pins[NUM_PINS];
    uint64_t features = 0;

    ring_pins(config, pins);
    for (unsigned i = 0; i < NUM_PINS; i++) {
        if (pins[i].wanted != ON_OFF_AUTO_OFF) {
            features |= offered & BIT_ULL(pins[i].bit);
        }
    }
    if (!version_1) {
        features &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    if (config->indirect == ON_OFF_AUTO_AUTO &&
        indirect_is_risky(device_id, features)) {
        features &= ~BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC);
    }
    return features;
}

uint64_t vhost_user_isolation_protocol_features(const VhostUserState *user,
                                                uint64_t features)
{
    return user->isolation ? features & PROTOCOL_BITS : features;
}

/* As the vhost-user specification has them; others are no business of ours. */
#define GET_VRING_BASE 11
#define GET_CONFIG 24
#define CREATE_CRYPTO_SESSION 26

bool isolation_answer_fits(const VhostUserMessage *asked, uint32_t size)
{
    switch (asked->request) {
    case GET_CONFIG:
        /* Nothing: an error, which QEMU deals with. */
        return size == asked->size || size == 0;
    case GET_VRING_BASE:
    case CREATE_CRYPTO_SESSION:
        return size == asked->size;
    default:
        return size == sizeof(uint64_t);
    }
}

const char *isolation_refused(uint16_t device_id)
{
    switch (device_id) {
    case VIRTIO_ID_BALLOON:
    case VIRTIO_ID_MEMORY_BALLOON:
    case VIRTIO_ID_IOMMU:
    case VIRTIO_ID_MEM:
    case VIRTIO_ID_PMEM:
        return "the backend of this device type manages guest memory";
    case VIRTIO_ID_GPU:
    case VIRTIO_ID_VIDEO_ENCODER:
    case VIRTIO_ID_VIDEO_DECODER:
    case VIRTIO_ID_DMABUF:
        return "the requests of this device type contain guest addresses";
    default:
        return NULL;
    }
}

/*
 * Where backends of others were seen to refuse more.  These, and device types
 * that nobody here has met, have what QEMU's device has by default.
 */
uint16_t isolation_ring_size(uint16_t device_id)
{
    switch (device_id) {
    case VIRTIO_ID_BLOCK:
    case VIRTIO_ID_NET:
    case VIRTIO_ID_FS:
    case VIRTIO_ID_VSOCK:
    case VIRTIO_ID_CRYPTO:
        return ISOLATION_RING_MAX;
    case VIRTIO_ID_GPIO:
    case VIRTIO_ID_SCMI:
        return 256;
    case VIRTIO_ID_SCSI:
        return 128;
    default:
        return 64;
    }
}

/*
 * An interrupt of a GPIO line is a request that waits for its edge; sound
 * waits for its stream to run.
 */
bool isolation_queue_parks(uint16_t device_id, unsigned n)
{
    return (device_id == VIRTIO_ID_GPIO && n == 1) ||
           (device_id == VIRTIO_ID_SOUND && n >= 2);
}

/* Frames in receive queues, if buffers are mergeable. */
bool isolation_queue_merges(uint16_t device_id, unsigned n)
{
    return device_id == VIRTIO_ID_NET && n % 2 == 0;
}

/* A known SCSI backend reports 0 for whatever it wrote. */
bool isolation_lengths_lie(uint16_t device_id)
{
    return device_id == VIRTIO_ID_SCSI;
}
