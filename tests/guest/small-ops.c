/*
 * The guest's end of the small devices: entropy, vsock, input, sound.
 *
 *     small-ops rng DEVICE UNITS         read entropy and check it
 *     small-ops vsock FILE COPY          send FILE to the host's echo, write
 *                                        to COPY what comes back, turned back
 *     small-ops vsock-whole FILE COPY    the same, but the echo is not told that
 *                                        no more comes before all is back
 *     small-ops input DEVICE ROUNDS      switch lights, read events, check them
 *     small-ops play DEVICE BYTES        play a sound that the host knows
 *     small-ops record DEVICE BYTES      record one that the host makes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/input.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/soundcard.h>
#include <unistd.h>

#include "small-content.h"

#define CHUNK 20000
#define UNITS_MAX (1 << 20)

static void read_whole(int fd, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = must(read(fd, (char *)to + done, size - done), "read");

        if (!got) {
            die("the device ends");
        }
        done += got;
    }
}

static void write_whole(int fd, const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        done += must(write(fd, (const char *)from + done, size - done),
                     "write");
    }
}

/*
 * Entropy.  The kernel takes some of it and gives what it has read from its
 * end, so units may be missing and in another order, but never wrong and never
 * twice.
 */
static void rng(const char *path, uint64_t units)
{
    int fd = must(open(path, O_RDONLY), path);
    static bool seen[UNITS_MAX];
    RngUnit unit, right;
    uint64_t last = 0;

    for (uint64_t i = 0; i < units; i++) {
        read_whole(fd, &unit, sizeof(unit));
        rng_unit(&right, unit.number);
        if (memcmp(&unit, &right, sizeof(unit)) || unit.number >= UNITS_MAX ||
            seen[unit.number]) {
            errno = 0;
            die("RNG unit %" PRIu64 " is wrong: it says %" PRIu64, i,
                unit.number);
        }
        seen[unit.number] = true;
        last = unit.number > last ? unit.number : last;
    }
    printf("RNG last %" PRIu64 "\n", last);
}

/* vsock */

typedef struct Upload {
    int from;
    int to;
    bool ends;                /* tell that no more comes */
} Upload;

static void *upload(void *opaque)
{
    Upload *task = opaque;
    char buffer[CHUNK];
    ssize_t got;

    while ((got = must(read(task->from, buffer, CHUNK), "read")) > 0) {
        write_whole(task->to, buffer, got);
    }
    if (task->ends) {
        must(shutdown(task->to, SHUT_WR), "shutdown");
    }
    return NULL;
}

static void vsock(const char *path, const char *copy, bool ends)
{
    struct sockaddr_vm host = {
        .svm_family = AF_VSOCK,
        .svm_port = VSOCK_HOST_PORT,
        .svm_cid = VMADDR_CID_HOST,
    };
    int to = must(open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600), copy);
    Upload task = { .from = must(open(path, O_RDONLY), path), .ends = ends };
    off_t left = must(lseek(task.from, 0, SEEK_END), "seek");
    char buffer[CHUNK];
    pthread_t thread;
    ssize_t got;

    must(lseek(task.from, 0, SEEK_SET), "seek");

    task.to = must(socket(AF_VSOCK, SOCK_STREAM, 0), "socket");
    must(connect(task.to, (struct sockaddr *)&host, sizeof(host)), "connect");
    must(-pthread_create(&thread, NULL, upload, &task), "thread");
    while ((ends || left > 0) &&
           (got = must(read(task.to, buffer, CHUNK), "receive")) > 0) {
        left -= got;
        for (ssize_t i = 0; i < got; i++) {
            buffer[i] ^= VSOCK_TURN;
        }
        write_whole(to, buffer, got);
    }
    pthread_join(thread, NULL);
}

/* Input */

static void switch_light(int fd, uint64_t round)
{
    static bool lit[INPUT_LIGHTS];
    uint16_t light = input_light(round);
    struct input_event event = { .type = EV_LED, .code = light };

    lit[light] = !lit[light];
    event.value = lit[light];
    write_whole(fd, &event, sizeof(event));
}

static void input(const char *path, uint64_t rounds)
{
    int fd = must(open(path, O_RDWR), path);
    struct input_event event;

    for (uint64_t number = 0; number < rounds * INPUT_EVENTS;) {
        InputEvent right = input_event(number);

        if (number % INPUT_EVENTS == 0) {
            switch_light(fd, number / INPUT_EVENTS);
        }
        do {
            read_whole(fd, &event, sizeof(event));
            /* The kernel tells whoever has it open that a light changed. */
        } while (event.type == EV_LED ||
                 (event.type == EV_SYN && right.type != EV_SYN));
        if (event.type != right.type || event.code != right.code ||
            (uint32_t)event.value != right.value) {
            errno = 0;
            die("INPUT event %" PRIu64 " is %u %u %#x, not %u %u %#x", number,
                event.type, event.code, event.value, right.type, right.code,
                right.value);
        }
        number++;
    }
    printf("INPUT checked\n");
}

