/*
 * vhost-user memory isolation: what is known of features and device types.
 *
 * Pure functions, of any thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_ISOLATION_FEATURES_H
#define HW_VIRTIO_VHOST_USER_ISOLATION_FEATURES_H

#include "hw/virtio/vhost-user-isolation.h"
#include "vhost-user-transport.h"

/**
 * isolation_offered_features() - what the guest may be offered
 * @wanted: what the device's properties ask for
 * @offered: what the backend offers
 */
uint64_t isolation_offered_features(uint64_t wanted, uint64_t offered);

/**
 * isolation_device_features() - which of its features a device can have
 * @features: what its properties ask for
 */
uint64_t isolation_device_features(uint64_t features);

/**
 * isolation_check_pins() - does the backend have what the user pins?
 * @config: what the user asked for
 * @offered: what the backend offered
 */
bool isolation_check_pins(const VhostUserIsolationConfig *config,
                          uint64_t offered, Error **errp);

/**
 * isolation_ring_features() - what the shadow rings use
 * @config: what the user asked for
 * @device_id: virtio device type
 * @offered: what the backend offered
 * @version_1: whether the backend is told VERSION_1, without which there are
 *     no packed rings
 */
uint64_t isolation_ring_features(const VhostUserIsolationConfig *config,
                                 uint16_t device_id, uint64_t offered,
                                 bool version_1);

/**
 * isolation_payload_features() - what the backend is told about the payload
 * @device_id: virtio device type
 * @acked: what the guest acknowledged
 * @offered: what the backend offered
 */
uint64_t isolation_payload_features(uint16_t device_id, uint64_t acked,
                                    uint64_t offered);

/**
 * isolation_answer_fits() - can it be the answer to a message?
 * @asked: the message
 * @size: of the answer's payload, bytes
 */
bool isolation_answer_fits(const VhostUserMessage *asked, uint32_t size);

/**
 * isolation_lacking_features() - what a backend cannot do for the driver
 * @told: what it would be told, see isolation_payload_features()
 * @seen: what backends have offered since the device was made; bits that none
 *     had are QEMU's own, and no backend's matter
 * @offered: what this one offers
 */
uint64_t isolation_lacking_features(uint64_t told, uint64_t seen,
                                    uint64_t offered);

/** isolation_refused() - why a device type cannot be isolated, or NULL */
const char *isolation_refused(uint16_t device_id);

/**
 * isolation_ring_size() - descriptors of a shadow ring if the user does not say
 *
 * What backends of this type are known to take.
 */
uint16_t isolation_ring_size(uint16_t device_id);

/** isolation_queue_merges() - does a completion consist of several requests? */
bool isolation_queue_merges(uint16_t device_id, unsigned n);

/** isolation_queue_parks() - do its requests stay out by design? */
bool isolation_queue_parks(uint16_t device_id, unsigned n);

/** isolation_lengths_lie() - do backends of this type report too little? */
bool isolation_lengths_lie(uint16_t device_id);

#endif /* HW_VIRTIO_VHOST_USER_ISOLATION_FEATURES_H */
