/*
 * Devices for tests: buses, lines, keys, and a cipher.
 *
 * What each backend does with a request is the least that lets a driver see
 * whether every byte came, both ways.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_gpio.h"
#include "standard-headers/linux/virtio_i2c.h"
#include "standard-headers/linux/virtio_input.h"
#include "isolation-device.h"

/* I2C: what was written to an address can be read from it. */

enum { I2C_ADDR = 0x50, I2C_BYTES = 32, I2C_F_READ = 1 << 1 };

static bool i2c_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                      uint32_t *len)
{
    uint8_t *memory = b->opaque;
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct virtio_i2c_out_hdr *hdr = (void *)out;
    bool read = le32_to_cpu(hdr->flags) & I2C_F_READ;
    uint8_t status = le16_to_cpu(hdr->addr) != I2C_ADDR << 1;

    if (read) {
        mock_chain_write(chain, 0, memory, I2C_BYTES);
    } else {
        g_assert_cmpuint(size, ==, sizeof(*hdr) + I2C_BYTES);
        memcpy(memory, hdr + 1, I2C_BYTES);
    }
    mock_chain_write(chain, read ? I2C_BYTES : 0, &status, 1);
    *len = read ? I2C_BYTES + 1 : 1;
    return true;
}

static void i2c_traffic(GuestDevice *d)
{
    struct QEMU_PACKED {
        struct virtio_i2c_out_hdr hdr;
        uint8_t data[I2C_BYTES];
    } out = { .hdr.addr = cpu_to_le16(I2C_ADDR << 1) };
    uint8_t in[I2C_BYTES + 1];

    device_random(out.data, sizeof(out.data));
    g_assert_cmpuint(device_request(d, 0, &out, sizeof(out), in, 1), ==, 1);
    g_assert_cmphex(in[0], ==, 0);

    out.hdr.flags = cpu_to_le32(I2C_F_READ);
    g_assert_cmpuint(device_request(d, 0, &out.hdr, sizeof(out.hdr), in,
                                    sizeof(in)), ==, sizeof(in));
    g_assert_cmpmem(in, I2C_BYTES, out.data, I2C_BYTES);
    g_assert_cmphex(in[I2C_BYTES], ==, 0);
}

const DeviceKind device_i2c = {
    .name = "i2c",
    .device = "vhost-user-i2c-pci",
    .model = {
        .num_queues = 1,
        .features = BIT_ULL(0),         /* ZERO_LENGTH_REQUEST, mandatory */
        .serve = i2c_serve,
    },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = i2c_traffic,
};

/* GPIO: lines with values, and interrupts that stay with the backend. */

enum { GPIO_LINES = 8, GPIO_LINE = 3, GPIO_IRQ_VALID = 1 };

static const struct virtio_gpio_config gpio_config = {
    .ngpio = const_le16(GPIO_LINES),
};

static bool gpio_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                       uint32_t *len)
{
    uint8_t *values = b->opaque;
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    struct virtio_gpio_request *request = (void *)out;
    struct virtio_gpio_response response = { VIRTIO_GPIO_STATUS_ERR };
    uint16_t line;

    if (queue == 1) {
        g_assert_cmpuint(size, ==, 2);
        g_assert_cmpuint(lduw_le_p(out), ==, GPIO_LINE);
        return false;
    }
    g_assert_cmpuint(size, ==, sizeof(*request));
    line = le16_to_cpu(request->gpio);
    if (line < GPIO_LINES) {
        response.status = VIRTIO_GPIO_STATUS_OK;
        if (le16_to_cpu(request->type) == VIRTIO_GPIO_MSG_SET_VALUE) {
            values[line] = le32_to_cpu(request->value);
        }
        response.value = values[line];
    }
    mock_chain_write(chain, 0, &response, sizeof(response));
    *len = sizeof(response);
    return true;
}

static void gpio_line(GuestDevice *d, uint16_t type, uint16_t line,
                      uint32_t value, uint8_t status)
{
    struct virtio_gpio_request request = {
        cpu_to_le16(type), cpu_to_le16(line), cpu_to_le32(value),
    };
    struct virtio_gpio_response response;

    g_assert_cmpuint(device_request(d, 0, &request, sizeof(request),
                                    &response, sizeof(response)), ==,
                     sizeof(response));
    g_assert_cmphex(response.status, ==, status);
    if (status == VIRTIO_GPIO_STATUS_OK) {
        g_assert_cmphex(response.value, ==, value);
    }
}

static void gpio_traffic(GuestDevice *d)
{
    uint16_t line = cpu_to_le16(GPIO_LINE);
    uint8_t valid = GPIO_IRQ_VALID;
    uint64_t addr;

    g_assert_cmpuint(qvirtio_config_readw(&d->pci.vdev, 0), ==, GPIO_LINES);
    for (unsigned i = 0; i < GPIO_LINES; i++) {
        gpio_line(d, VIRTIO_GPIO_MSG_SET_VALUE, i, i % 3 == 0, 0);
    }
    addr = device_post(d, 1, &line, sizeof(line), 1);
    for (unsigned i = 0; i < GPIO_LINES; i++) {
        gpio_line(d, VIRTIO_GPIO_MSG_GET_VALUE, i, i % 3 == 0, 0);
    }
    gpio_line(d, VIRTIO_GPIO_MSG_GET_VALUE, GPIO_LINES, 0,
              VIRTIO_GPIO_STATUS_ERR);
    mock_backend_deliver(d->backend, 1, &valid, 1);
    device_expect(d, 1, addr, &valid, 1);
}

