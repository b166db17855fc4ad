/*
 * Devices for tests: disks, file systems, streams.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/iov.h"
#include "standard-headers/linux/fuse.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_scsi.h"
#include "standard-headers/linux/virtio_snd.h"
#include "standard-headers/linux/virtio_vsock.h"
#include "isolation-device.h"

enum { SECTOR = 512 };

/* Each of these stores what is written, at DEVICE_STATE bytes' most. */

static void store(MockBackend *b, uint64_t at, const void *data, size_t len)
{
    g_assert_cmpuint(at + len, <=, DEVICE_STATE);
    memcpy((uint8_t *)b->opaque + at, data, len);
}

static const void *stored(MockBackend *b, uint64_t at, size_t len)
{
    g_assert_cmpuint(at + len, <=, DEVICE_STATE);
    return (uint8_t *)b->opaque + at;
}

/* Blk */

static const struct virtio_blk_config blk_config = {
    .capacity = const_le64(DEVICE_STATE / SECTOR),
};

static bool blk_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                      uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct virtio_blk_outhdr *hdr = (void *)out;
    uint64_t at = le64_to_cpu(hdr->sector) * SECTOR;
    bool read = le32_to_cpu(hdr->type) == VIRTIO_BLK_T_IN;
    size_t in = read ? iov_size(chain->in, chain->num_in) - 1 : 0;
    uint8_t status = VIRTIO_BLK_S_OK;

    if (read) {
        mock_chain_write(chain, 0, stored(b, at, in), in);
    } else {
        store(b, at, hdr + 1, size - sizeof(*hdr));
    }
    mock_chain_write(chain, in, &status, 1);
    *len = in + 1;
    return true;
}

static void blk_traffic(GuestDevice *d)
{
    struct QEMU_PACKED {
        struct virtio_blk_outhdr hdr;
        uint8_t data[3 * SECTOR];
    } out = { .hdr.type = cpu_to_le32(VIRTIO_BLK_T_OUT),
              .hdr.sector = cpu_to_le64(2) };
    uint8_t in[sizeof(out.data) + 1];

    device_random(out.data, sizeof(out.data));
    g_assert_cmpuint(device_request(d, 0, &out, sizeof(out), in, 1), ==, 1);
    g_assert_cmphex(in[0], ==, VIRTIO_BLK_S_OK);

    out.hdr.type = cpu_to_le32(VIRTIO_BLK_T_IN);
    g_assert_cmpuint(device_request(d, 0, &out.hdr, sizeof(out.hdr), in,
                                    sizeof(in)), ==, sizeof(in));
    g_assert_cmpmem(in, sizeof(out.data), out.data, sizeof(out.data));
    g_assert_cmphex(in[sizeof(out.data)], ==, VIRTIO_BLK_S_OK);
}

const DeviceKind device_blk = {
    .name = "blk",
    .device = "vhost-user-blk-pci,num-queues=1",
    .model = {
        .num_queues = 1,
        .config = &blk_config,
        .config_size = sizeof(blk_config),
        .serve = blk_serve,
    },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = blk_traffic,
};

/* SCSI: READ(10), WRITE(10), a task management request, an event. */

enum { SCSI_READ_10 = 0x28, SCSI_WRITE_10 = 0x2a };

static bool scsi_command(MockBackend *b, const MockChain *chain)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct virtio_scsi_cmd_req *req = (void *)out;
    struct virtio_scsi_cmd_resp resp = { .response = VIRTIO_SCSI_S_OK };
    uint64_t at = ldl_be_p(&req->cdb[2]) * SECTOR;
    size_t in = iov_size(chain->in, chain->num_in) - sizeof(resp);

    if (req->cdb[0] == SCSI_READ_10) {
        mock_chain_write(chain, sizeof(resp), stored(b, at, in), in);
    } else {
        g_assert_cmphex(req->cdb[0], ==, SCSI_WRITE_10);
        store(b, at, req + 1, size - sizeof(*req));
    }
    mock_chain_write(chain, 0, &resp, sizeof(resp));
    return true;
}

/* As QEMU's own backend does: the length says 0 whatever was written. */
static bool scsi_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                       uint32_t *len)
{
    uint8_t complete = VIRTIO_SCSI_S_FUNCTION_SUCCEEDED;

    if (queue >= 2) {
        return scsi_command(b, chain);
    }
    mock_chain_write(chain, 0, &complete, 1);
    return true;
}

