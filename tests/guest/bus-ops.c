/*
 * The guest's end of devices that are buses: I2C, GPIO.
 *
 *     bus-ops i2c DEVICE ROUNDS FILE     write to the host's EEPROMs and read,
 *                                        in the end write to FILE what they
 *                                        hold
 *     bus-ops gpio DEVICE ROUNDS FILE    drive the host's wires, watch their
 *                                        other ends, write to FILE how each
 *                                        output changed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/gpio.h>
#include <linux/i2c.h>
#include <linux/i2c-dev.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "small-content.h"

#define PLACE 2
#define CHUNK_MAX 4096
#define SHORT_MAX 60
#define GROUP_MAX 4
#define ADDRESS_FIRST 0x08
#define ADDRESS_LAST 0x77
#define NOBODY (I2C_EEPROM + I2C_EEPROMS)

static uint64_t state = 1;
static FILE *output;

/* Say what is wrong with the data, not with a system call. */
#define wrong(...) (errno = 0, die(__VA_ARGS__))

/* I2C */

/* A write of a place, of data behind it, or a read of data. */
typedef struct Chunk {
    unsigned eeprom;
    unsigned place;
    unsigned size;
    uint8_t data[PLACE + CHUNK_MAX];
} Chunk;

static int bus;
static unsigned transfers;
static uint8_t held[I2C_EEPROMS][I2C_BYTES];

static Chunk draw_chunk(void)
{
    Chunk c = {
        .eeprom = draw(&state, I2C_EEPROMS),
        .place = draw(&state, I2C_BYTES),
        .size = 1 + draw(&state, draw(&state, 8) ? SHORT_MAX : CHUNK_MAX),
    };

    c.data[0] = c.place >> 8;
    c.data[1] = c.place;
    fill_from(c.data + PLACE, c.size, state);
    return c;
}

static void remember(const Chunk *c)
{
    for (unsigned i = 0; i < c->size; i++) {
        held[c->eeprom][(c->place + i) % I2C_BYTES] = c->data[PLACE + i];
    }
}

static void compare(unsigned eeprom, unsigned place, const uint8_t *data,
                    unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t right = held[eeprom][(place + i) % I2C_BYTES];

        if (data[i] != right) {
            wrong("I2C transfer %u: byte %u of %u from %u of EEPROM %u is "
                  "%#x, not %#x", transfers, i, size, place, eeprom, data[i],
                  right);
        }
    }
}

static struct i2c_msg message(unsigned eeprom, bool reads, void *data,
                              unsigned size)
{
    return (struct i2c_msg) {
        .addr = I2C_EEPROM + eeprom,
        .flags = reads ? I2C_M_RD : 0,
        .len = size,
        .buf = data,
    };
}

/* A transfer of which @done messages succeed. */
static void transfer(struct i2c_msg *messages, unsigned count, int done)
{
    struct i2c_rdwr_ioctl_data all = { messages, count };
    int result = must(ioctl(bus, I2C_RDWR, &all), "I2C_RDWR");

    transfers++;
    if (result != done) {
        wrong("I2C transfer %u: %d of %u messages, not %d", transfers, result,
              count, done);
    }
}

static void look_who_answers(void)
{
    for (unsigned addr = ADDRESS_FIRST; addr <= ADDRESS_LAST; addr++) {
        bool is_there = addr - I2C_EEPROM < I2C_EEPROMS;
        struct i2c_msg empty = { .addr = addr };
        struct i2c_smbus_ioctl_data quick = { .size = I2C_SMBUS_QUICK };
        int result;

        transfer(&empty, 1, is_there);
        must(ioctl(bus, I2C_SLAVE, addr), "I2C_SLAVE");
        result = ioctl(bus, I2C_SMBUS, &quick);
        if (result != (is_there ? 0 : -1) || (!is_there && errno != EIO)) {
            die("I2C address %#x answers %d", addr, result);
        }
    }
}

/* In one transfer or in two, of one EEPROM. */
static void write_and_read(bool is_one)
{
    static uint8_t back[CHUNK_MAX];
    Chunk c = draw_chunk();
    struct i2c_msg messages[] = {
        message(c.eeprom, false, c.data, PLACE + c.size),
        message(c.eeprom, false, c.data, PLACE),
        message(c.eeprom, true, back, c.size),
    };

    remember(&c);
    if (is_one) {
        transfer(messages, 3, 3);
    } else {
        transfer(messages, 1, 1);
        transfer(messages + 1, 2, 2);
    }
    compare(c.eeprom, c.place, back, c.size);
}