const DeviceKind device_gpio = {
    .name = "gpio",
    .device = "vhost-user-gpio-pci",
    .model = {
        .num_queues = 2,
        .features = BIT_ULL(VIRTIO_GPIO_F_IRQ),
        .config = &gpio_config,
        .config_size = sizeof(gpio_config),
        .serve = gpio_serve,
    },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = gpio_traffic,
};

/* Input: events to the guest, and the guest's own, which switch LEDs. */

static const struct virtio_input_config input_config = {
    .select = VIRTIO_INPUT_CFG_ID_NAME,
    .size = 8,
    .u.string = "keyboard",
};

static bool input_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                        uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);

    g_assert_cmpuint(size, ==, sizeof(struct virtio_input_event));
    memcpy(b->opaque, out, size);
    return true;
}

static void input_traffic(GuestDevice *d)
{
    struct virtio_input_event led;
    struct virtio_input_event key[2];

    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = offsetof(struct virtio_input_config, u) + i;

        g_assert_cmphex(qvirtio_config_readb(&d->pci.vdev, at), ==,
                        input_config.u.string[i]);
    }
    device_random(&led, sizeof(led));
    g_assert_cmpuint(device_request(d, 1, &led, sizeof(led), NULL, 0), ==, 0);
    g_assert_cmpmem(d->state, sizeof(led), &led, sizeof(led));

    device_random(key, sizeof(key));
    for (unsigned i = 0; i < G_N_ELEMENTS(key); i++) {
        device_receive(d, 0, &key[i], sizeof(key[i]));
    }
}

const DeviceKind device_input = {
    .name = "input",
    .device = "vhost-user-input-pci",
    .model = {
        .num_queues = 2,
        .receive = BIT(0),
        .config = &input_config,
        .config_size = sizeof(input_config),
        .serve = input_serve,
    },
    .packed_if_shared = true,
    .reconnects = true,
    .traffic = input_traffic,
};

/* SCMI: a command's answer is the command, each byte changed. */

enum { SCMI_BYTES = 100 };

static bool scmi_serve(MockBackend *b, unsigned queue, const MockChain *chain,
                       uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *message = mock_chain_read(chain, &size);

    for (size_t i = 0; i < size; i++) {
        message[i] ^= 0x5a;
    }
    mock_chain_write(chain, 0, message, size);
    *len = size;
    return true;
}

static void scmi_traffic(GuestDevice *d)
{
    uint8_t command[SCMI_BYTES], answer[SCMI_BYTES];

    device_random(command, sizeof(command));
    g_assert_cmpuint(device_request(d, 0, command, sizeof(command), answer,
                                    sizeof(answer)), ==, sizeof(answer));
    for (unsigned i = 0; i < SCMI_BYTES; i++) {
        g_assert_cmphex(answer[i], ==, command[i] ^ 0x5a);
    }
    device_receive(d, 1, command, sizeof(command));
}

const DeviceKind device_scmi = {
    .name = "scmi",
    .device = "vhost-user-scmi-pci",
    .model = {
        .num_queues = 2,
        .receive = BIT(1),
        .features = BIT_ULL(0),         /* P2A_CHANNELS: there is queue 1 */
        .serve = scmi_serve,
    },
    .arm_only = true,
    .traffic = scmi_traffic,
};

/* Crypto: an operation is its header, and data that each byte of is changed. */

enum { CRYPTO_HEADER = 72, CRYPTO_BYTES = 256 };

static bool crypto_serve(MockBackend *b, unsigned queue,
                         const MockChain *chain, uint32_t *len)
{
    size_t size;
    g_autofree uint8_t *out = mock_chain_read(chain, &size);
    uint8_t status = 0;

    g_assert_cmpuint(size, ==, CRYPTO_HEADER + CRYPTO_BYTES);
    for (size_t i = 0; i < size; i++) {
        out[i] ^= 0xa5;
    }
    mock_chain_write(chain, 0, out + CRYPTO_HEADER, CRYPTO_BYTES);
    mock_chain_write(chain, CRYPTO_BYTES, &status, 1);
    *len = CRYPTO_BYTES + 1;
    return true;
}

static void crypto_traffic(GuestDevice *d)
{
    uint8_t out[CRYPTO_HEADER + CRYPTO_BYTES], in[CRYPTO_BYTES + 1];

    device_random(out, sizeof(out));
    g_assert_cmpuint(device_request(d, 0, out, sizeof(out), in, sizeof(in)),
                     ==, sizeof(in));
    for (unsigned i = 0; i < CRYPTO_BYTES; i++) {
        g_assert_cmphex(in[i], ==, out[CRYPTO_HEADER + i] ^ 0xa5);
    }
    g_assert_cmphex(in[CRYPTO_BYTES], ==, 0);
}

const DeviceKind device_crypto = {
    .name = "crypto",
    .device = "virtio-crypto-pci",
    .object = "-object cryptodev-vhost-user",
    .link = "cryptodev",
    .model = {
        .num_queues = 1,
        .never_enabled = true,
        .serve = crypto_serve,
    },
    .num_others = 1,
    .no_version_1 = true,
    .traffic = crypto_traffic,
};
