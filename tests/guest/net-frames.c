/*
 * Raw Ethernet frames between two interfaces of one guest, every byte known.
 *
 * What leaves interface A comes in at interface B and the other way round; in
 * between there is a vhost-user backend that forwards.  Length and content of
 * a frame follow from seed, lane, direction and number alone, so each frame
 * that arrives is compared with the only right one: a lost, doubled, reordered,
 * cut or damaged frame ends the run with a sentence that says which it was.
 *
 * A lane is a thread on a processor of its own, with sockets of its own, that
 * sends both ways at once; the driver picks the transmit queue by processor,
 * so lane 0 tries queue pair 0, lane 1 pair 1.  No lane has more on its way
 * than --burst frames and --window small receive buffers hold: a receive ring
 * that always has room loses nothing, and whatever is missing was lost by
 * somebody's mistake.  Where frames may be lost (a machine that is stopped
 * while they are under way), --lossy 1 counts them; what arrives is compared
 * all the same, and has to arrive once and in order.
 *
 * The frames look like TCP over IPv4.  With --gso a frame longer than the
 * segment size leaves as one super-frame, and has to arrive as one.
 *
 * With --void N the first interface sends N frames to nobody and does not care
 * what becomes of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net-frame.h"

enum {
    MAX_LANES = 8,
    SOCKET_BYTES = 32 << 20,
    PATIENCE = 100,              /* seconds without a frame: it is lost */
    LOSSY_PATIENCE = 15,
    BUFFER_BYTES = 1500,         /* of the smallest receive buffer */
    VOID_LANE = MAX_LANES,
};

typedef struct Options {
    const char *interface[2];
    FrameRule rule;
    uint32_t frames;             /* a lane and direction */
    uint32_t window;             /* buffers on their way */
    uint32_t burst;              /* frames on their way */
    uint32_t lossy;
    uint32_t void_frames;
    uint32_t lanes;
    uint32_t channels;           /* queue pairs to switch to, 0: as it is */
} Options;

/* From interface @from to the other one. */
typedef struct Direction {
    uint32_t sent;               /* frames; also the next one's number */
    uint32_t next;               /* number of the next to come */
    uint32_t received;
    uint64_t sent_buffers;
    uint64_t next_buffers;       /* of all before @next */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint32_t super_frames;
} Direction;

typedef struct Lane {
    uint32_t number;
    pthread_t thread;
    int fd[2];                   /* by interface */
    Direction direction[2];      /* by the interface that sends */
    uint8_t right[LARGEST];
    uint8_t seen[LARGEST + 1];   /* one more, to notice a longer frame */
} Lane;

static Options opt = {
    .rule.seed = 1, .rule.largest = ETH_FRAME_LEN, .frames = 1000,
    .window = 64, .burst = 64, .lanes = 1,
};

