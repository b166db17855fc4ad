/*
 * Registers of the modern interface, and that of virtio 0.9.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "conformance.h"
#include "standard-headers/linux/pci_regs.h"

#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

static const char *as_it_should(bool good)
{
    return good ? IDLE : DIFFERS;
}

static uint16_t read16(Rig *r, size_t offset)
{
    return guest_common_readw(&r->pci, offset);
}

static void write16(Rig *r, size_t offset, uint16_t value)
{
    guest_common_writew(&r->pci, offset, value);
}

static uint8_t device_id_field(Rig *r, int reg)
{
    return qpci_config_readb(r->pci.pdev, reg);
}

static void fresh(Rig *r)
{
    rig_set_status(r, 0);
}

static void negotiating(Rig *r)
{
    fresh(r);
    rig_set_status(r, DRIVER);
}

/* Words of a register that stand for themselves: @arg is offset and value. */

static const char *status_is_kept(Rig *r, const Case *c)
{
    fresh(r);
    rig_set_status(r, c->arg);
    return as_it_should(rig_status(r) == c->arg);
}

static const char *status_is_zero_after(Rig *r, const Case *c)
{
    rig_init(r);
    rig_set_status(r, c->arg);
    rig_set_status(r, 0);
    return as_it_should(rig_status(r) == 0);
}

static const char *features_ok_after(Rig *r, const Case *c)
{
    bool wanted = c->arg == 1;

    negotiating(r);
    rig_accept(r, wanted ? rig_wanted(r)
                         : c->arg ? rig_wanted(r) & ~BIT_ULL(
                                        VIRTIO_F_VERSION_1) : UINT64_MAX);
    rig_set_status(r, DRIVER | FEATURES_OK);
    return as_it_should(!(rig_status(r) & FEATURES_OK) != wanted);
}

static const char *offers(Rig *r, const Case *c)
{
    fresh(r);
    return as_it_should(rig_offered(r) & BIT_ULL(c->arg));
}

static const char *offers_not(Rig *r, const Case *c)
{
    fresh(r);
    return as_it_should(!(rig_offered(r) & BIT_ULL(c->arg)));
}

static const char *select_is_kept(Rig *r, const Case *c)
{
    bool good;

    fresh(r);
    rig_write32(r, c->arg, 1);
    good = rig_read32(r, c->arg) == 1;
    rig_write32(r, c->arg, 0);
    return as_it_should(good && rig_read32(r, c->arg) == 0);
}

static const char *select_is_beyond(Rig *r, const Case *c)
{
    fresh(r);
    rig_write32(r, COMMON(device_feature_select), c->arg);
    return as_it_should(rig_read32(r, COMMON(device_feature)) == 0);
}

static const char *accepted_is_kept(Rig *r, const Case *c)
{
    uint64_t wanted;

    negotiating(r);
    wanted = rig_wanted(r);
    rig_accept(r, wanted);
    rig_write32(r, COMMON(guest_feature_select), 1);
    return as_it_should(rig_read32(r, COMMON(guest_feature)) ==
                        wanted >> 32);
}

static const char *device_words_are_read_only(Rig *r, const Case *c)
{
    uint32_t before;

    fresh(r);
    rig_write32(r, COMMON(device_feature_select), 0);
    before = rig_read32(r, c->arg);
    rig_write32(r, c->arg, ~before);
    return as_it_should(rig_read32(r, c->arg) == before);
}

static const char *num_queues_is_enough(Rig *r, const Case *c)
{
    fresh(r);
    return as_it_should(read16(r, COMMON(num_queues)) >=
                        r->kind->num_queues);
}

/* Of a queue */

static const char *queue_beyond_has_no_size(Rig *r, const Case *c)
{
    fresh(r);
    write16(r, COMMON(queue_select), c->arg);
    return as_it_should(read16(r, COMMON(queue_size)) == 0);
}

