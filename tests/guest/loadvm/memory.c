/*
 * What the loader left: arguments, a module, memory.
 *
 * Memory is handed out upwards from the end of the image and given back all at
 * once, since everything lives as long as one job.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "machine.h"

#define PVH_MAGIC 0x336ec578u
#define MEMORY_RAM 1u

typedef struct PvhStartInfo {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t num_modules;
    uint64_t modules;
    uint64_t arguments;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t num_memory_map;
    uint32_t reserved;
} PvhStartInfo;

typedef struct PvhModule {
    uint64_t address;
    uint64_t size;
    uint64_t arguments;
    uint64_t reserved;
} PvhModule;

typedef struct PvhMemory {
    uint64_t address;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
} PvhMemory;

extern char image_end[];

static const PvhStartInfo *info;
static uint64_t heap_next, heap_end;

void memory_init(uint32_t start_info)
{
    info = (const void *)(uintptr_t)start_info;
    if (info->magic != PVH_MAGIC || info->version < 1) {
        die("not started through PVH: magic 0x%x", info->magic);
    }
    const PvhMemory *map = (const void *)info->memory_map;
    uint64_t begin = ROUND_UP((uint64_t)image_end, PAGE), size;

    for (uint32_t i = 0; i < info->num_memory_map; i++) {
        if (map[i].type == MEMORY_RAM && map[i].address <= begin &&
            map[i].address + map[i].size > begin) {
            heap_end = map[i].address + map[i].size;
        }
    }
    uint64_t module = (uint64_t)boot_module(&size);

    /* The module lies at the top; the page tables end at 4 GiB. */
    if (size && module >= begin) {
        heap_end = MIN(heap_end, module);
    }
    heap_next = begin;
}

const char *boot_arguments(void)
{
    return info->arguments ? (const char *)info->arguments : "";
}

const void *boot_module(uint64_t *size)
{
    const PvhModule *module = (const void *)info->modules;

    *size = info->num_modules ? module->size : 0;
    return *size ? (const void *)module->address : NULL;
}

void *allocate(uint64_t size, uint64_t align)
{
    uint64_t begin = ROUND_UP(heap_next, align);

    if (size > heap_end || begin > heap_end - size) {
        die("out of memory: %lu KiB more are needed (see -m)",
            (begin + size - heap_end + 1023) / 1024);
    }
    heap_next = begin + size;
    return memset((void *)begin, 0, size);
}

uint64_t memory_mark(void)
{
    return heap_next;
}

void memory_release(uint64_t mark)
{
    heap_next = mark;
}