/* Two places in one transfer; each EEPROM goes on where it was. */
static void read_two(void)
{
    static uint8_t back[2][CHUNK_MAX], behind[SHORT_MAX];
    Chunk one = draw_chunk(), other = draw_chunk();
    struct i2c_msg messages[GROUP_MAX] = {
        message(one.eeprom, false, one.data, PLACE),
        message(one.eeprom, true, back[0], one.size),
        message(other.eeprom, false, other.data, PLACE),
        message(other.eeprom, true, back[1], other.size),
    };
    struct i2c_msg next = message(other.eeprom, true, behind, SHORT_MAX);

    transfer(messages, GROUP_MAX, GROUP_MAX);
    transfer(&next, 1, 1);
    compare(one.eeprom, one.place, back[0], one.size);
    compare(other.eeprom, other.place, back[1], other.size);
    compare(other.eeprom, other.place + other.size, behind, SHORT_MAX);
}

/* What follows a failure in the same transfer must not happen. */
static void fail_between(void)
{
    Chunk one = draw_chunk(), other = draw_chunk();
    struct i2c_msg messages[] = {
        message(one.eeprom, false, one.data, PLACE + one.size),
        { .addr = NOBODY, .len = PLACE, .buf = one.data },
        message(other.eeprom, false, other.data, PLACE + other.size),
    };

    transfer(messages, 3, 1);
    remember(&one);
}

static void check_everything(void)
{
    static uint8_t all[I2C_BYTES];

    for (unsigned i = 0; i < I2C_EEPROMS; i++) {
        uint8_t start[PLACE] = { 0, 0 };
        struct i2c_msg messages[] = {
            message(i, false, start, PLACE),
            message(i, true, all, I2C_BYTES),
        };

        transfer(messages, 2, 2);
        compare(i, 0, all, I2C_BYTES);
    }
}

static void i2c(const char *path, uint64_t rounds)
{
    bus = must(open(path, O_RDWR), path);
    for (unsigned i = 0; i < I2C_EEPROMS; i++) {
        i2c_content(held[i], i);
    }
    look_who_answers();
    check_everything();
    for (uint64_t i = 0; i < rounds; i++) {
        switch (i % 4) {
        case 0:
        case 1:
            write_and_read(i % 4);
            break;
        case 2:
            read_two();
            break;
        default:
            fail_between();
        }
    }
    check_everything();
    if (fwrite(held, 1, sizeof(held), output) != sizeof(held)) {
        die("cannot write what the EEPROMs hold");
    }
    printf("I2C transfers %u\n", transfers);
}

/* GPIO: one request for all outputs, one for all inputs */

typedef struct Wires {
    int outputs;
    int inputs;
    uint64_t driven;          /* levels, one bit a wire */
    uint32_t seen[GPIO_WIRES];    /* number of the last event */
    unsigned events;
} Wires;

#define ALL_WIRES ((1ULL << GPIO_WIRES) - 1)

static uint64_t far_ends(uint64_t driven)
{
    uint64_t levels = 0;

    for (unsigned i = 0; i < GPIO_WIRES; i++) {
        levels |= (uint64_t)gpio_wire(i, driven >> i & 1) << i;
    }
    return levels;
}

static void note_changes(uint64_t before, uint64_t after)
{
    for (unsigned i = 0; i < GPIO_WIRES; i++) {
        if ((before ^ after) >> i & 1) {
            putc(gpio_note(2 * i, after >> i & 1), output);
        }
    }
}

static int request_lines(int chip, bool are_inputs, uint64_t flags)
{
    struct gpio_v2_line_request request = {
        .consumer = "bus-ops",
        .config.flags = flags,
        .num_lines = GPIO_WIRES,
    };

    for (unsigned i = 0; i < GPIO_WIRES; i++) {
        request.offsets[i] = 2 * i + are_inputs;
    }
    must(ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &request), "to request lines");
    return request.fd;
}

static uint64_t read_levels(int fd)
{
    struct gpio_v2_line_values values = { .mask = ALL_WIRES };

    must(ioctl(fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &values), "to read lines");
    return values.bits;
}

/* Make the outputs @levels, the driver is told of those in @mask. */
static void drive(Wires *w, uint64_t levels, uint64_t mask)
{
    struct gpio_v2_line_values values = { .bits = levels, .mask = mask };

    levels = (levels & mask) | (w->driven & ~mask);
    note_changes(w->driven, levels);
    w->driven = levels;
    must(ioctl(w->outputs, GPIO_V2_LINE_SET_VALUES_IOCTL, &values),
         "to drive lines");
}

/* The wire whose input had an edge, and which. */
static unsigned next_event(Wires *w, bool *level)
{
    struct gpio_v2_line_event event;
    unsigned wire;

    if (must(read(w->inputs, &event, sizeof(event)), "events") !=
        sizeof(event)) {
        die("half an event");
    }
    wire = event.offset / 2;
    if (event.offset % 2 == 0 || wire >= GPIO_WIRES ||
        event.line_seqno != ++w->seen[wire]) {
        wrong("GPIO event %u of line %u is none of ours", event.line_seqno,
              event.offset);
    }
    w->events++;
    *level = event.id == GPIO_V2_LINE_EVENT_RISING_EDGE;
    return wire;
}