static const char *queue_word_kept(Rig *r, const Case *c)
{
    negotiating(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    rig_write32(r, c->arg, 0x123000);
    return as_it_should(rig_read32(r, c->arg) == 0x123000);
}

static const char *queue_word_gone(Rig *r, const Case *c)
{
    negotiating(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    rig_write32(r, c->arg, 0x123000);
    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    return as_it_should(rig_read32(r, c->arg) == 0);
}

static const char *size_is_a_power_of_two(Rig *r, const Case *c)
{
    uint16_t size;

    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    size = read16(r, COMMON(queue_size));
    return as_it_should(size && !(size & (size - 1)));
}

static const char *size_is_kept(Rig *r, const Case *c)
{
    negotiating(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    write16(r, COMMON(queue_size), c->arg);
    return as_it_should(read16(r, COMMON(queue_size)) == c->arg);
}

static const char *size_comes_back_after_reset(Rig *r, const Case *c)
{
    uint16_t size;

    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    size = read16(r, COMMON(queue_size));
    write16(r, COMMON(queue_size), 2);
    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    return as_it_should(read16(r, COMMON(queue_size)) == size);
}

static const char *enable_reads(Rig *r, const Case *c)
{
    bool before, after, later;

    rig_init(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    after = read16(r, COMMON(queue_enable));
    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    before = read16(r, COMMON(queue_enable));
    rig_init(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    later = read16(r, COMMON(queue_enable));
    return as_it_should(after && !before && later);
}

static const char *vector_is_none_at_first(Rig *r, const Case *c)
{
    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    return as_it_should(read16(r, c->arg) == 0xffff);
}

static const char *vector_beyond_is_refused(Rig *r, const Case *c)
{
    fresh(r);
    write16(r, COMMON(queue_select), r->kind->queue);
    write16(r, c->arg, 2000);
    return as_it_should(read16(r, c->arg) == 0xffff);
}

static const char *isr_is_empty_after_reset(Rig *r, const Case *c)
{
    rig_init(r);
    rig_offer(r);
    rig_wait(r);
    fresh(r);
    return as_it_should(qpci_io_readb(r->pci.pdev, r->pci.bar,
                                      r->pci.isr_cfg_offset) == 0);
}

static const char *isr_is_cleared_by_reading(Rig *r, const Case *c)
{
    rig_init(r);
    rig_offer(r);
    rig_wait(r);
    qpci_io_readb(r->pci.pdev, r->pci.bar, r->pci.isr_cfg_offset);
    return as_it_should(qpci_io_readb(r->pci.pdev, r->pci.bar,
                                      r->pci.isr_cfg_offset) == 0);
}

static const char *id_is_virtio(Rig *r, const Case *c)
{
    return as_it_should(qpci_config_readw(r->pci.pdev, PCI_VENDOR_ID) ==
                        0x1af4 && device_id_field(r, PCI_CAPABILITY_LIST));
}

/* Widths and places of accesses that mean nothing; nothing may come of it. */

static const char *any_access(Rig *r, const Case *c)
{
    QPCIDevice *pdev = r->pci.pdev;

    rig_init(r);
    for (unsigned at = 0; at < 64; at++) {
        if (c->arg == 1) {
            qpci_io_readb(pdev, r->pci.bar, r->pci.common_cfg_offset + at);
        } else {
            qpci_io_readl(pdev, r->pci.bar,
                          r->pci.device_cfg_offset + 16 * at);
        }
    }
    rig_offer(r);
    return NULL;
}

static const char *config_written(Rig *r, const Case *c)
{
    rig_init(r);
    for (unsigned at = 0; at < 64; at++) {
        qpci_io_writeb(r->pci.pdev, r->pci.bar,
                       r->pci.device_cfg_offset + at * c->arg, 0xff);
    }
    rig_offer(r);
    return NULL;
}

static const char *notified_beyond(Rig *r, const Case *c)
{
    rig_init(r);
    for (unsigned n = 0; n < 8; n++) {
        qpci_io_writew(r->pci.pdev, r->pci.bar, r->pci.notify_cfg_offset +
                       (n + c->arg) * r->pci.notify_off_multiplier, n);
    }
    rig_offer(r);
    return NULL;
}

#define WORD(_name, _run, _register) \
    { .name = _name, .run = _run, .arg = COMMON(_register) }

static const Case registers[] = {
    { "ids", id_is_virtio },
    { "status 1 is kept", status_is_kept, .arg = 1 },
    { "status 3 is kept", status_is_kept, .arg = 3 },
    { "status 128 is kept", status_is_kept, .arg = 128 },
    { "status 131 is kept", status_is_kept, .arg = 131 },
    { "status is 0 after 0", status_is_zero_after, .arg = 0 },
    { "status is 0 after 255", status_is_zero_after, .arg = 255 },
    { "status is 0 after 128", status_is_zero_after, .arg = 128 },
    { "status is 0 after 64", status_is_zero_after, .arg = 64 },
    { "features-ok to what is wanted", features_ok_after, .arg = 1 },
    { "no features-ok to everything", features_ok_after, .arg = 0 },
    { "no features-ok without version 1", features_ok_after, .arg = 2 },
    { "version 1 is offered", offers, .arg = VIRTIO_F_VERSION_1 },
    { "event indices are offered", offers, .arg = VIRTIO_RING_F_EVENT_IDX },
    { "tables are offered", offers, .arg = VIRTIO_RING_F_INDIRECT_DESC },
    { "in-order is not offered", offers_not, .arg = VIRTIO_F_IN_ORDER },
    { "notification data is not offered", offers_not,
      .arg = VIRTIO_F_NOTIFICATION_DATA },
    { "bit 41 is not offered", offers_not, .arg = 41 },
    { "bit 63 is not offered", offers_not, .arg = 63 },
    { "device feature select is kept", select_is_kept,
      .arg = COMMON(device_feature_select) },
    { "driver feature select is kept", select_is_kept,
      .arg = COMMON(guest_feature_select) },
    { "features 2 are none", select_is_beyond, .arg = 2 },
    { "features 255 are none", select_is_beyond, .arg = 255 },
    { "features 2^31 are none", select_is_beyond, .arg = 1u << 31 },
    { "accepted features are kept", accepted_is_kept },
    { "device features are read only", device_words_are_read_only,
      .arg = COMMON(device_feature) },
    { "enough queues", num_queues_is_enough },
    { "queue 64 has no size", queue_beyond_has_no_size, .arg = 64 },
    { "queue 1023 has no size", queue_beyond_has_no_size, .arg = 1023 },
    { "queue 1024 has no size", queue_beyond_has_no_size, .arg = 1024 },
    { "queue 65535 has no size", queue_beyond_has_no_size, .arg = 65535 },
    WORD("descriptors' low word is kept", queue_word_kept,
         queue_desc_lo),
    WORD("descriptors' low word is 0 after reset", queue_word_gone,
         queue_desc_lo),
    WORD("descriptors' high word is kept", queue_word_kept,
         queue_desc_hi),
    WORD("descriptors' high word is 0 after reset", queue_word_gone,
         queue_desc_hi),
    WORD("driver's low word is kept", queue_word_kept,
         queue_avail_lo),
    WORD("driver's low word is 0 after reset", queue_word_gone,
         queue_avail_lo),
    WORD("driver's high word is kept", queue_word_kept,
         queue_avail_hi),
    WORD("driver's high word is 0 after reset", queue_word_gone,
         queue_avail_hi),
    WORD("device's low word is kept", queue_word_kept,
         queue_used_lo),
    WORD("device's low word is 0 after reset", queue_word_gone,
         queue_used_lo),
    WORD("device's high word is kept", queue_word_kept,
         queue_used_hi),
    WORD("device's high word is 0 after reset", queue_word_gone,
         queue_used_hi),
    { "size is a power of two", size_is_a_power_of_two },
    { "size 1 is kept", size_is_kept, .arg = 1 },
    { "size 8 is kept", size_is_kept, .arg = 8 },
    { "size comes back after reset", size_comes_back_after_reset },
    { "enable reads what was written", enable_reads },
    { "queue has no vector at first", vector_is_none_at_first,
      .arg = COMMON(queue_msix_vector) },
    { "device has no vector at first", vector_is_none_at_first,
      .arg = COMMON(msix_config) },
    { "queue's vector 2000 is refused", vector_beyond_is_refused,
      .arg = COMMON(queue_msix_vector) },
    { "device's vector 2000 is refused", vector_beyond_is_refused,
      .arg = COMMON(msix_config) },
    { "interrupt status is empty after reset", isr_is_empty_after_reset },
    { "interrupt status is cleared by reading", isr_is_cleared_by_reading },
    { "every byte read", any_access, .arg = 1 },
    { "configuration read beyond its end", any_access, .arg = 2 },
    { "configuration written", config_written, .arg = 1 },
    { "configuration written beyond its end", config_written,
      .arg = 16 },
    { "notified of queues, others' values", notified_beyond, .arg = 0 },
    { "notified of queues that are not there", notified_beyond,
      .arg = 900 },
};

const CaseTable conformance_registers = { "registers", registers,
                                          G_N_ELEMENTS(registers) };
