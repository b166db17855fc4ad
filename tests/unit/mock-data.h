/*
 * Mock guest: what its memory holds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MOCK_DATA_H
#define TESTS_UNIT_MOCK_DATA_H

/** Mark [@mem, @mem + @len). */
void mock_mark_fill(uint8_t *mem, size_t len);

/** Assert that [@mem + @pos, @mem + @len) has the mark that @mem begins. */
void mock_mark_check(const uint8_t *mem, size_t pos, size_t len);

/** Assert that no marked byte of guest memory got into [@mem, @mem + @len). */
void mock_mark_check_secret(const void *mem, size_t len);

/** Bytes @pos to @pos + @len of what request @serial says or is told. */
void mock_data_fill(uint64_t serial, bool in, uint64_t pos, void *mem,
                    size_t len);
void mock_data_check(uint64_t serial, bool in, uint64_t pos, const void *mem,
                     size_t len);

#endif /* TESTS_UNIT_MOCK_DATA_H */
