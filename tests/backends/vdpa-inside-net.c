/*
 * vDPA devices inside QEMU: what a network device does.
 *
 * Frames that pair I of one device is given to transmit arrive at pair I of the
 * other one, as far as both have been told to use so many pairs.  Control
 * commands set a state, which stands in the log after each of them; frames are
 * not filtered by it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "vdpa-inside.h"

#define BYTES_MAX (128 * 1024)
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)

/* A data queue that has carried so many frames since it is on says so. */
#define AT_WORK 100

#define GUEST_OFFLOADS (BIT_ULL(VIRTIO_NET_F_GUEST_CSUM) | \
                        BIT_ULL(VIRTIO_NET_F_GUEST_TSO4) | \
                        BIT_ULL(VIRTIO_NET_F_GUEST_TSO6))

#define NET_FEATURES (BIT_ULL(VIRTIO_F_VERSION_1) | \
                      BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) | \
                      BIT_ULL(VIRTIO_NET_F_MAC) | \
                      BIT_ULL(VIRTIO_NET_F_STATUS) | \
                      BIT_ULL(VIRTIO_NET_F_MRG_RXBUF) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_VQ) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_MAC_ADDR) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_RX) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_RX_EXTRA) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_VLAN) | \
                      BIT_ULL(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | \
                      GUEST_OFFLOADS)

static MockRequest request, receive;
static uint8_t bytes[BYTES_MAX];

/* State */

void net_init(Device *d, unsigned pairs, uint64_t ring_features)
{
    d->pairs_max = CLAMP(pairs, 1, PAIRS_MAX);
    d->offered = NET_FEATURES | ring_features;
    if (d->pairs_max > 1) {
        d->offered |= BIT_ULL(VIRTIO_NET_F_MQ);
    }
    d->config = (struct virtio_net_config) {
        .mac = { 0x52, 0x54, 0, 0, 0xff, d->number },
        .status = cpu_to_le16(VIRTIO_NET_S_LINK_UP),
        .max_virtqueue_pairs = cpu_to_le16(d->pairs_max),
    };
    net_reset(d);
}

/* Offloads are all that were agreed upon, until a command says otherwise. */
void net_reset(Device *d)
{
    d->net = (NetState) {
        .pairs = 1,
        .rx[VIRTIO_NET_CTRL_RX_PROMISC] = 1,
        .offloads = GUEST_OFFLOADS,
    };
    memcpy(d->net.mac, d->config.mac, sizeof(d->net.mac));
}

static void tell_mac(GString *text, const uint8_t *mac)
{
    for (unsigned i = 0; i < 6; i++) {
        g_string_append_printf(text, "%s%02x", i ? ":" : "", mac[i]);
    }
}

static void tell_macs(GString *text, const char *name, const Macs *macs)
{
    g_string_append_printf(text, " %s", name);
    for (unsigned i = 0; i < macs->num; i++) {
        g_string_append_c(text, i ? ',' : ' ');
        tell_mac(text, macs->mac[i]);
    }
}

static void tell_state(const Device *d)
{
    static const char *const modes[] = {
        "promisc", "allmulti", "alluni", "nomulti", "nouni", "nobcast",
    };
    const NetState *net = &d->net;
    g_autoptr(GString) text = g_string_new("mac ");

    tell_mac(text, net->mac);
    g_string_append_printf(text, " pairs %u offloads 0x%" PRIx64, net->pairs,
                           net->offloads & d->features);
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        g_string_append_printf(text, " %s %u", modes[i], net->rx[i]);
    }
    tell_macs(text, "unicast", &net->unicast);
    tell_macs(text, "multicast", &net->multicast);
    g_string_append(text, " vlans");
    for (unsigned i = 0; i < VLANS; i++) {
        if (test_bit(i, net->vlans)) {
            g_string_append_printf(text, " %u", i);
        }
    }
    device_log(d, "state: %s", text->str);
}

/* Commands: each returns whether it was done */

static bool set_mac(Device *d, uint8_t cmd, const uint8_t *data, size_t size)
{
    if (size != sizeof(d->net.mac)) {
        return false;
    }
    memcpy(d->net.mac, data, size);
    return true;
}

