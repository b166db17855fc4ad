/*
 * The devices of the conformance cases, and a proper request for each.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "conformance.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_scsi.h"
#include "standard-headers/linux/fuse.h"

#define WRITE VRING_DESC_F_WRITE

enum {
    AT_HEADER = 0,
    AT_DATA = 0x1000,
    AT_STATUS = 0x2000,
    UNANSWERED = 0xaa,
    FRAME = 64,
    NET_HEADER = 12,
};

static void put(Rig *r, uint64_t at, const void *bytes, size_t len)
{
    qtest_memwrite(r->qts, rig_data(r, at), bytes, len);
}

static uint8_t status_byte(Rig *r)
{
    return qtest_readb(r->qts, rig_data(r, AT_STATUS));
}

/* Read the first sector. */
static unsigned blk_request(Rig *r, GuestDesc *descs)
{
    struct virtio_blk_outhdr header = { .type = cpu_to_le32(VIRTIO_BLK_T_IN) };

    put(r, AT_HEADER, &header, sizeof(header));
    qtest_writeb(r->qts, rig_data(r, AT_STATUS), UNANSWERED);
    descs[0] = (GuestDesc) { rig_data(r, AT_HEADER), sizeof(header), 0 };
    descs[1] = (GuestDesc) { rig_data(r, AT_DATA), 512, WRITE };
    descs[2] = (GuestDesc) { rig_data(r, AT_STATUS), 1, WRITE };
    return 3;
}

static bool blk_good(Rig *r)
{
    return status_byte(r) == VIRTIO_BLK_S_OK;
}

/* A frame for everybody. */
static unsigned net_request(Rig *r, GuestDesc *descs)
{
    uint8_t frame[NET_HEADER + FRAME] = { 0 };

    memset(frame + NET_HEADER, 0xff, 6);
    put(r, AT_HEADER, frame, sizeof(frame));
    descs[0] = (GuestDesc) { rig_data(r, AT_HEADER), NET_HEADER, 0 };
    descs[1] = (GuestDesc) { rig_data(r, AT_HEADER + NET_HEADER), FRAME, 0 };
    return 2;
}

static bool net_good(Rig *r)
{
    return true;
}

/* Which disk are you? */
static unsigned scsi_request(Rig *r, GuestDesc *descs)
{
    struct virtio_scsi_cmd_req request = {
        .lun = { 1, 0, 0x40, 0 }, .cdb = { 0x12, 0, 0, 0, 36, 0 },
    };

    put(r, AT_HEADER, &request, sizeof(request));
    qtest_memset(r->qts, rig_data(r, AT_STATUS), UNANSWERED,
                 sizeof(struct virtio_scsi_cmd_resp));
    descs[0] = (GuestDesc) { rig_data(r, AT_HEADER), sizeof(request), 0 };
    descs[1] = (GuestDesc) { rig_data(r, AT_STATUS),
                             sizeof(struct virtio_scsi_cmd_resp), WRITE };
    descs[2] = (GuestDesc) { rig_data(r, AT_DATA), 36, WRITE };
    return 3;
}

static bool scsi_good(Rig *r)
{
    uint64_t at = offsetof(struct virtio_scsi_cmd_resp, response);

    /* QEMU's own device has no disk, and says so. */
    return qtest_readb(r->qts, rig_data(r, AT_STATUS + at)) != UNANSWERED;
}

/* The first words of a client. */
static unsigned fs_request(Rig *r, GuestDesc *descs)
{
    struct {
        struct fuse_in_header header;
        struct fuse_init_in init;
    } in = {
        .header = { .len = sizeof(in), .opcode = FUSE_INIT, .unique = 2 },
        .init = { .major = FUSE_KERNEL_VERSION,
                  .minor = FUSE_KERNEL_MINOR_VERSION },
    };

    put(r, AT_HEADER, &in, sizeof(in));
    qtest_memset(r->qts, rig_data(r, AT_STATUS), UNANSWERED,
                 sizeof(struct fuse_out_header));
    descs[0] = (GuestDesc) { rig_data(r, AT_HEADER), sizeof(in), 0 };
    descs[1] = (GuestDesc) { rig_data(r, AT_STATUS),
                             sizeof(struct fuse_out_header) +
                             sizeof(struct fuse_init_out), WRITE };
    return 2;
}

static bool fs_good(Rig *r)
{
    uint64_t at = offsetof(struct fuse_out_header, error);

    return qtest_readl(r->qts, rig_data(r, AT_STATUS + at)) == 0;
}

const Kind conformance_kinds[] = {
    {
        .name = "blk",
        .vhost = "-device vhost-user-blk-pci,id=d,chardev=c,num-queues=2%s",
        .inside = "-blockdev driver=null-co,node-name=n,size=1048576,"
                  "read-zeroes=on"
                  " -device virtio-blk-pci,id=d,drive=n,num-queues=2",
        .backend = "CONFORMANCE_BLK",
        .num_queues = 2, .queue = 0, .legacy = true, .reconnects = true,
        .request = blk_request, .good = blk_good,
    }, {
        .name = "net",
        .vhost = "-netdev vhost-user,id=n,chardev=c%s"
                 " -device virtio-net-pci,id=d,netdev=n,romfile=",
        .inside = "-netdev user,id=n"
                  " -device virtio-net-pci,id=d,netdev=n,romfile=",
        .backend = "CONFORMANCE_NET",
        .num_queues = 2, .queue = 1, .legacy = true, .reconnects = true,
        .request = net_request, .good = net_good,
    }, {
        .name = "scsi",
        .vhost = "-device vhost-user-scsi-pci,id=d,chardev=c,num_queues=1%s",
        .inside = "-device virtio-scsi-pci,id=d,num_queues=1",
        .backend = "CONFORMANCE_SCSI",
        .num_queues = 3, .queue = 2, .legacy = true, .reconnects = true,
        .request = scsi_request, .good = scsi_good,
    }, {
        .name = "fs",
        .vhost = "-device vhost-user-fs-pci,id=d,chardev=c,tag=t%s",
        .backend = "CONFORMANCE_FS",
        .num_queues = 2, .queue = 1,
        .request = fs_request, .good = fs_good,
    },
};

const unsigned conformance_num_kinds = G_N_ELEMENTS(conformance_kinds);
