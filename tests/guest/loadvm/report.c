/*
 * What a job did, as one line of JSON behind the word RESULT.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "load.h"

void tally_add(Tally *to, const Tally *from)
{
    /* Nothing but counters. */
    const uint64_t *add = (const uint64_t *)from;
    uint64_t *sum = (uint64_t *)to;

    for (size_t i = 0; i < sizeof(*to) / sizeof(*sum); i++) {
        sum[i] += add[i];
    }
}

/* The lowest number of ticks that tally_latency() counts in @bucket. */
static uint64_t bucket_ticks(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;

    return (uint64_t)(bucket - shift * HISTOGRAM_STEPS) << shift;
}

/* The latency that @permille of the requests do not exceed. */
static uint64_t percentile(const Tally *tally, unsigned permille)
{
    uint64_t sum = 0, seen = 0;
    unsigned i;

    for (i = 0; i < HISTOGRAM_SIZE; i++) {
        sum += tally->latency[i];
    }
    for (i = 0; i < HISTOGRAM_SIZE - 1; i++) {
        seen += tally->latency[i];
        if (seen * 1000 >= sum * permille && seen) {
            break;
        }
    }
    return ticks_to_ns(bucket_ticks(i + 1));
}

static void say_histogram(const Tally *tally)
{
    const char *before = "";

    say(",\"latency_ns\":[");
    for (unsigned i = 0; i < HISTOGRAM_SIZE; i++) {
        if (tally->latency[i]) {
            say("%s[%lu,%lu]", before, ticks_to_ns(bucket_ticks(i)),
                tally->latency[i]);
            before = ",";
        }
    }
    say("]");
}

void report(const Job *job, const Tally *tally, uint64_t span,
            uint64_t interrupts)
{
    const struct {
        const char *name;
        uint64_t value;
    } values[] = {
        { "requests", tally->requests }, { "bytes", tally->bytes },
        { "ns", ticks_to_ns(span) }, { "errors", tally->errors },
        { "verified", tally->verified }, { "unknown", tally->unknown },
        { "bad", tally->bad }, { "lost", tally->lost },
        { "kicks", tally->kicks }, { "batches", tally->batches },
        { "interrupts", interrupts }, { "sleeps", tally->sleeps },
        { "p50_ns", percentile(tally, 500) },
        { "p99_ns", percentile(tally, 990) },
        { "p999_ns", percentile(tally, 999) },
        { "max_ns", percentile(tally, 1000) },
    };

    say("RESULT {\"type\":\"%s\"", job->type == VIRTIO_NET ? "net" :
        job->type == VIRTIO_SCSI ? "scsi" : "blk");
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        say(",\"%s\":%lu", values[i].name, values[i].value);
    }
    say_histogram(tally);
    say("}\n");
}