static void fail(const char *what)
{
    printf("NET %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Sending and receiving */

static uint32_t buffers(uint32_t length)
{
    return 1 + length / BUFFER_BYTES;
}

static bool may_send(const Direction *d)
{
    uint64_t under_way = d->sent_buffers - d->next_buffers;

    return d->sent < opt.frames && d->sent - d->next < opt.burst &&
           (!under_way || under_way + buffers(opt.rule.largest) <= opt.window);
}

/* Whether a frame left; not if the interface has no room just now. */
static bool send_frame(Lane *lane, int from)
{
    Direction *d = &lane->direction[from];
    uint32_t length = make_frame(&opt.rule, lane->right, lane->number, from,
                                 d->sent);
    struct virtio_net_hdr header = offload_of_frame(&opt.rule, length);
    struct iovec iov[] = {
        { &header, sizeof(header) }, { lane->right, length },
    };
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

    if (sendmsg(lane->fd[from], &message, MSG_DONTWAIT) < 0) {
        if (errno != EAGAIN && errno != ENOBUFS) {
            fail("send");
        }
        return false;
    }
    d->sent++;
    d->sent_bytes += length;
    d->sent_buffers += buffers(length);
    d->super_frames += is_super_frame(&opt.rule, length);
    return true;
}

static void report(const Lane *lane, int from, uint32_t right, uint32_t seen)
{
    uint32_t at = 0;

    while (at < right && at < seen && lane->right[at] == lane->seen[at]) {
        at++;
    }
    printf("NET mismatch on lane %u from %s: frame %u expected, %u seen, "
           "%u bytes expected, %u seen, first difference at %u: "
           "%02x %02x instead of %02x %02x\n",
           lane->number, opt.interface[from],
           lane->direction[from].next, number_of_frame(lane->seen), right,
           seen, at, lane->seen[at], lane->seen[at + 1], lane->right[at],
           lane->right[at + 1]);
    exit(1);
}

/* Frames up to and without @number will not come any more. */
static void skip_frames(Lane *lane, int from, uint32_t number)
{
    Direction *d = &lane->direction[from];

    while (d->next < number && d->next < d->sent) {
        d->next_buffers += buffers(make_frame(&opt.rule, lane->right,
                                              lane->number, from, d->next));
        d->next++;
    }
}

static void check_frame(Lane *lane, int from, uint32_t seen,
                        const struct virtio_net_hdr *header)
{
    Direction *d = &lane->direction[from];
    struct virtio_net_hdr expected;
    uint32_t right;

    if (opt.lossy) {
        skip_frames(lane, from, number_of_frame(lane->seen));
    }
    right = make_frame(&opt.rule, lane->right, lane->number, from, d->next);
    if (seen != right || memcmp(lane->right, lane->seen, right) ||
        d->next == d->sent) {
        report(lane, from, right, seen);
    }
    expected = offload_of_frame(&opt.rule, right);
    if (header->gso_type != expected.gso_type ||
        header->gso_size != expected.gso_size) {
        printf("NET mismatch: frame %u of %u bytes came as type %u of "
               "segments of %u\n", d->next, right, header->gso_type,
               header->gso_size);
        exit(1);
    }
    d->next++;
    d->next_buffers += buffers(right);
    d->received++;
    d->received_bytes += right;
}

/* Whether there was a frame. */
static bool receive_frame(Lane *lane, int from)
{
    struct virtio_net_hdr header;
    struct iovec iov[] = {
        { &header, sizeof(header) }, { lane->seen, sizeof(lane->seen) },
    };
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
    ssize_t done = recvmsg(lane->fd[!from], &message, MSG_DONTWAIT);

    if (done < 0) {
        if (errno != EAGAIN) {
            fail("receive");
        }
        return false;
    }
    done -= sizeof(header);
    if (lane_of_frame(lane->seen, done) == (int)lane->number) {
        check_frame(lane, from, done, &header);
    }
    return true;
}

static bool is_done(const Lane *lane)
{
    return lane->direction[0].next == opt.frames &&
           lane->direction[1].next == opt.frames;
}

/* Nothing came for as long as we are ready to wait. */
static void give_up(Lane *lane)
{
    for (int i = 0; i < 2; i++) {
        Direction *d = &lane->direction[i];

        if (opt.lossy) {
            skip_frames(lane, i, d->sent);
            continue;
        }
        printf("NET lane %u from %s: of %u frames %u were sent, %u came\n",
               lane->number, opt.interface[i], opt.frames, d->sent,
               d->received);
    }
    if (!opt.lossy) {
        exit(1);
    }
}

static void wait_for_lane(Lane *lane)
{
    struct pollfd fds[2];
    int ready;

    for (int i = 0; i < 2; i++) {
        fds[i].fd = lane->fd[i];
        fds[i].events = POLLIN;
        if (may_send(&lane->direction[i])) {
            fds[i].events |= POLLOUT;
        }
    }
    ready = poll(fds, 2, (opt.lossy ? LOSSY_PATIENCE : PATIENCE) * 1000);
    if (ready < 0) {
        fail("poll");
    }
    if (!ready) {
        give_up(lane);
    }
}

static void *run_lane(void *opaque)
{
    Lane *lane = opaque;

    while (!is_done(lane)) {
        bool moved = false;

        for (int from = 0; from < 2; from++) {
            while (may_send(&lane->direction[from]) &&
                   send_frame(lane, from)) {
                moved = true;
            }
            while (receive_frame(lane, from)) {
                moved = true;
            }
        }
        if (!moved) {
            wait_for_lane(lane);
        }
    }
    return NULL;
}

/* Setting up */

static struct ifreq request_for(const char *interface)
{
    struct ifreq request = { 0 };

    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    return request;
}

static void set_channels(int fd, const char *interface)
{
    struct ethtool_channels channels = {
        .cmd = ETHTOOL_SCHANNELS, .combined_count = opt.channels,
    };
    struct ifreq request = request_for(interface);

    request.ifr_data = (char *)&channels;
    if (ioctl(fd, SIOCETHTOOL, &request) < 0) {
        fail("setting the number of queues");
    }
}

/*
 * Frames whose checksum happens to be right would wait to be merged, and be
 * overtaken by those where it is not.
 */
static void merge_nothing(int fd, const char *interface)
{
    struct ethtool_value value = { .cmd = ETHTOOL_SGRO };
    struct ifreq request = request_for(interface);

    request.ifr_data = (char *)&value;
    if (ioctl(fd, SIOCETHTOOL, &request) < 0) {
        fail("switching GRO off");
    }
}

static void learn_interfaces(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        fail("socket");
    }
    for (int i = 0; i < 2; i++) {
        struct ifreq request = request_for(opt.interface[i]);

        if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) {
            fail(opt.interface[i]);
        }
        memcpy(opt.rule.address[i], request.ifr_hwaddr.sa_data, ETH_ALEN);
        merge_nothing(fd, opt.interface[i]);
        if (opt.channels) {
            set_channels(fd, opt.interface[i]);
        }
    }
    close(fd);
}

