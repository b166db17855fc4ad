/*
 * Frames that look like TCP over IPv4; see net-frame.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <arpa/inet.h>
#include <string.h>

#include "net-frame.h"

enum {
    FIRST_PORT = 20000,          /* of lane 0; the lane is told by it */
    TCP_CHECKSUM = 16,           /* offset in the TCP header */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9;
    x ^= x >> 27;
    x *= 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t frame_key(const FrameRule *rule, uint32_t lane, int from,
                          uint32_t number)
{
    return mix(rule->seed * 0x9e3779b97f4a7c15 + ((uint64_t)number << 8) +
               (lane << 1) + from + 1);
}

/* A quarter each of the shortest and of the longest, the rest in between. */
static uint32_t frame_length(const FrameRule *rule, uint64_t key)
{
    switch (key % 4) {
    case 0:
        return SMALLEST;
    case 1:
        return rule->largest;
    default:
        return SMALLEST + (key >> 8) % (rule->largest - SMALLEST + 1);
    }
}

static void put16(uint8_t *at, uint16_t value)
{
    value = htons(value);
    memcpy(at, &value, sizeof(value));
}

bool is_super_frame(const FrameRule *rule, uint32_t length)
{
    return rule->gso && length > HEADERS + rule->gso;
}

/* Sum of 16-bit words, carries added in; @bytes is even. */
static uint16_t word_sum(uint32_t sum, const uint8_t *at, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 2) {
        sum += at[i] << 8 | at[i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return sum + (sum >> 16);
}

/*
 * What a stack leaves in the checksum's place for a device that computes the
 * rest.  DPDK overwrites that of a super-frame with a sum that leaves the
 * length out, so that is what we put there.
 */
static uint16_t pseudo_sum(const FrameRule *rule, const uint8_t *ip,
                           uint32_t length)
{
    uint32_t tcp_bytes = length - ETH_HLEN - IP_BYTES;

    return word_sum(IPPROTO_TCP + (is_super_frame(rule, length) ? 0 :
                                   tcp_bytes), ip + 12, 8);
}

static void put_headers(const FrameRule *rule, uint8_t *frame,
                        uint32_t length, uint32_t lane, int from)
{
    static const uint8_t hosts[2][8] = {
        { 10, 0, 0, 1, 10, 0, 0, 2 }, { 10, 0, 0, 2, 10, 0, 0, 1 },
    };
    uint8_t *ip = frame + ETH_HLEN, *tcp = ip + IP_BYTES;

    memset(frame, 0, HEADERS);
    memcpy(frame, rule->address[!from], ETH_ALEN);
    memcpy(frame + ETH_ALEN, rule->address[from], ETH_ALEN);
    put16(frame + 2 * ETH_ALEN, ETH_P_IP);
    ip[0] = 0x45;
    put16(ip + 2, length - ETH_HLEN);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    memcpy(ip + 12, hosts[from], sizeof(hosts[from]));
    put16(ip + 10, ~word_sum(0, ip, IP_BYTES));
    put16(tcp, FIRST_PORT + lane);
    put16(tcp + 2, FIRST_PORT + lane);
    tcp[12] = TCP_BYTES / 4 << 4;
    tcp[13] = 0x10;
    put16(tcp + TCP_CHECKSUM, pseudo_sum(rule, ip, length));
}

uint32_t make_frame(const FrameRule *rule, uint8_t *frame, uint32_t lane,
                    int from, uint32_t number)
{
    uint64_t key = frame_key(rule, lane, from, number), word = key;
    uint32_t length = frame_length(rule, key), at = HEADERS;

    put_headers(rule, frame, length, lane, from);
    memcpy(frame + at, &number, sizeof(number));
    for (at += sizeof(number); at < length; at += sizeof(word)) {
        uint32_t rest = length - at;

        word = word * 6364136223846793005 + 1442695040888963407;
        memcpy(frame + at, &word, rest < sizeof(word) ? rest : sizeof(word));
    }
    return length;
}

uint32_t number_of_frame(const uint8_t *frame)
{
    uint32_t number;

    memcpy(&number, frame + HEADERS, sizeof(number));
    return number;
}

int lane_of_frame(const uint8_t *frame, uint32_t length)
{
    uint16_t port;

    if (length < SMALLEST) {
        return -1;
    }
    memcpy(&port, frame + ETH_HLEN + IP_BYTES + 2, sizeof(port));
    return ntohs(port) < FIRST_PORT ? -1 : ntohs(port) - FIRST_PORT;
}

struct virtio_net_hdr offload_of_frame(const FrameRule *rule, uint32_t length)
{
    struct virtio_net_hdr header = { 0 };

    if (rule->gso) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = ETH_HLEN + IP_BYTES;
        header.csum_offset = TCP_CHECKSUM;
    }
    if (is_super_frame(rule, length)) {
        header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        header.gso_size = rule->gso;
        header.hdr_len = HEADERS;
    }
    return header;
}
