/*
 * Virtio devices on PCI bus 0, their modern registers only.
 *
 * The firmware has given every device its addresses; nothing is moved.  With
 * interrupts each queue has an MSI-X vector of its own that leads to the
 * processor that serves it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "virtio.h"

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_COMMAND 0x04
#define PCI_BAR0 0x10
#define PCI_SUBSYSTEM 0x2e
#define PCI_CAPABILITIES 0x34
#define COMMAND_MEMORY_MASTER 6u
#define VENDOR_VIRTIO 0x1af4u
#define FIRST_MODERN 0x1040u
#define CAP_MSIX 0x11u
#define CAP_VENDOR 0x09u
#define MSIX_ENABLE 0x8000u
#define MSI_ADDRESS 0xfee00000u
#define NO_VECTOR 0xffffu

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4 };
enum {
    ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8,
    NEEDS_RESET = 0x40,
};

/* virtio 1.2, 4.1.4.3 */
struct VirtioCommon {
    uint32_t device_feature_select;
    uint32_t device_feature;
    uint32_t driver_feature_select;
    uint32_t driver_feature;
    uint16_t config_vector;
    uint16_t num_queues;
    uint8_t status;
    uint8_t generation;
    uint16_t queue_select;
    uint16_t queue_size;
    uint16_t queue_vector;
    uint16_t queue_enable;
    uint16_t queue_notify_off;
    uint32_t ring[2];
    uint32_t driver_area[2];
    uint32_t device_area[2];
};

static VirtioDevice devices[MAX_DEVICES];
static unsigned num_devices;

static uint32_t pci_read(unsigned slot, unsigned reg)
{
    outl(PCI_ADDRESS, 0x80000000u | slot << 8 | (reg & ~3u));
    return inl(PCI_DATA) >> (reg & 3) * 8;
}

static void pci_write16(unsigned slot, unsigned reg, uint16_t value)
{
    outl(PCI_ADDRESS, 0x80000000u | slot << 8 | (reg & ~3u));
    outw(PCI_DATA + (reg & 2), value);
}

static volatile uint8_t *bar_address(unsigned slot, unsigned bar)
{
    uint32_t low = pci_read(slot, PCI_BAR0 + bar * 4);

    if ((low & 7) == 4 && pci_read(slot, PCI_BAR0 + bar * 4 + 4)) {
        die("PCI %x: its registers are above 4 GiB", slot >> 3);
    }
    return (low & 1) ? NULL : (volatile uint8_t *)(uintptr_t)(low & ~15u);
}

static void read_capability(VirtioDevice *dev, unsigned slot, unsigned cap)
{
    uint32_t head = pci_read(slot, cap);
    volatile uint8_t *base;

    if ((head & 0xff) == CAP_MSIX) {
        uint32_t place = pci_read(slot, cap + 4);

        dev->msix_control = cap + 2;
        dev->num_vectors = (head >> 16 & 0x7ff) + 1;
        dev->vectors = (volatile uint32_t *)
            (bar_address(slot, place & 7) + (place & ~7u));
        return;
    }
    if ((head & 0xff) != CAP_VENDOR) {
        return;
    }
    base = bar_address(slot, pci_read(slot, cap + 4) & 0xff);
    if (!base) {
        return;
    }
    base += pci_read(slot, cap + 8);
    switch (head >> 24) {
    case CAP_COMMON:
        dev->common = (volatile VirtioCommon *)base;
        break;
    case CAP_NOTIFY:
        dev->notify = base;
        dev->notify_multiplier = pci_read(slot, cap + 16);
        break;
    case CAP_DEVICE:
        dev->config = base;
        break;
    }
}

static void look_at(unsigned slot)
{
    uint32_t id = pci_read(slot, 0);
    unsigned kind = id >> 16;
    VirtioDevice *dev = &devices[num_devices];

    if ((id & 0xffff) != VENDOR_VIRTIO || num_devices == MAX_DEVICES) {
        return;
    }
    *dev = (VirtioDevice) { .slot = slot };
    dev->type = kind >= FIRST_MODERN ? kind - FIRST_MODERN
                                     : pci_read(slot, PCI_SUBSYSTEM) & 0xffff;
    pci_write16(slot, PCI_COMMAND,
                pci_read(slot, PCI_COMMAND) | COMMAND_MEMORY_MASTER);
    for (unsigned cap = pci_read(slot, PCI_CAPABILITIES) & 0xfc; cap;
         cap = pci_read(slot, cap + 1) & 0xfc) {
        read_capability(dev, slot, cap);
    }
    if (dev->common && dev->notify) {
        num_devices++;
    }
}

unsigned virtio_find(void)
{
    for (unsigned slot = 0; slot < 256; slot++) {
        look_at(slot);
    }
    return num_devices;
}

