/*
 * The host's end of vsock, with one service: it sends back what it gets, each
 * byte changed (VSOCK_TURN).
 *
 *     small-vsock SOCKET CID FILE
 *
 * CID is the guest's; what the Nth connection received goes to FILE.N, the
 * first is FILE.1.
 *
 * A connection keeps at most FIFO_BYTES, and says so: credit is what the guest
 * may still send, and is given back when the bytes are on their way home.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>
#include <linux/virtio_vsock.h>

#include "small-content.h"
#include "small.h"

enum { RX, TX, EVENTS, QUEUES };

#define CONNECTIONS_MAX 8
#define ANSWERS_MAX 64
#define FIFO_BYTES (64 * 1024)
#define PACKET_MAX (64 * 1024)
#define HEADER sizeof(struct virtio_vsock_hdr)
#define HOST_CID 2

typedef struct Connection {
    bool used;
    bool ends;                /* the guest sends no more */
    bool over;                /* and expects no more */
    uint32_t port;            /* the guest's */
    uint8_t fifo[FIFO_BYTES];
    uint32_t head;
    uint32_t bytes;
    uint32_t forwarded;       /* bytes that left the fifo, modulo 2^32 */
    uint32_t sent;
    uint32_t guest_alloc;
    uint32_t guest_forwarded;
    FILE *record;
} Connection;

static Connection connections[CONNECTIONS_MAX];
/* Packets without payload that wait for a buffer of the guest. */
static struct virtio_vsock_hdr answers[ANSWERS_MAX];
static unsigned num_answers;
static uint64_t guest_cid;
static const char *record_name;

static Connection *find(uint32_t port)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        if (connections[i].used && connections[i].port == port) {
            return &connections[i];
        }
    }
    return NULL;
}

static Connection *find_free(void)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        if (!connections[i].used) {
            return &connections[i];
        }
    }
    return NULL;
}

static struct virtio_vsock_hdr make_header(const Connection *c, uint32_t port,
                                           uint16_t op)
{
    return (struct virtio_vsock_hdr) {
        .src_cid = HOST_CID,
        .dst_cid = guest_cid,
        .src_port = VSOCK_HOST_PORT,
        .dst_port = port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = op,
        .buf_alloc = FIFO_BYTES,
        .fwd_cnt = c ? c->forwarded : 0,
    };
}

static void answer(const Connection *c, uint32_t port, uint16_t op,
                   uint32_t flags)
{
    if (num_answers == ANSWERS_MAX) {
        small_fail("the guest takes no answers");
    }
    answers[num_answers] = make_header(c, port, op);
    answers[num_answers++].flags = flags;
}

/* To the guest */

static bool send_packet(VuDev *dev, struct virtio_vsock_hdr *header,
                        const uint8_t *payload)
{
    VuVirtqElement *element = small_pop(dev, RX);
    size_t room;

    if (!element) {
        return false;
    }
    room = small_bytes(element->in_sg, element->in_num);
    if (element->out_num || room <= HEADER) {
        small_fail("a buffer of %zu bytes to receive in", room);
    }
    if (header->len > room - HEADER) {
        header->len = room - HEADER;
    }
    small_write(element->in_sg, element->in_num, 0, header, HEADER);
    small_write(element->in_sg, element->in_num, HEADER, payload,
                header->len);
    small_push(dev, RX, element, HEADER + header->len);
    return true;
}

static uint32_t may_send(const Connection *c)
{
    uint32_t credit = c->guest_alloc - (c->sent - c->guest_forwarded);
    uint32_t straight = FIFO_BYTES - c->head;

    straight = straight < c->bytes ? straight : c->bytes;
    return straight < credit ? straight : credit;
}

static bool send_data(VuDev *dev, Connection *c)
{
    struct virtio_vsock_hdr header;

    header = make_header(c, c->port, VIRTIO_VSOCK_OP_RW);
    header.len = may_send(c);
    header.fwd_cnt += header.len;
    if (!header.len || !send_packet(dev, &header, c->fifo + c->head)) {
        return false;
    }
    /* The guest's buffer may have been smaller: credit comes again later. */
    c->forwarded += header.len;
    c->sent += header.len;
    c->head = (c->head + header.len) % FIFO_BYTES;
    c->bytes -= header.len;
    return true;
}

static FILE *open_record(void)
{
    static unsigned number;
    char name[4096];
    FILE *file;

    snprintf(name, sizeof(name), "%s.%u", record_name, ++number);
    file = fopen(name, "w");
    if (!file) {
        small_fail("cannot write %s", name);
    }
    return file;
}