/* Returns: bytes of @data that this half of the table takes, or 0. */
static size_t take_macs(Macs *macs, const uint8_t *data, size_t size)
{
    uint32_t num;

    if (size < sizeof(num)) {
        return 0;
    }
    num = ldl_le_p(data);
    if (num > MACS_MAX || (size - sizeof(num)) / 6 < num) {
        return 0;
    }
    macs->num = num;
    memcpy(macs->mac, data + sizeof(num), num * 6);
    return sizeof(num) + num * 6;
}

static bool set_mac_table(Device *d, uint8_t cmd, const uint8_t *data,
                          size_t size)
{
    size_t first = take_macs(&d->net.unicast, data, size);

    return first && take_macs(&d->net.multicast, data + first, size - first) ==
                    size - first;
}

static bool set_rx(Device *d, uint8_t cmd, const uint8_t *data, size_t size)
{
    if (size != 1 || data[0] > 1) {
        return false;
    }
    d->net.rx[cmd] = data[0];
    return true;
}

static bool set_vlan(Device *d, uint8_t cmd, const uint8_t *data, size_t size)
{
    uint16_t vlan;

    if (size != sizeof(vlan) || (vlan = lduw_le_p(data)) >= VLANS) {
        return false;
    }
    if (cmd == VIRTIO_NET_CTRL_VLAN_ADD) {
        set_bit(vlan, d->net.vlans);
    } else {
        clear_bit(vlan, d->net.vlans);
    }
    return true;
}

static bool set_pairs(Device *d, uint8_t cmd, const uint8_t *data, size_t size)
{
    uint16_t pairs;

    if (size != sizeof(pairs) || !(pairs = lduw_le_p(data)) ||
        pairs > d->pairs_max) {
        return false;
    }
    d->net.pairs = pairs;
    for (unsigned i = 0; i < num_queues(d); i++) {
        d->queue[i].look = true;
    }
    return true;
}

static bool set_offloads(Device *d, uint8_t cmd, const uint8_t *data,
                         size_t size)
{
    if (size != sizeof(uint64_t) || ldq_le_p(data) & ~d->features) {
        return false;
    }
    d->net.offloads = ldq_le_p(data);
    return true;
}

static const struct {
    uint8_t class;
    uint8_t first;
    uint8_t last;
    unsigned feature;
    bool (*set)(Device *d, uint8_t cmd, const uint8_t *data, size_t size);
} commands[] = {
    { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC,
      VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_F_CTRL_RX, set_rx },
    { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI,
      VIRTIO_NET_CTRL_RX_NOBCAST, VIRTIO_NET_F_CTRL_RX_EXTRA, set_rx },
    { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
      VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_F_CTRL_RX, set_mac_table },
    { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
      VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR, set_mac },
    { VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD,
      VIRTIO_NET_CTRL_VLAN_DEL, VIRTIO_NET_F_CTRL_VLAN, set_vlan },
    { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
      VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MQ, set_pairs },
    { VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
      VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
      set_offloads },
};

static bool set(Device *d, const struct virtio_net_ctrl_hdr *ctrl,
                const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].class == ctrl->class &&
            commands[i].first <= ctrl->cmd && ctrl->cmd <= commands[i].last) {
            return has_feature(d, commands[i].feature) &&
                   commands[i].set(d, ctrl->cmd, data, size);
        }
    }
    return false;
}

/* The control queue */

/* What somebody wants this device to do, as the head of vdpa-inside.c says. */
static bool is_ordered(const char *orders, const char *verb,
                       const struct virtio_net_ctrl_hdr *ctrl)
{
    g_autofree char *line = g_strdup_printf("%s %u.%u\n", verb, ctrl->class,
                                            ctrl->cmd);

    return orders && strstr(orders, line);
}

static void delay(const char *orders)
{
    const char *found = orders ? strstr(orders, "delay ") : NULL;

    if (found) {
        g_usleep(1000 * atoi(found + strlen("delay ")));
    }
}

