/*
 * EFI program: read tens of MiB from its own disk in one call.
 *
 * OVMF's virtio driver makes one request, with a single data descriptor, of
 * the whole read.  The sector before the area holds the sum of the area's
 * 64-bit words and its length.  Speaks on the first serial port.
 *
 * Only the few parts of the UEFI interface that are called are declared; the
 * tables are otherwise arrays of pointers in the order of the specification
 * (UEFI 2.10, sections 4.3, 4.4, 9.1, 13.9).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdint.h>

#define EFIAPI __attribute__((ms_abi))
#define AREA_LBA 65536u              /* keep in step with test_firmware.py */
#define SECTOR 512u
#define PAGE 4096u

typedef uint64_t Status;
typedef void *Handle;

typedef struct Guid {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
} Guid;

typedef struct TableHeader {
    uint64_t signature;
    uint32_t revision, size, crc, reserved;
} TableHeader;

typedef struct BootServices {
    TableHeader header;
    void *raise_tpl, *restore_tpl;
    Status (EFIAPI *allocate_pages)(int type, int memory_type, uint64_t pages,
                                    uint64_t *address);
    void *unused[13];
    Status (EFIAPI *handle_protocol)(Handle, const Guid *, void **);
} BootServices;

typedef struct SystemTable {
    TableHeader header;
    void *unused[8];
    void *runtime_services;
    BootServices *boot_services;
} SystemTable;

typedef struct LoadedImage {
    uint32_t revision;
    Handle parent;
    SystemTable *system_table;
    Handle device;
} LoadedImage;

typedef struct BlockMedia {
    uint32_t id;
} BlockMedia;

typedef struct BlockIo {
    uint64_t revision;
    BlockMedia *media;
    void *reset;
    Status (EFIAPI *read_blocks)(struct BlockIo *, uint32_t media,
                                 uint64_t lba, uint64_t size, void *buffer);
} BlockIo;

static const Guid loaded_image_guid = {
    0x5b1b31a1, 0x9562, 0x11d2, { 0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b }
};
static const Guid block_io_guid = {
    0x964e5b21, 0x6459, 0x11d2, { 0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b }
};

static void put(uint8_t byte)
{
    uint8_t state;

    do {
        __asm__ volatile("inb %1, %0" : "=a"(state) : "Nd"((uint16_t)0x3fd));
    } while (!(state & 0x20));
    __asm__ volatile("outb %0, %1" : : "a"(byte), "Nd"((uint16_t)0x3f8));
}

static void say(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

static uint64_t *allocate(BootServices *boot, uint64_t bytes)
{
    const int any_pages = 0, loader_data = 2;
    uint64_t address = 0;

    if (boot->allocate_pages(any_pages, loader_data,
                             (bytes + PAGE - 1) / PAGE, &address)) {
        return 0;
    }
    return (uint64_t *)address;
}

static const char *read_and_check(Handle image, BootServices *boot)
{
    LoadedImage *loaded;
    BlockIo *disk;
    uint64_t *head, *area, sum = 0;

    if (boot->handle_protocol(image, &loaded_image_guid, (void **)&loaded) ||
        boot->handle_protocol(loaded->device, &block_io_guid,
                              (void **)&disk)) {
        return "fail no disk";
    }
    head = allocate(boot, PAGE);
    if (!head || disk->read_blocks(disk, disk->media->id, AREA_LBA - 1,
                                   SECTOR, head)) {
        return "fail cannot read";
    }
    area = allocate(boot, head[1]);
    if (!area) {
        return "fail no memory";
    }
    say("READ in one call\r\n");
    if (disk->read_blocks(disk, disk->media->id, AREA_LBA, head[1], area)) {
        return "fail read error";
    }
    for (uint64_t i = 0; i < head[1] / 8; i++) {
        sum += area[i];
    }
    return sum == head[0] ? "ok" : "fail wrong sum";
}

Status EFIAPI efi_main(Handle image, SystemTable *system)
{
    const char *result;

    say("BOOT from the disk\r\n");
    result = read_and_check(image, system->boot_services);
    say("RESULT ");
    say(result);
    say("\r\n");
    for (;;) {
        __asm__ volatile("pause");
    }
}
