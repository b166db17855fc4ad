/*
 * A GPIO controller whose outputs are wired to its inputs:
 *
 *     small-gpio SOCKET FILE
 *
 * Each change of an output's level adds a byte to FILE; see small-content.h.
 *
 * An interrupt is a buffer of the event queue that the driver has left here: it
 * goes back when its line has an edge of the kind that the driver wants.  An
 * edge that comes while there is no buffer is remembered.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/types.h>
#include <linux/virtio_gpio.h>

#include "small-content.h"
#include "small.h"

enum { REQUESTS, EVENTS, QUEUES };

typedef struct Line {
    uint8_t direction;
    bool set;                 /* an output: what the driver wants */
    bool level;               /* what can be read */
    uint8_t edges;            /* that interrupt */
    bool is_latched;          /* there was one, and no buffer */
    VuVirtqElement *waiting;  /* the buffer */
} Line;

static Line lines[GPIO_LINES];
static char names[GPIO_LINES * GPIO_NAME];
static struct virtio_gpio_config config = { .ngpio = GPIO_LINES };
static FILE *notes;

/* Interrupts */

static void end_event(VuDev *dev, Line *line, uint8_t status)
{
    struct virtio_gpio_irq_response response = { status };

    small_write(line->waiting->in_sg, line->waiting->in_num, 0, &response,
                sizeof(response));
    small_push(dev, EVENTS, line->waiting, sizeof(response));
    line->waiting = NULL;
    small_notify(dev, EVENTS);
}

/* Give the buffer back, if there is a reason now. */
static void settle(VuDev *dev, Line *line)
{
    if (line->waiting && line->edges == VIRTIO_GPIO_IRQ_TYPE_NONE) {
        end_event(dev, line, VIRTIO_GPIO_IRQ_STATUS_INVALID);
    } else if (line->waiting && line->is_latched) {
        line->is_latched = false;
        end_event(dev, line, VIRTIO_GPIO_IRQ_STATUS_VALID);
    }
}

static void take_events(VuDev *dev)
{
    VuVirtqElement *element;
    struct virtio_gpio_irq_request request;
    struct virtio_gpio_irq_response response;

    while ((element = small_pop(dev, EVENTS))) {
        Line *line;

        if (small_read(element->out_sg, element->out_num, 0, &request,
                       sizeof(request)) != sizeof(request) ||
            small_bytes(element->in_sg, element->in_num) != sizeof(response) ||
            request.gpio >= GPIO_LINES || lines[request.gpio].waiting) {
            small_fail("no event buffer of a GPIO driver");
        }
        line = &lines[request.gpio];
        line->waiting = element;
        /* There may be no edges to wait for: what said so was faster. */
        settle(dev, line);
    }
}

static uint8_t set_edges(VuDev *dev, Line *line, uint32_t edges)
{
    if (edges & ~VIRTIO_GPIO_IRQ_TYPE_EDGE_BOTH ||
        (edges && line->direction != VIRTIO_GPIO_DIRECTION_IN)) {
        return VIRTIO_GPIO_STATUS_ERR;
    }
    line->edges = edges;
    line->is_latched = false;
    settle(dev, line);
    return VIRTIO_GPIO_STATUS_OK;
}

/* Levels */

static void set_level(VuDev *dev, Line *line, bool level)
{
    uint8_t edge = level ? VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING
                         : VIRTIO_GPIO_IRQ_TYPE_EDGE_FALLING;

    line->level = level;
    if (line->edges & edge) {
        line->is_latched = true;
        settle(dev, line);
    }
}

/* An output that nobody drives is low. */
static void drive(VuDev *dev, unsigned number)
{
    Line *line = &lines[number];
    bool level = line->set && line->direction == VIRTIO_GPIO_DIRECTION_OUT;
    uint8_t note = gpio_note(number, level);
    bool far;

    if (number % 2 || level == line->level) {
        return;
    }
    line->level = level;
    if (fwrite(&note, 1, 1, notes) != 1 || fflush(notes)) {
        small_fail("cannot write what was driven");
    }
    far = gpio_wire(number / 2, level);
    set_level(dev, line + 1, far);
    if (number / 2 >= GPIO_BOUNCY) {
        set_level(dev, line + 1, !far);
        set_level(dev, line + 1, far);
    }
}

/* Requests */