static void scsi_traffic(GuestDevice *d)
{
    struct QEMU_PACKED {
        struct virtio_scsi_cmd_req req;
        uint8_t data[2 * SECTOR];
    } out = {
        .req.lun = { 1 },
        .req.cdb = { SCSI_WRITE_10, [5] = 3, [8] = 2 },
    };
    struct QEMU_PACKED {
        struct virtio_scsi_cmd_resp resp;
        uint8_t data[2 * SECTOR];
    } in;
    struct virtio_scsi_ctrl_tmf_req tmf = { .lun = { 1 } };
    struct virtio_scsi_event event;
    uint8_t done;

    device_random(out.data, sizeof(out.data));
    device_request(d, 2, &out, sizeof(out), &in, sizeof(in.resp));
    g_assert_cmphex(in.resp.response, ==, VIRTIO_SCSI_S_OK);

    out.req.cdb[0] = SCSI_READ_10;
    device_request(d, 2, &out.req, sizeof(out.req), &in, sizeof(in));
    g_assert_cmphex(in.resp.response, ==, VIRTIO_SCSI_S_OK);
    g_assert_cmpmem(in.data, sizeof(in.data), out.data, sizeof(out.data));

    device_request(d, 0, &tmf, sizeof(tmf), &done, 1);
    g_assert_cmphex(done, ==, VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
    device_random(&event, sizeof(event));
    device_receive(d, 1, &event, sizeof(event));
}

const DeviceKind device_scsi = {
    .name = "scsi",
    .device = "vhost-user-scsi-pci,num_queues=1",
    .model = { .num_queues = 3, .receive = BIT(1), .serve = scsi_serve },
    .reconnects = true,
    .traffic = scsi_traffic,
};

/* File system: FUSE_WRITE, FUSE_READ; FUSE_FORGET has no answer. */

static bool fs_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                     uint32_t *len)
{
    size_t size, in = 0;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct fuse_in_header *hdr = (void *)out;
    struct fuse_out_header answer = { .unique = hdr->unique };

    g_assert_cmpuint(le32_to_cpu(hdr->len), ==, size);
    switch (le32_to_cpu(hdr->opcode)) {
    case FUSE_FORGET:
        g_assert_cmpuint(queue, ==, 0);
        store(b, 0, &hdr->nodeid, sizeof(hdr->nodeid));
        return true;
    case FUSE_WRITE:
        store(b, 8, hdr + 1, size - sizeof(*hdr));
        break;
    default:
        in = iov_size(chain->in, chain->num_in) - sizeof(answer);
        mock_chain_write(chain, sizeof(answer), stored(b, 8, in), in);
    }
    answer.len = cpu_to_le32(sizeof(answer) + in);
    mock_chain_write(chain, 0, &answer, sizeof(answer));
    *len = sizeof(answer) + in;
    return true;
}

static void fs_traffic(GuestDevice *d)
{
    struct QEMU_PACKED {
        struct fuse_in_header hdr;
        uint8_t data[1000];
    } out = { .hdr.opcode = cpu_to_le32(FUSE_WRITE),
              .hdr.len = cpu_to_le32(sizeof(out)) };
    struct QEMU_PACKED {
        struct fuse_out_header hdr;
        uint8_t data[1000];
    } in;

    device_random(out.data, sizeof(out.data));
    device_random(&out.hdr.unique, sizeof(out.hdr.unique));
    device_random(&out.hdr.nodeid, sizeof(out.hdr.nodeid));
    g_assert_cmpuint(device_request(d, 1, &out, sizeof(out), &in,
                                    sizeof(in.hdr)), ==, sizeof(in.hdr));
    g_assert_cmphex(in.hdr.unique, ==, out.hdr.unique);

    out.hdr.opcode = cpu_to_le32(FUSE_READ);
    out.hdr.len = cpu_to_le32(sizeof(out.hdr));
    g_assert_cmpuint(device_request(d, 1, &out.hdr, sizeof(out.hdr), &in,
                                    sizeof(in)), ==, sizeof(in));
    g_assert_cmpmem(in.data, sizeof(in.data), out.data, sizeof(out.data));

    out.hdr.opcode = cpu_to_le32(FUSE_FORGET);
    g_assert_cmpuint(device_request(d, 0, &out.hdr, sizeof(out.hdr), NULL, 0),
                     ==, 0);
    g_assert_cmpmem(d->state, 8, &out.hdr.nodeid, 8);
}

const DeviceKind device_fs = {
    .name = "fs",
    .device = "vhost-user-fs-pci,tag=test",
    .model = { .num_queues = 2, .serve = fs_serve },
    .packed_if_shared = true,
    .traffic = fs_traffic,
};

/* Vsock: packets out, packets in. */

static const struct virtio_vsock_config vsock_config = {
    .guest_cid = const_le64(42),
};

static bool keep_out(MockBackend *b, unsigned queue, const MockChain *chain,
                     uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);

    store(b, 0, out, size);
    return true;
}

