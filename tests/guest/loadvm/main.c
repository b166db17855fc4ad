/*
 * The load VM: runs jobs and ends.
 *
 * Jobs come from -append, separated by ';'.  Without any they come from the
 * serial port, a line at a time: READY says that one may be sent, and an empty
 * line ends the VM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "load.h"

void loadvm_main(void);

static const char *run(const char *text)
{
    Job job;

    text = job_parse(&job, text);
    if (job.type == VIRTIO_NET) {
        net_run(&job);
    } else {
        blk_run(&job);
    }
    return *text == ';' ? text + 1 : text;
}

static bool is_blank(const char *text)
{
    while (*text == ' ') {
        text++;
    }
    return !*text;
}

static void serve_lines(void)
{
    static char line[1024];

    for (;;) {
        say("READY\n");
        hear_line(line, sizeof(line));
        if (is_blank(line)) {
            return;
        }
        for (const char *at = line; !is_blank(at);) {
            at = run(at);
        }
    }
}

void loadvm_main(void)
{
    const char *jobs = boot_arguments();

    say("\nLOADVM %u virtio device(s), %u processor(s), %lu MHz\n",
        virtio_find(), cpu_count(), ticks_per_ms() / 1000);
    if (is_blank(jobs)) {
        serve_lines();
    }
    while (!is_blank(jobs)) {
        jobs = run(jobs);
    }
    say("LOADVM done\n");
    power_off();
}