/*
 * How often a wire whose far end has become @level interrupts.  What bounces
 * has three edges: one takes the buffer, of what follows the host remembers
 * that there was something.  The line must be unmasked before: it is if there
 * is one CPU, where the kernel's thread goes before us.
 */
static unsigned count_events(unsigned wire, bool level, bool only_rising)
{
    bool bounces = wire >= GPIO_BOUNCY;

    return only_rising && !level ? bounces : 1 + bounces;
}

/* As many of each wire as it has, in any order between wires. */
static void expect_events(Wires *w, uint64_t before, bool only_rising)
{
    uint64_t levels = far_ends(w->driven), changed = before ^ w->driven;
    unsigned due[GPIO_WIRES] = { 0 }, all = 0;

    for (unsigned i = 0; i < GPIO_WIRES; i++) {
        if (changed >> i & 1) {
            due[i] = count_events(i, levels >> i & 1, only_rising);
            all += due[i];
        }
    }
    while (all--) {
        bool level;
        unsigned wire = next_event(w, &level);

        if (!due[wire] || level != (only_rising || levels >> wire & 1)) {
            wrong("GPIO event %u: line %u has become %d", w->events,
                  2 * wire + 1, level);
        }
        due[wire]--;
    }
}

static void check_levels(const Wires *w)
{
    uint64_t near = read_levels(w->outputs);
    uint64_t far = read_levels(w->inputs);

    if (near != w->driven || far != far_ends(w->driven)) {
        wrong("GPIO lines are %#jx and %#jx, not %#jx", (uintmax_t)near,
              (uintmax_t)far, (uintmax_t)w->driven);
    }
}

static void watch(Wires *w, int chip, uint64_t edges)
{
    w->inputs = request_lines(chip, true, GPIO_V2_LINE_FLAG_INPUT | edges);
    memset(w->seen, 0, sizeof(w->seen));
}

static void watch_both(Wires *w, int chip, uint64_t rounds)
{
    watch(w, chip, GPIO_V2_LINE_FLAG_EDGE_RISING |
                   GPIO_V2_LINE_FLAG_EDGE_FALLING);
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t before = w->driven;

        drive(w, draw(&state, ALL_WIRES + 1), 1 + draw(&state, ALL_WIRES));
        expect_events(w, before, false);
        check_levels(w);
    }
    must(close(w->inputs), "close");
}

/* The edges of the other kind are nothing: the next number tells. */
static void watch_rising(Wires *w, int chip, uint64_t rounds)
{
    watch(w, chip, GPIO_V2_LINE_FLAG_EDGE_RISING);
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t before = w->driven;

        drive(w, draw(&state, ALL_WIRES + 1), ALL_WIRES);
        expect_events(w, before, true);
    }
    must(close(w->inputs), "close");
}

static void check_names(int chip)
{
    struct gpiochip_info info;
    char name[GPIO_NAME];

    must(ioctl(chip, GPIO_GET_CHIPINFO_IOCTL, &info), "to ask the chip");
    if (info.lines != GPIO_LINES) {
        wrong("GPIO has %u lines", info.lines);
    }
    for (unsigned i = 0; i < GPIO_LINES; i++) {
        struct gpio_v2_line_info line = { .offset = i };

        must(ioctl(chip, GPIO_V2_GET_LINEINFO_IOCTL, &line), "to ask a line");
        gpio_name(name, i);
        if (strcmp(line.name, name)) {
            wrong("GPIO line %u is called \"%s\"", i, line.name);
        }
    }
}

static void check_refusal(int chip)
{
    struct gpio_v2_line_request request = {
        .config.flags = GPIO_V2_LINE_FLAG_OUTPUT,
        .num_lines = 1,
        .offsets = { 1 },
    };

    if (!ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &request)) {
        wrong("GPIO: an input can be driven");
    }
}

static void gpio(const char *path, uint64_t rounds)
{
    int chip = must(open(path, O_RDWR), path);
    Wires w = { .driven = 0 };

    check_names(chip);
    check_refusal(chip);
    w.outputs = request_lines(chip, false, GPIO_V2_LINE_FLAG_OUTPUT);
    watch_both(&w, chip, rounds);
    watch_rising(&w, chip, rounds);
    /* Nobody drives them then. */
    must(close(w.outputs), "close");
    note_changes(w.driven, 0);
    w.driven = 0;
    printf("GPIO events %u\n", w.events);
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc == 5 ? strtoull(argv[3], NULL, 0) : 0;

    if (!rounds) {
        die("usage: bus-ops i2c|gpio DEVICE ROUNDS FILE");
    }
    printf("BUS begins\n");
    fflush(stdout);
    output = fopen(argv[4], "w");
    if (!output) {
        die("cannot write %s", argv[4]);
    }
    if (!strcmp(argv[1], "i2c")) {
        i2c(argv[2], rounds);
    } else if (!strcmp(argv[1], "gpio")) {
        gpio(argv[2], rounds);
    } else {
        die("unknown: %s", argv[1]);
    }
    must(fclose(output), "to write the file");
    return 0;
}