VirtioDevice *virtio_device(uint16_t type, unsigned index)
{
    for (unsigned i = 0; i < num_devices; i++) {
        if (devices[i].type == type && index-- == 0) {
            return &devices[i];
        }
    }
    return NULL;
}

static void negotiate(VirtioDevice *dev, uint64_t wanted)
{
    volatile VirtioCommon *common = dev->common;
    uint64_t offered;

    common->device_feature_select = 0;
    offered = common->device_feature;
    common->device_feature_select = 1;
    offered |= (uint64_t)common->device_feature << 32;
    dev->features = offered & (wanted | F_VERSION_1 | F_ACCESS_PLATFORM);
    common->driver_feature_select = 0;
    common->driver_feature = dev->features;
    common->driver_feature_select = 1;
    common->driver_feature = dev->features >> 32;
    common->status |= FEATURES_OK;
    if (!(dev->features & F_VERSION_1) || !(common->status & FEATURES_OK)) {
        die("PCI %x refuses features 0x%lx of 0x%lx", dev->slot >> 3,
            dev->features, offered);
    }
}

void virtio_begin(VirtioDevice *dev, uint64_t wanted)
{
    virtio_end(dev);
    dev->common->status = ACKNOWLEDGE;
    dev->common->status |= DRIVER;
    negotiate(dev, wanted);
    if (dev->msix_control) {
        /* Without vectors too, so that nothing raises an INTx. */
        pci_write16(dev->slot, dev->msix_control, MSIX_ENABLE);
    }
    dev->common->config_vector = NO_VECTOR;
}

uint16_t virtio_queue_size(VirtioDevice *dev, unsigned index)
{
    if (index >= dev->common->num_queues) {
        return 0;
    }
    dev->common->queue_select = index;
    return dev->common->queue_size;
}

/*
 * Vector @index is that of queue @index.  A queue without interrupts gets one
 * as well, as far as there are any: a vhost-user backend may take it amiss if
 * it has nobody to call, even when it is not asked to.
 */
static uint16_t set_vector(VirtioDevice *dev, unsigned index, int cpu)
{
    volatile uint32_t *entry = dev->vectors + index * 4;

    if (index >= dev->num_vectors) {
        if (cpu < 0) {
            return NO_VECTOR;
        }
        die("PCI %x has %u vectors, queue %u needs one (see vectors=)",
            dev->slot >> 3, dev->num_vectors, index);
    }
    entry[0] = MSI_ADDRESS | cpu_apic_id(MAX(cpu, 0)) << 12;
    entry[1] = 0;
    entry[2] = IRQ_VECTOR;
    entry[3] = 0;
    /* A device that gives up says so. */
    dev->common->config_vector = index;
    return index;
}

static void set_address(volatile uint32_t *reg, uint64_t address)
{
    reg[0] = address;
    reg[1] = address >> 32;
}

Virtqueue *virtio_queue(VirtioDevice *dev, unsigned index, uint16_t size,
                        uint32_t num_tokens, uint32_t max_pieces, int cpu)
{
    volatile VirtioCommon *common = dev->common;
    Virtqueue *vq = dev->features & F_PACKED
        ? virtqueue_new_packed(size, num_tokens)
        : virtqueue_new_split(size, num_tokens);
    uint16_t vector = set_vector(dev, index, cpu);

    vq->device = dev;
    vq->index = index;
    vq->max_pieces = max_pieces;
    vq->event_idx = dev->features & F_EVENT_IDX;
    vq->indirect = dev->features & F_INDIRECT;
    if (vq->indirect) {
        vq->tables = allocate((uint64_t)num_tokens * max_pieces *
                              sizeof(Descriptor), 16);
    }
    virtqueue_suppress(vq);

    common->queue_select = index;
    common->queue_size = size;
    common->queue_vector = vector;
    if (common->queue_vector != vector) {
        die("PCI %x has no vector for queue %u", dev->slot >> 3, index);
    }
    set_address(common->ring, vq->ring);
    set_address(common->driver_area, vq->driver_area);
    set_address(common->device_area, vq->device_area);
    vq->doorbell = (volatile uint16_t *)
        (dev->notify + common->queue_notify_off * dev->notify_multiplier);
    common->queue_enable = 1;
    return vq;
}

void virtio_run(VirtioDevice *dev)
{
    dev->common->status |= DRIVER_OK;
}

void virtio_check(VirtioDevice *dev)
{
    if (dev->common->status & NEEDS_RESET) {
        die("PCI %x needs a reset", dev->slot >> 3);
    }
}

void virtio_end(VirtioDevice *dev)
{
    dev->common->status = 0;
    while (dev->common->status) {
        ;
    }
    dev->features = 0;
}

void virtqueue_broken(const Virtqueue *vq, const char *what, uint64_t value)
{
    die("PCI %x, queue %u: %s (%lu)", vq->device->slot >> 3, vq->index, what,
        value);
}
