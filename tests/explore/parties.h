/*
 * The two parties that the explorer runs: a driver that uses a shadow ring as
 * its queue would, and an honest device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_PARTIES_H
#define TESTS_EXPLORE_PARTIES_H

#include "explore.h"
#include "device.h"

/**
 * Habit - how a party groups what it does
 * @HABIT_ONE: one request at a time
 * @HABIT_ALL: all that can be done, then one publication
 * @HABIT_REVERSE: the same; the device gives back the newest first
 * @HABIT_LATE: all; the driver asks whether to kick while it has added more
 *     that is not published yet
 * @HABIT_FREE: every way is tried
 */
typedef enum Habit {
    HABIT_ONE,
    HABIT_ALL,
    HABIT_REVERSE,
    HABIT_LATE,
    HABIT_FREE,
} Habit;

/**
 * Scenario - what is explored
 * @format: ring format
 * @size: descriptors
 * @event_idx: negotiated
 * @indirect: negotiated and used for every second request
 * @halves: see RingDevice
 * @max_bufs: request n has 1 + n % @max_bufs buffers
 * @before: requests that have come and gone before
 * @num: requests
 * @driver: habit
 * @device: habit
 */
typedef struct Scenario {
    ShadowRingFormat format;
    uint16_t size;
    bool event_idx;
    bool indirect;
    bool halves;
    uint16_t max_bufs;
    uint32_t before;
    uint16_t num;
    Habit driver;
    Habit device;
} Scenario;

/**
 * parties_init() - make a ring and both parties
 * @scenario: borrowed
 * @actors: set, for explore()
 */
void parties_init(const Scenario *scenario, ExploreActor *actors);

#endif /* TESTS_EXPLORE_PARTIES_H */
