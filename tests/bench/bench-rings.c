/*
 * What a request costs on its way through a shadow virtqueue.
 *
 *   bench-rings count ROUNDS              under callgrind: a dump a case
 *   bench-rings time ROUNDS REPETITIONS   on its own: nanoseconds
 *
 * It is QEMU without its main loop: everything below the measured code is what
 * a virtual machine has there.  The machine is a PC that does not run; its disk
 * lends the bench its first queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "hw/pci/pci_device.h"
#include "hw/virtio/virtio.h"
#include "qom/object.h"
#include "system/system.h"
#include <valgrind/callgrind.h>
#include "bench.h"

#define WARM_UP_ROUNDS 64

int (*qemu_main)(void);

static const unsigned batches[] = { 1, 8, 64 };

/* Measured: nanoseconds so far.  Collecting is on while @counting. */
static uint64_t spent_ns;
static uint64_t clock_ns;
static bool counting;
static bool timing;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

typedef void MeasuredFn(void *opaque, unsigned num);

static void measure(MeasuredFn *fn, void *opaque, unsigned num)
{
    if (counting) {
        bench_syscalls_counted = true;
        CALLGRIND_TOGGLE_COLLECT;
        fn(opaque, num);
        CALLGRIND_TOGGLE_COLLECT;
        bench_syscalls_counted = false;
    } else if (timing) {
        uint64_t begin = now_ns();

        fn(opaque, num);
        spent_ns += now_ns() - begin - clock_ns;
    } else {
        fn(opaque, num);
    }
}

static void empty(void *opaque, unsigned num)
{
}

/* What reading the clock costs, the least of many tries. */
static void calibrate(void)
{
    clock_ns = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t begin = now_ns();
        uint64_t ns;

        empty(NULL, 0);
        ns = now_ns() - begin;
        clock_ns = i ? MIN(clock_ns, ns) : ns;
    }
}

static void run_rounds(const BenchContender *c, void *opaque,
                       BenchGuest *guest, unsigned batch, unsigned rounds)
{
    bool path = !strcmp(c->part, "path");

    for (unsigned i = 0; i < rounds; i++) {
        if (path) {
            bench_guest_offer(guest, batch);
        }
        measure(c->forward, opaque, batch);
        g_assert_cmpuint(bench_device_run(c->device(opaque)), ==, batch);
        measure(c->back, opaque, batch);
        if (path) {
            bench_guest_collect(guest, batch);
        }
    }
}

static const char *format_name(ShadowRingFormat format)
{
    return format == SHADOW_RING_PACKED ? "packed" : "split";
}

static void run_case(const BenchContender *c, VirtIODevice *vdev,
                     unsigned batch, unsigned rounds, unsigned repetitions)
{
    BenchGuest *guest = bench_guest_new(vdev, c->guest);
    void *opaque = c->start(guest, c->format);
    g_autofree char *name = g_strdup_printf(
        "%s %s %s %s %u", c->part, c->name, format_name(c->guest),
        format_name(c->format), batch);

    counting = timing = false;
    run_rounds(c, opaque, guest, batch, WARM_UP_ROUNDS);
    if (!repetitions) {
        counting = true;
        CALLGRIND_ZERO_STATS;
        bench_syscalls = (BenchSyscalls) { 0 };
        run_rounds(c, opaque, guest, batch, rounds);
        CALLGRIND_DUMP_STATS_AT(name);
        printf("COUNT %s %u %u %u\n", name, rounds, bench_syscalls.all,
               bench_syscalls.wakeups);
    }
    timing = true;
    for (unsigned i = 0; i < repetitions; i++) {
        spent_ns = 0;
        run_rounds(c, opaque, guest, batch, rounds);
        printf("TIME %s %.2f\n", name, (double)spent_ns / (rounds * batch));
    }
    c->stop(opaque);
    bench_guest_free(guest);
}

static void run_cases(const BenchContender *c, VirtIODevice *vdev,
                      unsigned rounds, unsigned repetitions)
{
    for (unsigned i = 0; i < ARRAY_SIZE(batches); i++) {
        run_case(c, vdev, batches[i], rounds, repetitions);
    }
}

static void run_all(VirtIODevice *vdev, unsigned rounds, unsigned repetitions)
{
    ShadowRingFormat guest, format;

    run_cases(&bench_stock_ring_contender, vdev, rounds, repetitions);
    for (format = 0; format < SHADOW_RING__MAX; format++) {
        BenchContender c = bench_ring_contender;

        c.format = format;
        run_cases(&c, vdev, rounds, repetitions);
    }
    for (guest = 0; guest < SHADOW_RING__MAX; guest++) {
        BenchContender c = bench_stock_path_contender;

        c.guest = guest;
        run_cases(&c, vdev, rounds, repetitions);
        c = bench_path_contender;
        c.guest = guest;
        for (c.format = 0; c.format < SHADOW_RING__MAX; c.format++) {
            run_cases(&c, vdev, rounds, repetitions);
        }
    }
}

/* The disk's queue, reachable for the device as a running guest makes it. */
static VirtIODevice *find_device(void)
{
    Object *pci = object_resolve_path_component(
        object_resolve_path("/machine/peripheral", NULL), "disk");
    PCIDevice *dev = PCI_DEVICE(pci);

    dev->config_write(dev, PCI_COMMAND, PCI_COMMAND_MEMORY |
                      PCI_COMMAND_MASTER, 2);
    return VIRTIO_DEVICE(object_resolve_path_component(pci, "virtio-backend"));
}

int main(int argc, char **argv)
{
    const char *args[] = {
        argv[0], "-machine", "pc,usb=off", "-accel", "qtest", "-m", "256",
        "-display", "none", "-nodefaults", "-S",
        "-blockdev", "driver=null-co,node-name=null",
        "-device", "virtio-blk-pci,id=disk,drive=null,queue-size=256,"
                   "num-queues=1,packed=on,disable-legacy=on",
    };
    unsigned rounds, repetitions = 0;
    bool count = argc == 3 && !strcmp(argv[1], "count");

    if (!count && !(argc == 4 && !strcmp(argv[1], "time") &&
                    !qemu_strtoui(argv[3], NULL, 10, &repetitions))) {
        argc = 0;
    }
    if (!argc || qemu_strtoui(argv[2], NULL, 10, &rounds) || !rounds) {
        fprintf(stderr, "usage: bench-rings count ROUNDS\n"
                        "       bench-rings time ROUNDS REPETITIONS\n");
        return 2;
    }
    qemu_init(ARRAY_SIZE(args), (char **)args);
    calibrate();
    if (count) {
        CALLGRIND_START_INSTRUMENTATION;
    }
    run_all(find_device(), rounds, repetitions);
    /* Without the main loop there is nothing to shut down. */
    fflush(stdout);
    _exit(0);
}