/* Sound, through the kernel's OSS interface */

static int open_sound(const char *path, int mode)
{
    int fd = must(open(path, mode), path);
    int format = AFMT_S16_LE, channels = 2, rate = 48000;

    must(ioctl(fd, SNDCTL_DSP_SETFMT, &format), "format");
    must(ioctl(fd, SNDCTL_DSP_CHANNELS, &channels), "channels");
    must(ioctl(fd, SNDCTL_DSP_SPEED, &rate), "rate");
    if (format != AFMT_S16_LE || channels != 2 || rate != 48000) {
        die("the sound device plays something else");
    }
    return fd;
}

/*
 * Until the device has played everything.  Draining would not do: the kernel
 * gives up on a device that is slower than sound.
 */
static void wait_played(int fd)
{
    int delay = 1;

    while (delay) {
        usleep(10000);
        must(ioctl(fd, SNDCTL_DSP_GETODELAY, &delay), "delay");
    }
}

/* At least @bytes: the kernel passes on whole blocks. */
static void play(const char *path, uint64_t bytes)
{
    int fd = open_sound(path, O_WRONLY);
    uint8_t *sound;
    int block;

    must(ioctl(fd, SNDCTL_DSP_GETBLKSIZE, &block), "block");
    bytes += block - bytes % block;
    sound = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        sound[i] = sound_byte(SOUND_PLAY, i);
    }
    write_whole(fd, sound, bytes);
    wait_played(fd);
    must(close(fd), "close");
    free(sound);
    printf("SOUND played %" PRIu64 "\n", bytes);
}

/*
 * A machine that is too slow for sound loses some: the device writes over what
 * nobody has read yet, and once the kernel sees that, both begin anew.  So
 * sound may go on a little later, or from the begin.  Behind such a place
 * SOUND_SURE bytes have to be right in a row, which chance does not bring.
 */
#define SOUND_SURE 16
#define SOUND_FRAME 4
#define SOUND_LOST_MAX (1024 * 1024)

static bool recorded_at(const uint8_t *sound, uint64_t position)
{
    for (unsigned i = 0; i < SOUND_SURE; i++) {
        if (sound[i] != sound_byte(SOUND_RECORD, position + i)) {
            return false;
        }
    }
    return true;
}

/* Where @sound goes on, at @from or up to SOUND_LOST_MAX bytes behind it. */
static bool find_recorded(const uint8_t *sound, uint64_t from, uint64_t *found)
{
    for (*found = from; *found < from + SOUND_LOST_MAX;
         *found += SOUND_FRAME) {
        if (recorded_at(sound, *found)) {
            return true;
        }
    }
    return false;
}

/* There are SOUND_SURE bytes behind @bytes. */
static void check_recorded(const uint8_t *sound, uint64_t bytes)
{
    uint64_t position = 0;

    for (uint64_t i = 0; i < bytes; i++, position++) {
        uint8_t expected = sound_byte(SOUND_RECORD, position);
        unsigned in_frame = i % SOUND_FRAME;
        uint64_t found;

        if (sound[i] == expected) {
            continue;
        }
        if (!find_recorded(sound + i - in_frame, position - in_frame,
                           &found) &&
            !find_recorded(sound + i - in_frame, 0, &found)) {
            errno = 0;
            die("SOUND byte %" PRIu64 " is %#x, not %#x", i, sound[i],
                expected);
        }
        i -= in_frame;
        position = found;
        printf("SOUND lost before byte %" PRIu64 "\n", i);
    }
}

static void record(const char *path, uint64_t bytes)
{
    int fd = open_sound(path, O_RDONLY);
    uint8_t *sound = malloc(bytes + SOUND_SURE);

    read_whole(fd, sound, bytes + SOUND_SURE);
    check_recorded(sound, bytes);
    must(close(fd), "close");
    free(sound);
}

int main(int argc, char **argv)
{
    uint64_t number = argc == 4 ? strtoull(argv[3], NULL, 0) : 0;

    if (argc != 4) {
        die("usage: small-ops WHAT DEVICE NUMBER");
    }
    if (!strcmp(argv[1], "rng")) {
        rng(argv[2], number);
    } else if (!strcmp(argv[1], "vsock")) {
        vsock(argv[2], argv[3], true);
    } else if (!strcmp(argv[1], "vsock-whole")) {
        vsock(argv[2], argv[3], false);
    } else if (!strcmp(argv[1], "input")) {
        input(argv[2], number);
    } else if (!strcmp(argv[1], "play")) {
        play(argv[2], number);
    } else if (!strcmp(argv[1], "record")) {
        record(argv[2], number);
    } else {
        die("unknown: %s", argv[1]);
    }
    return 0;
}