static uint8_t set_direction(VuDev *dev, unsigned number, uint32_t direction)
{
    Line *line = &lines[number];
    uint8_t possible = number % 2 ? VIRTIO_GPIO_DIRECTION_IN
                                  : VIRTIO_GPIO_DIRECTION_OUT;

    if (direction != VIRTIO_GPIO_DIRECTION_NONE && direction != possible) {
        return VIRTIO_GPIO_STATUS_ERR;
    }
    line->direction = direction;
    if (direction == VIRTIO_GPIO_DIRECTION_NONE) {
        set_edges(dev, line, VIRTIO_GPIO_IRQ_TYPE_NONE);
        line->set = false;
    }
    drive(dev, number);
    return VIRTIO_GPIO_STATUS_OK;
}

static bool read_level(const Line *line)
{
    static unsigned reads;

    return line->level ^ (small_damage() && reads++ % 100 == 99);
}

static struct virtio_gpio_response
answer(VuDev *dev, const struct virtio_gpio_request *request)
{
    struct virtio_gpio_response response = { VIRTIO_GPIO_STATUS_OK, 0 };
    Line *line = &lines[request->gpio];

    switch (request->type) {
    case VIRTIO_GPIO_MSG_GET_DIRECTION:
        response.value = line->direction;
        break;
    case VIRTIO_GPIO_MSG_SET_DIRECTION:
        response.status = set_direction(dev, request->gpio, request->value);
        break;
    case VIRTIO_GPIO_MSG_GET_VALUE:
        response.value = read_level(line);
        break;
    case VIRTIO_GPIO_MSG_SET_VALUE:
        line->set = request->value;
        drive(dev, request->gpio);
        break;
    case VIRTIO_GPIO_MSG_IRQ_TYPE:
        response.status = set_edges(dev, line, request->value);
        break;
    default:
        response.status = VIRTIO_GPIO_STATUS_ERR;
    }
    return response;
}

static size_t tell_names(const VuVirtqElement *element)
{
    uint8_t status = VIRTIO_GPIO_STATUS_OK;

    return small_write(element->in_sg, element->in_num, 0, &status, 1) +
           small_write(element->in_sg, element->in_num, 1, names,
                       config.gpio_names_size);
}

/* When a paused VM goes on, they wait for the event queue: it is not ready. */
static void take_requests(VuDev *dev)
{
    VuVirtqElement *element;

    if (dev->features & 1ULL << VIRTIO_GPIO_F_IRQ &&
        !vu_queue_started(dev, vu_get_queue(dev, EVENTS))) {
        return;
    }
    while ((element = small_pop(dev, REQUESTS))) {
        struct virtio_gpio_request request;
        struct virtio_gpio_response response;
        size_t size;

        if (small_read(element->out_sg, element->out_num, 0, &request,
                       sizeof(request)) != sizeof(request) ||
            request.gpio >= GPIO_LINES) {
            small_fail("no request of a GPIO driver");
        }
        if (request.type == VIRTIO_GPIO_MSG_GET_NAMES) {
            size = tell_names(element);
        } else {
            response = answer(dev, &request);
            size = small_write(element->in_sg, element->in_num, 0, &response,
                               sizeof(response));
        }
        small_push(dev, REQUESTS, element, size);
    }
    small_notify(dev, REQUESTS);
}

static void kicked(VuDev *dev, int queue)
{
    if (queue == EVENTS) {
        take_events(dev);
    } else {
        take_requests(dev);
    }
}

static void stopped(VuDev *dev, int queue)
{
    (void)dev;
    for (unsigned i = 0; queue == EVENTS && i < GPIO_LINES; i++) {
        free(lines[i].waiting);
        lines[i].waiting = NULL;
    }
}

static void started(VuDev *dev, int queue)
{
    if (queue == EVENTS) {
        if (!vu_get_queue(dev, queue)->last_avail_idx) {
            /* No buffer of this ring has come yet. */
            stopped(dev, queue);
        }
        take_requests(dev);
    }
}

static void make_lines(void)
{
    for (unsigned i = 0; i < GPIO_LINES; i++) {
        char *name = names + config.gpio_names_size;

        gpio_name(name, i);
        config.gpio_names_size += strlen(name) + 1;
        lines[i].level = i % 2 && gpio_wire(i / 2, false);
    }
}

int main(int argc, char **argv)
{
    static const SmallDevice device = {
        .queues = QUEUES,
        .features = 1ULL << VIRTIO_GPIO_F_IRQ,
        .kicked = kicked,
        .started = started,
        .stopped = stopped,
        .keeps = true,
        .config = &config,
        .config_bytes = sizeof(config),
    };

    if (argc != 3) {
        small_fail("usage: small-gpio SOCKET FILE");
    }
    notes = fopen(argv[2], "w");
    if (!notes) {
        small_fail("cannot write %s", argv[2]);
    }
    make_lines();
    small_run(&device, argv[1]);
}