static bool do_command(Device *d, size_t size)
{
    const struct virtio_net_ctrl_hdr *ctrl = (void *)bytes;
    const char *path = getenv("VDPA_ORDERS");
    NetState before = d->net;
    g_autofree char *orders = NULL;
    bool done;

    g_assert_cmpuint(size, >=, sizeof(*ctrl));
    if (path) {
        g_file_get_contents(path, &orders, NULL, NULL);
    }
    delay(orders);
    done = !is_ordered(orders, "refuse", ctrl) &&
           set(d, ctrl, bytes + sizeof(*ctrl), size - sizeof(*ctrl));
    if (!done || is_ordered(orders, "forget", ctrl)) {
        d->net = before;
    }
    device_log(d, "command %u.%u: %s", ctrl->class, ctrl->cmd,
               done ? "ok" : "error");
    tell_state(d);
    return done;
}

static void serve_control(Device *d)
{
    unsigned index = control_queue(d);
    Queue *q = &d->queue[index];

    while (q->on && q->look) {
        MockDevice *ring = queue_ring(d, index);

        q->look = false;
        mock_device_arm_kicks(ring);
        while (mock_device_fetch(ring, &request)) {
            uint8_t status;
            size_t size;

            read_buffers(d, index, &request, bytes, sizeof(bytes), &size);
            status = do_command(d, size) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
            write_buffers(d, index, &request, &status, sizeof(status));
            mock_device_use(ring, request.id, sizeof(status));
            queue_call(d, index);
            q->moved++;
            q->look = true;
        }
    }
}

/* The cable */

static void has_moved(Device *d, unsigned index)
{
    if (++d->queue[index].moved == AT_WORK) {
        device_log(d, "queue %u: at work", index);
    }
}

static void carry_one(Device *from, unsigned tx, Device *to, unsigned rx)
{
    const struct virtio_net_hdr_v1 header = { .num_buffers = cpu_to_le16(1) };
    size_t size;

    g_assert_true(mock_device_fetch(&from->queue[tx].ring, &request));
    g_assert_true(mock_device_fetch(&to->queue[rx].ring, &receive));
    g_assert_cmpuint(request.num_in + receive.num_out, ==, 0);
    read_buffers(from, tx, &request, bytes, sizeof(bytes), &size);
    g_assert_cmpuint(size, >, HEADER_BYTES);
    memcpy(bytes, &header, HEADER_BYTES);
    write_buffers(to, rx, &receive, bytes, size);
    mock_device_use(&from->queue[tx].ring, request.id, 0);
    mock_device_use(&to->queue[rx].ring, receive.id, size);
    has_moved(from, tx);
    has_moved(to, rx);
}

/* Returns: whether anything moved. */
static bool carry_all(Device *from, unsigned tx, Device *to, unsigned rx)
{
    MockDevice *source = queue_ring(from, tx);
    MockDevice *sink = queue_ring(to, rx);
    bool moved = false;

    mock_device_arm_kicks(source);
    mock_device_arm_kicks(sink);
    while (mock_device_has_avail(source) && mock_device_has_avail(sink)) {
        carry_one(from, tx, to, rx);
        moved = true;
    }
    if (moved) {
        queue_call(from, tx);
        queue_call(to, rx);
    }
    return moved;
}

static bool is_at_work(const Device *d, unsigned index)
{
    return d->queue[index].on && !d->suspended;
}

static void carry(Device *from, Device *to, unsigned pair)
{
    unsigned rx = 2 * pair, tx = rx + 1;

    if (pair >= MIN(from->net.pairs, to->net.pairs) ||
        !is_at_work(from, tx) || !is_at_work(to, rx) ||
        !(from->queue[tx].look || to->queue[rx].look)) {
        return;
    }
    from->queue[tx].look = false;
    to->queue[rx].look = false;
    while (carry_all(from, tx, to, rx)) {
        continue;
    }
}

void net_serve(Device *devices)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!devices[i].suspended) {
            serve_control(&devices[i]);
        }
    }
    for (unsigned pair = 0; pair < PAIRS_MAX; pair++) {
        carry(&devices[0], &devices[1], pair);
        carry(&devices[1], &devices[0], pair);
    }
}
