/*
 * A sound card with one stream to play and one to record:
 *
 *     small-snd SOCKET FILE
 *
 * What is played goes to FILE; what is recorded follows from SOUND_RECORD.
 *
 * It has no clock that could be late.  Each tick ends one buffer of a stream
 * that runs, but not the last that is there: a guest that is slow is waited
 * for, so nothing underruns or overruns.  Only when no buffer has followed for
 * LAST_TICKS is it the last.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/types.h>
#include <linux/virtio_snd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "small-content.h"
#include "small.h"

#define TICK_NS (5 * 1000 * 1000)
#define LAST_TICKS 100
#define PENDING_MAX 64
#define PERIOD_MAX (256 * 1024)
#define HEADER sizeof(struct virtio_snd_pcm_xfer)
#define STATUS sizeof(struct virtio_snd_pcm_status)

typedef struct Stream {
    int queue;
    bool runs;
    unsigned ticks;           /* since a buffer came or went */
    unsigned count;
    uint64_t position;        /* bytes recorded so far */
    VuVirtqElement *pending[PENDING_MAX];
} Stream;

/* By the number that the guest uses. */
static Stream streams[] = {
    [VIRTIO_SND_D_OUTPUT] = { .queue = VIRTIO_SND_VQ_TX },
    [VIRTIO_SND_D_INPUT] = { .queue = VIRTIO_SND_VQ_RX },
};
#define STREAMS (sizeof(streams) / sizeof(streams[0]))

static FILE *played;
static uint8_t sound[PERIOD_MAX];

/* Buffers */

static void play(VuVirtqElement *element)
{
    size_t size = small_bytes(element->out_sg, element->out_num) - HEADER;

    small_read(element->out_sg, element->out_num, HEADER, sound, size);
    sound[3] ^= small_damage();
    if (fwrite(sound, 1, size, played) != size || fflush(played)) {
        small_fail("cannot write what was played");
    }
}

static size_t record(Stream *s, VuVirtqElement *element, bool real)
{
    size_t size = small_bytes(element->in_sg, element->in_num) - STATUS;

    for (size_t i = 0; i < size; i++) {
        sound[i] = real ? sound_byte(SOUND_RECORD, s->position++) : 0;
    }
    sound[3] ^= small_damage();
    return small_write(element->in_sg, element->in_num, 0, sound, size);
}

/* End the oldest buffer; not @real: because all end, unheard or silent. */
static void end_buffer(VuDev *dev, Stream *s, bool real)
{
    VuVirtqElement *element = s->pending[0];
    struct virtio_snd_pcm_status status = { .status = VIRTIO_SND_S_OK };
    size_t room = small_bytes(element->in_sg, element->in_num);
    size_t size = 0;

    memmove(s->pending, s->pending + 1,
            --s->count * sizeof(s->pending[0]));
    if (s->queue == VIRTIO_SND_VQ_RX) {
        size = record(s, element, real);
    } else if (real) {
        play(element);
    }
    small_write(element->in_sg, element->in_num, room - STATUS, &status,
                STATUS);
    small_push(dev, s->queue, element, size + STATUS);
    s->ticks = 0;
}

static void take_buffers(VuDev *dev, Stream *s)
{
    VuVirtqElement *element;
    struct virtio_snd_pcm_xfer header;

    while (s->count < PENDING_MAX && (element = small_pop(dev, s->queue))) {
        size_t out = small_bytes(element->out_sg, element->out_num);
        size_t in = small_bytes(element->in_sg, element->in_num);

        small_read(element->out_sg, element->out_num, 0, &header, HEADER);
        if (out < HEADER || in < STATUS || out > PERIOD_MAX ||
            in > PERIOD_MAX || (in > STATUS && s->queue == VIRTIO_SND_VQ_TX) ||
            s != &streams[header.stream_id % STREAMS]) {
            small_fail("a buffer of %zu and %zu bytes", out, in);
        }
        s->pending[s->count++] = element;
        s->ticks = 0;
    }
}

static void tick(VuDev *dev, int condition, void *data)
{
    const int *clock = data;
    uint64_t times;

    (void)condition;
    if (read(*clock, &times, sizeof(times)) < 0) {
        return;
    }
    for (Stream *s = streams; s < streams + STREAMS; s++) {
        bool is_last = s->queue == VIRTIO_SND_VQ_TX &&
                       ++s->ticks > LAST_TICKS;

        if (s->runs && s->count > (is_last ? 0 : 1)) {
            end_buffer(dev, s, true);
            small_notify(dev, s->queue);
        }
    }
}

