/*
 * Words of a ring's shared memory, by name.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_EXPLORE_LOCATIONS_H
#define TESTS_EXPLORE_LOCATIONS_H

#include "hw/virtio/shadow-ring.h"

#define LOCATIONS_MAX 80

/**
 * Location - a word that is read and written as one
 * @offset: in the shared memory
 * @size: bytes
 * @both_write: driver and device both write it
 * @name: for the user
 */
typedef struct Location {
    uint16_t offset;
    uint8_t size;
    bool both_write;
    char name[30];
} Location;

/**
 * locations_init() - name the words of a ring and of what lies behind it
 * @format: ring format
 * @size: descriptors
 * @num_tables: indirect tables behind the ring
 * @table_descs: descriptors of each
 *
 * For the life of the program; may be called again.
 */
void locations_init(ShadowRingFormat format, uint16_t size,
                    unsigned num_tables, unsigned table_descs);

/** locations_num() - how many there are */
unsigned locations_num(void);

/** locations_end() - the offset behind all of them */
uint16_t locations_end(void);

/** location() - number @n */
const Location *location(unsigned n);

/**
 * location_name() - of the word that the byte at @offset belongs to
 *
 * "nowhere" if it belongs to none; UINT16_MAX stands for a signal.
 */
const char *location_name(uint16_t offset);

/** location_at() - the number of the word at @offset; -1 if there is none */
int location_at(uint16_t offset, uint8_t size);

#endif /* TESTS_EXPLORE_LOCATIONS_H */