static int open_interface(const char *interface)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int one = 1, bytes = SOCKET_BYTES;
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
        .sll_ifindex = if_nametoindex(interface),
    };

    if (fd < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) ||
        bind(fd, (struct sockaddr *)&where, sizeof(where)) < 0) {
        fail(interface);
    }
    return fd;
}

/* A thread on its own processor, so that it uses a queue of its own. */
static void start_lane(Lane *lane, uint32_t number)
{
    pthread_attr_t attributes;
    cpu_set_t cpus;

    lane->number = number;
    for (int i = 0; i < 2; i++) {
        lane->fd[i] = open_interface(opt.interface[i]);
    }
    CPU_ZERO(&cpus);
    CPU_SET(number, &cpus);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof(cpus), &cpus);
    errno = pthread_create(&lane->thread, &attributes, run_lane, lane);
    if (errno) {
        fail("thread");
    }
}

/* As many as the interface takes. */
static void send_to_nobody(void)
{
    static Lane lane = { .number = VOID_LANE };
    uint32_t tries = 0;

    lane.fd[0] = open_interface(opt.interface[0]);
    while (lane.direction[0].sent < opt.void_frames && tries < 1000) {
        if (!send_frame(&lane, 0)) {
            usleep(1000);
            tries++;
        }
    }
    printf("NET void %u frames\n", lane.direction[0].sent);
}

static void print_result(const Lane *lane)
{
    for (int i = 0; i < 2; i++) {
        const Direction *d = &lane->direction[i];

        printf("NET ok lane %u from %s: %u frames, %" PRIu64 " bytes, "
               "%u super-frames; %u frames, %" PRIu64 " bytes came\n",
               lane->number, opt.interface[i], d->sent, d->sent_bytes,
               d->super_frames, d->received, d->received_bytes);
    }
}

static uint32_t *number_option(const char *name)
{
    static const struct {
        const char *name;
        uint32_t *value;
    } options[] = {
        { "--frames", &opt.frames }, { "--largest", &opt.rule.largest },
        { "--window", &opt.window }, { "--gso", &opt.rule.gso },
        { "--lanes", &opt.lanes }, { "--channels", &opt.channels },
        { "--burst", &opt.burst }, { "--lossy", &opt.lossy },
        { "--void", &opt.void_frames },
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (!strcmp(name, options[i].name)) {
            return options[i].value;
        }
    }
    printf("NET unknown option %s\n", name);
    exit(2);
}

static void parse_options(int argc, char **argv)
{
    uint32_t limit;

    if (argc < 3 || argc % 2 == 0) {
        printf("usage: net-frames INTERFACE INTERFACE [--frames N] "
               "[--largest BYTES] [--gso BYTES] [--window BUFFERS] "
               "[--burst N] [--lanes N] [--channels N] [--lossy 1] "
               "[--void N]\n");
        exit(2);
    }
    opt.interface[0] = argv[1];
    opt.interface[1] = argv[2];
    for (int i = 3; i < argc; i += 2) {
        *number_option(argv[i]) = strtoul(argv[i + 1], NULL, 0);
    }
    limit = opt.rule.gso ? LARGEST_GSO : LARGEST;
    if (opt.rule.largest < SMALLEST || opt.rule.largest > limit || !opt.lanes ||
        opt.lanes > MAX_LANES) {
        printf("NET a frame has %u to %u bytes; 1 to %u lanes\n", SMALLEST,
               limit, MAX_LANES);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static Lane lanes[MAX_LANES];

    setlinebuf(stdout);
    parse_options(argc, argv);
    learn_interfaces();
    if (opt.void_frames) {
        send_to_nobody();
        return 0;
    }
    for (uint32_t i = 0; i < opt.lanes; i++) {
        start_lane(&lanes[i], i);
    }
    for (uint32_t i = 0; i < opt.lanes; i++) {
        pthread_join(lanes[i].thread, NULL);
        print_result(&lanes[i]);
    }
    return 0;
}