static void vsock_traffic(GuestDevice *d)
{
    struct QEMU_PACKED {
        struct virtio_vsock_hdr hdr;
        uint8_t data[2000];
    } packet = { .hdr.op = cpu_to_le16(VIRTIO_VSOCK_OP_RW) };

    g_assert_cmpuint(qvirtio_config_readq(&d->pci.vdev, 0), ==, 42);
    for (unsigned i = 0; i < 3; i++) {
        device_random(packet.data, sizeof(packet.data));
        g_assert_cmpuint(device_request(d, 1, &packet, sizeof(packet), NULL,
                                        0), ==, 0);
        g_assert_cmpmem(d->state, sizeof(packet), &packet, sizeof(packet));
        device_random(packet.data, sizeof(packet.data));
        device_receive(d, 0, &packet, sizeof(packet));
    }
}

const DeviceKind device_vsock = {
    .name = "vsock",
    .device = "vhost-user-vsock-pci",
    .model = {
        .num_queues = 2,
        .receive = BIT(0),
        .config = &vsock_config,
        .config_size = sizeof(vsock_config),
        .serve = keep_out,
    },
    .traffic = vsock_traffic,
};

/* Sound: a control request, an event, samples out, samples in. */

enum { SND_SAMPLES = 1024 };

/* Without the controls, which depend on a feature. */
static const uint32_t snd_config[] = { const_le32(1), const_le32(2),
                                       const_le32(3) };

static bool snd_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                      uint32_t *len)
{
    size_t size, in = iov_size(chain->in, chain->num_in);
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct virtio_snd_pcm_status status = {
        .status = const_le32(VIRTIO_SND_S_OK),
        .latency_bytes = cpu_to_le32(size),
    };

    if (queue == VIRTIO_SND_VQ_CONTROL) {
        mock_chain_write(chain, 0, &status.status, 4);
        *len = 4;
        return true;
    }
    if (queue == VIRTIO_SND_VQ_TX) {
        store(b, 0, out, size);
    } else {
        mock_chain_write(chain, 0, stored(b, 4, in - sizeof(status)),
                         in - sizeof(status));
    }
    mock_chain_write(chain, in - sizeof(status), &status, sizeof(status));
    *len = in;
    return true;
}

static void snd_traffic(GuestDevice *d)
{
    struct virtio_snd_event event;
    struct QEMU_PACKED {
        uint32_t stream;
        uint8_t samples[SND_SAMPLES];
    } out = { .stream = cpu_to_le32(1) };
    struct QEMU_PACKED {
        uint8_t samples[SND_SAMPLES];
        struct virtio_snd_pcm_status status;
    } in;
    struct virtio_snd_pcm_hdr start = {
        .hdr.code = cpu_to_le32(VIRTIO_SND_R_PCM_START),
    };
    uint32_t status;

    g_assert_cmpuint(qvirtio_config_readl(&d->pci.vdev, 8), ==, 3);
    device_request(d, VIRTIO_SND_VQ_CONTROL, &start, sizeof(start), &status,
                   sizeof(status));
    g_assert_cmphex(status, ==, const_le32(VIRTIO_SND_S_OK));

    device_random(out.samples, sizeof(out.samples));
    device_request(d, VIRTIO_SND_VQ_TX, &out, sizeof(out), &in.status,
                   sizeof(in.status));
    g_assert_cmpuint(le32_to_cpu(in.status.latency_bytes), ==, sizeof(out));
    device_request(d, VIRTIO_SND_VQ_RX, &out.stream, sizeof(out.stream), &in,
                   sizeof(in));
    g_assert_cmpmem(in.samples, SND_SAMPLES, out.samples, SND_SAMPLES);
    g_assert_cmphex(in.status.status, ==, const_le32(VIRTIO_SND_S_OK));

    device_random(&event, sizeof(event));
    device_receive(d, VIRTIO_SND_VQ_EVENT, &event, sizeof(event));
}

const DeviceKind device_snd = {
    .name = "snd",
    .device = "vhost-user-snd-pci",
    .model = {
        .num_queues = VIRTIO_SND_VQ_MAX,
        .receive = BIT(VIRTIO_SND_VQ_EVENT),
        .config = snd_config,
        .config_size = sizeof(snd_config),
        .serve = snd_serve,
    },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = snd_traffic,
};

/* Entropy: it goes one way only. */

static bool rng_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                      uint32_t *len)
{
    size_t in = iov_size(chain->in, chain->num_in);
    g_autofree uint8_t *entropy = g_malloc(in);

    device_random(entropy, in);
    mock_chain_write(chain, 0, entropy, in);
    store(b, 0, entropy, in);
    *len = in;
    return true;
}

static void rng_traffic(GuestDevice *d)
{
    uint8_t entropy[256];

    for (unsigned i = 0; i < 3; i++) {
        size_t len = sizeof(entropy) - 13 * i;

        g_assert_cmpuint(device_request(d, 0, NULL, 0, entropy, len), ==, len);
        g_assert_cmpmem(entropy, len, d->state, len);
    }
}

const DeviceKind device_rng = {
    .name = "rng",
    .device = "vhost-user-rng-pci",
    .model = { .num_queues = 1, .serve = rng_serve },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = rng_traffic,
};
