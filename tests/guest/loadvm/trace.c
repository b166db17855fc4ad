/*
 * The trace to replay: a module that -initrd gave.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "load.h"

/* "LVMTRACE", little endian */
#define TRACE_MAGIC 0x45434152544d564cULL

typedef struct TraceHead {
    uint64_t magic;
    uint64_t num_entries;
    TraceEntry entries[];
} TraceHead;

Trace trace_open(void)
{
    uint64_t size;
    const TraceHead *head = boot_module(&size);
    Trace trace = {};

    if (size < sizeof(*head) || head->magic != TRACE_MAGIC ||
        !head->num_entries ||
        head->num_entries > (size - sizeof(*head)) / sizeof(TraceEntry)) {
        die("rw=trace needs a trace as -initrd");
    }
    trace.entries = head->entries;
    trace.num_entries = head->num_entries;
    for (uint64_t i = 0; i < trace.num_entries; i++) {
        const TraceEntry *entry = &trace.entries[i];

        if (entry->op > OP_FLUSH || entry->offset % BLOCK ||
            entry->length % BLOCK || !entry->length == (entry->op < OP_FLUSH)
            || entry->offset > UINT64_MAX / 2) {
            die("trace: request %lu is no request", i);
        }
        trace.max_length = MAX(trace.max_length, entry->length);
        trace.end = MAX(trace.end, entry->offset + entry->length);
    }
    return trace;
}