static void drop(Connection *c)
{
    fclose(c->record);
    c->used = false;
}

static void finish(Connection *c)
{
    if (c->bytes || !c->ends) {
        return;
    }
    if (c->over) {
        answer(c, c->port, VIRTIO_VSOCK_OP_RST, 0);
        drop(c);
        return;
    }
    /* Everything is home: nothing more will come. */
    answer(c, c->port, VIRTIO_VSOCK_OP_SHUTDOWN,
           VIRTIO_VSOCK_SHUTDOWN_SEND);
    c->ends = false;
}

static bool send_answer(VuDev *dev)
{
    if (!num_answers || !send_packet(dev, &answers[0], NULL)) {
        return false;
    }
    memmove(answers, answers + 1, --num_answers * sizeof(answers[0]));
    return true;
}

/* Packets take turns between connections. */
static void send_all(VuDev *dev)
{
    bool more = true;

    while (more) {
        more = send_answer(dev);
        for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
            Connection *c = &connections[i];

            if (c->used && !num_answers) {
                more |= send_data(dev, c);
                finish(c);
                more |= num_answers > 0 && send_answer(dev);
            }
        }
    }
    small_notify(dev, RX);
}

/* From the guest */

static void take_data(Connection *c, const uint8_t *data, uint32_t size)
{
    if (size > FIFO_BYTES - c->bytes) {
        small_fail("the guest sent %u bytes without credit", size);
    }
    fwrite(data, 1, size, c->record);
    for (uint32_t i = 0; i < size; i++) {
        c->fifo[(c->head + c->bytes + i) % FIFO_BYTES] = data[i] ^ VSOCK_TURN;
    }
    if (small_damage() && size > 100) {
        c->fifo[(c->head + c->bytes + 99) % FIFO_BYTES] ^= 1;
    }
    c->bytes += size;
}

static void connect_guest(uint32_t port, const struct virtio_vsock_hdr *header)
{
    Connection *c = header->dst_port == VSOCK_HOST_PORT ? find_free() : NULL;

    if (!c) {
        answer(NULL, port, VIRTIO_VSOCK_OP_RST, 0);
        return;
    }
    *c = (Connection) {
        .used = true,
        .port = port,
        .guest_alloc = header->buf_alloc,
        .guest_forwarded = header->fwd_cnt,
        .record = open_record(),
    };
    answer(c, port, VIRTIO_VSOCK_OP_RESPONSE, 0);
}

static void take_packet(const struct virtio_vsock_hdr *header,
                        const uint8_t *payload)
{
    Connection *c = find(header->src_port);

    if (header->op == VIRTIO_VSOCK_OP_REQUEST) {
        connect_guest(header->src_port, header);
        return;
    }
    if (!c) {
        return;
    }
    c->guest_alloc = header->buf_alloc;
    c->guest_forwarded = header->fwd_cnt;
    switch (header->op) {
    case VIRTIO_VSOCK_OP_RW:
        take_data(c, payload, header->len);
        break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        answer(c, c->port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
        break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        c->ends = true;
        c->over = header->flags & VIRTIO_VSOCK_SHUTDOWN_RCV;
        break;
    case VIRTIO_VSOCK_OP_RST:
        drop(c);
        break;
    }
}

static void take_all(VuDev *dev)
{
    static uint8_t payload[PACKET_MAX];
    struct virtio_vsock_hdr header;
    VuVirtqElement *element;

    while ((element = small_pop(dev, TX))) {
        size_t got = small_bytes(element->out_sg, element->out_num);

        small_read(element->out_sg, element->out_num, 0, &header, HEADER);
        if (got < HEADER || header.len > got - HEADER ||
            header.len > PACKET_MAX || header.src_cid != guest_cid) {
            small_fail("a packet of %zu bytes that says %u", got, header.len);
        }
        small_read(element->out_sg, element->out_num, HEADER, payload,
                   header.len);
        small_push(dev, TX, element, 0);
        take_packet(&header, payload);
    }
    small_notify(dev, TX);
}

static void kicked(VuDev *dev, int queue)
{
    if (queue == TX) {
        take_all(dev);
    }
    send_all(dev);
}

int main(int argc, char **argv)
{
    static const SmallDevice device = {
        .queues = QUEUES,
        .kicked = kicked,
        .config = &guest_cid,
        .config_bytes = sizeof(guest_cid),
    };

    if (argc != 4) {
        small_fail("usage: small-vsock SOCKET CID FILE");
    }
    guest_cid = strtoull(argv[2], NULL, 0);
    record_name = argv[3];
    small_run(&device, argv[1]);
}
