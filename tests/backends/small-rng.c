/*
 * An entropy device whose entropy can be checked:
 *
 *     small-rng SOCKET
 *
 * Every other answer is half as long as what was asked for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "small-content.h"
#include "small.h"

static uint64_t number;

static void kicked(VuDev *dev, int queue)
{
    VuVirtqElement *element;
    static bool half;

    while ((element = small_pop(dev, queue))) {
        size_t units = small_bytes(element->in_sg, element->in_num) / RNG_UNIT;
        RngUnit unit;

        if (element->out_num || !units) {
            small_fail("no request of an entropy driver");
        }
        units = half && units > 1 ? units / 2 : units;
        half = !half;
        for (size_t i = 0; i < units; i++) {
            rng_unit(&unit, number++);
            if (small_damage() && number % 100 == 99) {
                unit.content[5] ^= 1;
            }
            small_write(element->in_sg, element->in_num, i * RNG_UNIT, &unit,
                        sizeof(unit));
        }
        small_push(dev, queue, element, units * RNG_UNIT);
    }
    small_notify(dev, queue);
}

int main(int argc, char **argv)
{
    static const SmallDevice device = { .queues = 1, .kicked = kicked };

    if (argc != 2) {
        small_fail("usage: small-rng SOCKET");
    }
    small_run(&device, argv[1]);
}
