/*
 * Options of a job: name=value, separated by spaces.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "load.h"

#define MAX_WORD 32u

typedef struct Choice {
    const char *name;
    uint64_t value;
} Choice;

/* Without choices the value is a number, with k, M, G, s or ms behind it. */
typedef struct Option {
    const char *name;
    size_t place;
    uint64_t preset;
    uint64_t min, max;
    const Choice *choices;
} Option;

static const Choice types[] = {
    { "blk", VIRTIO_BLK }, { "scsi", VIRTIO_SCSI }, { "net", VIRTIO_NET }, {},
};
static const Choice patterns[] = {
    { "read", PATTERN_READ }, { "write", PATTERN_WRITE },
    { "randread", PATTERN_RANDREAD }, { "randwrite", PATTERN_RANDWRITE },
    { "randrw", PATTERN_RANDRW }, { "trace", PATTERN_TRACE }, {},
};
static const Choice switches[] = { { "off", 0 }, { "on", 1 }, {} };
static const Choice rings[] = { { "split", 0 }, { "packed", 1 }, {} };
static const Choice signals[] = { { "poll", 0 }, { "msix", 1 }, {} };

#define NUMBER(field, preset, min, max) \
    { #field, offsetof(Job, field), preset, min, max, NULL }
#define CHOICE(name, field, preset, choices) \
    { name, offsetof(Job, field), preset, 0, 0, choices }

static const Option options[] = {
    CHOICE("type", type, VIRTIO_BLK, types),
    NUMBER(dev, 0, 0, MAX_DEVICES - 1),
    NUMBER(to, 0, 0, MAX_DEVICES - 1),
    CHOICE("rw", rw, PATTERN_RANDREAD, patterns),
    NUMBER(mix, 70, 0, 100),
    NUMBER(bs, 0, 0, 1 << 30),
    NUMBER(area, 0, 0, UINT64_MAX),
    NUMBER(depth, 32, 1, 32768),
    NUMBER(batch, 1, 1, 32768),
    NUMBER(segments, 1, 1, 32766),
    NUMBER(pace, 0, 0, 1000000),
    NUMBER(queues, 1, 1, MAX_QUEUES),
    NUMBER(cpus, 0, 0, MAX_CPUS),
    NUMBER(size, 0, 0, 32768),
    CHOICE("ring", packed, 0, rings),
    CHOICE("event_idx", event_idx, 1, switches),
    CHOICE("indirect", indirect, 0, switches),
    CHOICE("irq", msix, 0, signals),
    NUMBER(requests, 0, 0, UINT64_MAX),
    NUMBER(time, 0, 0, 86400000),
    NUMBER(passes, 0, 0, UINT64_MAX),
    CHOICE("verify", verify, 1, switches),
    NUMBER(seed, 1, 0, UINT64_MAX),
    NUMBER(filled, 0, 0, 126),
};

static uint64_t *field(Job *job, const Option *option)
{
    return (uint64_t *)((char *)job + option->place);
}

/* Copies up to one of @ends; returns what follows the copy. */
static const char *word(char *to, const char *from, char end)
{
    size_t n = 0;

    while (*from && *from != ' ' && *from != ';' && *from != end) {
        if (n + 1 < MAX_WORD) {
            to[n++] = *from;
        }
        from++;
    }
    to[n] = '\0';
    return from;
}

static uint64_t number(const char *name, const char *text)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        { "", 1 }, { "k", 1 << 10 }, { "K", 1 << 10 }, { "M", 1 << 20 },
        { "G", 1 << 30 }, { "s", 1000 }, { "ms", 1 },
    };
    const char *at = text;
    uint64_t value = 0;

    while (*at >= '0' && *at <= '9') {
        value = value * 10 + (*at++ - '0');
    }
    for (size_t i = 0; i < ARRAY_SIZE(units) && at != text; i++) {
        if (text_equal(at, units[i].name)) {
            return value * units[i].factor;
        }
    }
    die("%s=%s is no number", name, text);
}

static void set(Job *job, const char *name, const char *value)
{
    const Option *option = options;
    const Choice *choice;

    while (!text_equal(option->name, name)) {
        if (++option == options + ARRAY_SIZE(options)) {
            die("no option '%s'", name);
        }
    }
    if (!option->choices) {
        uint64_t n = number(name, value);

        if (n < option->min || n > option->max) {
            die("%s=%s is not from %lu to %lu", name, value, option->min,
                option->max);
        }
        *field(job, option) = n;
        return;
    }
    for (choice = option->choices; choice->name; choice++) {
        if (text_equal(choice->name, value)) {
            *field(job, option) = choice->value;
            return;
        }
    }
    die("%s cannot be '%s'", name, value);
}

/* Without a limit a job would have no end. */
static void choose_end(Job *job)
{
    if (job->requests || job->time || job->passes) {
        return;
    }
    if (job->type == VIRTIO_NET) {
        job->time = 1000;
    } else if (job->rw == PATTERN_READ || job->rw == PATTERN_WRITE ||
        job->rw == PATTERN_TRACE) {
        job->passes = 1;
    } else {
        job->time = 1000;
    }
}

const char *job_parse(Job *job, const char *text)
{
    char name[MAX_WORD], value[MAX_WORD];

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        *field(job, &options[i]) = options[i].preset;
    }
    for (;;) {
        while (*text == ' ') {
            text++;
        }
        if (!*text || *text == ';') {
            break;
        }
        text = word(name, text, '=');
        if (*text != '=') {
            die("'%s' has no value", name);
        }
        text = word(value, text + 1, ' ');
        set(job, name, value);
    }
    choose_end(job);
    return text;
}