/* Control */

static uint32_t command(VuDev *dev, uint32_t code, Stream *s)
{
    switch (code) {
    case VIRTIO_SND_R_PCM_SET_PARAMS:
        return VIRTIO_SND_S_OK;
    case VIRTIO_SND_R_PCM_PREPARE:
        s->position = 0;
        return VIRTIO_SND_S_OK;
    case VIRTIO_SND_R_PCM_START:
    case VIRTIO_SND_R_PCM_STOP:
        s->runs = code == VIRTIO_SND_R_PCM_START;
        s->ticks = 0;
        return VIRTIO_SND_S_OK;
    case VIRTIO_SND_R_PCM_RELEASE:
        /* virtio 1.2, 5.14.6.6.5: all buffers end first. */
        take_buffers(dev, s);
        while (s->count) {
            end_buffer(dev, s, false);
        }
        small_notify(dev, s->queue);
        return VIRTIO_SND_S_OK;
    default:
        return VIRTIO_SND_S_NOT_SUPP;
    }
}

static struct virtio_snd_pcm_info describe(unsigned stream)
{
    return (struct virtio_snd_pcm_info) {
        .formats = 1ULL << VIRTIO_SND_PCM_FMT_S16,
        .rates = 1ULL << VIRTIO_SND_PCM_RATE_48000,
        .direction = stream,
        .channels_min = 2,
        .channels_max = 2,
    };
}

static size_t tell_streams(VuVirtqElement *element, size_t at)
{
    struct virtio_snd_query_info query = { 0 };

    small_read(element->out_sg, element->out_num, 0, &query, sizeof(query));
    if (query.count > STREAMS || query.start_id > STREAMS - query.count ||
        query.size != sizeof(struct virtio_snd_pcm_info)) {
        small_fail("a question about %u streams", query.count);
    }
    for (unsigned i = 0; i < query.count; i++) {
        struct virtio_snd_pcm_info info = describe(query.start_id + i);

        at += small_write(element->in_sg, element->in_num, at, &info,
                          sizeof(info));
    }
    return at;
}

static void control(VuDev *dev)
{
    VuVirtqElement *element;

    while ((element = small_pop(dev, VIRTIO_SND_VQ_CONTROL))) {
        struct virtio_snd_pcm_hdr header = { 0 };
        struct virtio_snd_hdr response = { VIRTIO_SND_S_OK };
        size_t size = sizeof(response);

        small_read(element->out_sg, element->out_num, 0, &header,
                   sizeof(header));
        if (header.hdr.code == VIRTIO_SND_R_PCM_INFO) {
            size = tell_streams(element, size);
        } else if (header.stream_id < STREAMS) {
            response.code = command(dev, header.hdr.code,
                                    &streams[header.stream_id]);
        } else {
            response.code = VIRTIO_SND_S_BAD_MSG;
        }
        small_write(element->in_sg, element->in_num, 0, &response,
                    sizeof(response));
        small_push(dev, VIRTIO_SND_VQ_CONTROL, element, size);
    }
    small_notify(dev, VIRTIO_SND_VQ_CONTROL);
}

static void start_clock(VuDev *dev)
{
    static int clock = -1;
    struct itimerspec every = {
        .it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS,
    };

    if (clock < 0) {
        clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (clock < 0 || timerfd_settime(clock, 0, &every, NULL)) {
            small_fail("no timer");
        }
        small_watch(dev, clock, tick, &clock);
    }
}

static void kicked(VuDev *dev, int queue)
{
    start_clock(dev);
    if (queue == VIRTIO_SND_VQ_CONTROL) {
        control(dev);
    }
    for (Stream *s = streams; s < streams + STREAMS; s++) {
        if (s->queue == queue) {
            take_buffers(dev, s);
        }
    }
}

static void stopped(VuDev *dev, int queue)
{
    (void)dev;
    for (Stream *s = streams; s < streams + STREAMS; s++) {
        if (s->queue == queue) {
            s->runs = false;
            while (s->count) {
                free(s->pending[--s->count]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    static const struct virtio_snd_config config = { .streams = STREAMS };
    static const SmallDevice device = {
        .queues = VIRTIO_SND_VQ_MAX,
        .kicked = kicked,
        .stopped = stopped,
        .config = &config,
        .config_bytes = sizeof(config),
    };

    if (argc != 3) {
        small_fail("usage: small-snd SOCKET FILE");
    }
    played = fopen(argv[2], "w");
    if (!played) {
        small_fail("cannot write %s", argv[2]);
    }
    small_run(&device, argv[1]);
}
