/*
 * What small backends and the guest's program agree on: content that follows
 * from a seed, so that each side can check what it got.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef GUEST_SMALL_CONTENT_H
#define GUEST_SMALL_CONTENT_H

#include "random.h"

/* Entropy comes in units, each with its number; a kernel takes some itself. */
#define RNG_SEED 11
#define RNG_UNIT 32

typedef struct RngUnit {
    uint64_t number;
    uint8_t content[RNG_UNIT - sizeof(uint64_t)];
} RngUnit;

static inline void rng_unit(RngUnit *unit, uint64_t number)
{
    unit->number = number;
    fill_from(unit->content, sizeof(unit->content),
              scramble(number ^ (uint64_t)RNG_SEED << 40));
}

/* The echo over vsock is not what was sent: it cannot be a leftover. */
#define VSOCK_HOST_PORT 77
#define VSOCK_TURN 0x5a

/*
 * Input: for each change of a light the host sends INPUT_EVENTS events, groups
 * of five: a movement, a button pressed, an end, the button let go, an end.
 */
#define INPUT_SEED 31
#define INPUT_GROUP 5
#define INPUT_EVENTS (8 * INPUT_GROUP)
#define INPUT_BUTTONS 10
#define INPUT_LIGHTS 3

typedef struct InputEvent {
    uint16_t type;
    uint16_t code;
    uint32_t value;
} InputEvent;

/* Event @number counted from the first of all. */
static inline InputEvent input_event(uint64_t number)
{
    uint64_t group = number / INPUT_GROUP;
    uint64_t word = scramble(group + ((uint64_t)INPUT_SEED << 40));
    uint16_t button = 0x100 + (word >> 32) % INPUT_BUTTONS;

    switch (number % INPUT_GROUP) {
    case 0:
        /* EV_REL, REL_X; Linux drops movements by 0 */
        return (InputEvent) { 2, 0, (uint32_t)word | 1 };
    case 1:
        return (InputEvent) { 1, button, 1 };
    case 3:
        return (InputEvent) { 1, button, 0 };
    default:
        return (InputEvent) { 0, 0, 0 };
    }
}

/* The light that is switched in round @round. */
static inline uint16_t input_light(uint64_t round)
{
    return scramble(round + ((uint64_t)INPUT_SEED << 41)) % INPUT_LIGHTS;
}

/* Sound: what is played and what is recorded, by the byte. */
#define SOUND_PLAY 51
#define SOUND_RECORD 52

static inline uint8_t sound_byte(unsigned seed, uint64_t at)
{
    uint64_t word = scramble(at / 8 + ((uint64_t)seed << 40));

    /* No byte is silence. */
    return (word >> 8 * (at % 8)) | 1;
}

/*
 * I2C: EEPROMs at I2C_EEPROM and the addresses behind it.  A write begins with
 * a place of two bytes, the high one first.  What an EEPROM holds before
 * anything was written follows from the seed.
 */
#define I2C_SEED 61
#define I2C_EEPROM 0x50
#define I2C_EEPROMS 2
#define I2C_BYTES 8192

static inline void i2c_content(uint8_t *to, unsigned eeprom)
{
    fill_from(to, I2C_BYTES, scramble(eeprom + ((uint64_t)I2C_SEED << 40)));
}

/*
 * GPIO: wires, each from an output, line 2 * wire, to the input behind it.
 * Every second wire turns the level round.  From GPIO_BOUNCY on they bounce:
 * the new level comes, goes and comes again before anybody can look.
 */
#define GPIO_WIRES 4
#define GPIO_BOUNCY 2
#define GPIO_LINES (2 * GPIO_WIRES)
#define GPIO_NAME 16

static inline void gpio_name(char *to, unsigned line)
{
    snprintf(to, GPIO_NAME, "%s-%u", line % 2 ? "in" : "out", line / 2);
}

static inline bool gpio_wire(unsigned wire, bool level)
{
    return level ^ (wire % 2);
}

/* How both sides note that an output changed. */
static inline uint8_t gpio_note(unsigned line, bool level)
{
    return line << 1 | level;
}

#endif
