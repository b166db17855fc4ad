/*
 * A device with buttons, a wheel and lights:
 *
 *     small-input SOCKET
 *
 * For each light that the guest switches it sends the next INPUT_EVENTS events,
 * as the guest makes buffers for them available.  Lights must be switched in
 * the order that the two agreed on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/input-event-codes.h>
#include <linux/virtio_input.h>

#include "small-content.h"
#include "small.h"

enum { EVENTS, STATUS, QUEUES };

static struct virtio_input_config config;
static uint64_t rounds;       /* that the guest began */
static uint64_t sent;
static bool lit[INPUT_LIGHTS];

static void send_events(VuDev *dev)
{
    VuVirtqElement *element;

    while (sent < rounds * INPUT_EVENTS && (element = small_pop(dev, EVENTS))) {
        InputEvent event = input_event(sent++);

        event.value ^= small_damage() && sent == 201;
        if (small_write(element->in_sg, element->in_num, 0, &event,
                        sizeof(event)) != sizeof(event)) {
            small_fail("a buffer smaller than an event");
        }
        small_push(dev, EVENTS, element, sizeof(event));
    }
    small_notify(dev, EVENTS);
}

static void switch_light(InputEvent event)
{
    uint16_t light = input_light(rounds);

    if (event.type == EV_SYN) {
        return;
    }
    if (event.type != EV_LED || event.code != light ||
        event.value != !lit[light]) {
        small_fail("status %u %u %u in round %" PRIu64, event.type,
                   event.code, event.value, rounds);
    }
    lit[light] = !lit[light];
    rounds++;
}

static void take_status(VuDev *dev)
{
    VuVirtqElement *element;
    InputEvent event;

    while ((element = small_pop(dev, STATUS))) {
        if (small_read(element->out_sg, element->out_num, 0, &event,
                       sizeof(event)) != sizeof(event)) {
            small_fail("a status smaller than an event");
        }
        small_push(dev, STATUS, element, 0);
        switch_light(event);
    }
    small_notify(dev, STATUS);
}

static void kicked(VuDev *dev, int queue)
{
    if (queue == STATUS) {
        take_status(dev);
    }
    send_events(dev);
}

static void set_bits(unsigned first, unsigned count)
{
    for (unsigned bit = first; bit < first + count; bit++) {
        config.u.bitmap[bit / 8] |= 1 << bit % 8;
    }
    config.size = (first + count + 7) / 8;
}

static void select_config(void)
{
    config.size = 0;
    memset(&config.u, 0, sizeof(config.u));
    if (config.select == VIRTIO_INPUT_CFG_ID_NAME) {
        strcpy(config.u.string, "small input");
        config.size = strlen(config.u.string);
    } else if (config.select == VIRTIO_INPUT_CFG_EV_BITS) {
        switch (config.subsel) {
        case EV_KEY:
            set_bits(BTN_0, INPUT_BUTTONS);
            break;
        case EV_REL:
            set_bits(REL_X, 1);
            break;
        case EV_LED:
            set_bits(LED_NUML, INPUT_LIGHTS);
            break;
        }
    }
}

static int set_config(VuDev *dev, const uint8_t *data, uint32_t offset,
                      uint32_t size, uint32_t flags)
{
    (void)dev;
    (void)flags;
    if (offset || size < 2) {
        return -1;
    }
    config.select = data[0];
    config.subsel = data[1];
    select_config();
    return 0;
}

int main(int argc, char **argv)
{
    static const SmallDevice device = {
        .queues = QUEUES,
        .kicked = kicked,
        .config = &config,
        .config_bytes = sizeof(config),
        .set_config = set_config,
    };

    if (argc != 2) {
        small_fail("usage: small-input SOCKET");
    }
    small_run(&device, argv[1]);
}
