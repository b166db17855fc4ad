/*
 * What the files under test call instead of time, log and close().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_TRANSPORT_SOURCES_H
#define TESTS_UNIT_TRANSPORT_SOURCES_H

#include "qemu/timer.h"

int64_t harness_clock_get_ns(QEMUClockType type);
int64_t harness_clock_get_ms(QEMUClockType type);
int harness_poll_ns(GPollFD *fds, guint nfds, int64_t timeout);
void harness_timer_mod(QEMUTimer *timer, int64_t expire);
void harness_timer_del(QEMUTimer *timer);
void harness_error_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
int harness_close(int fd);
/** harness_push() - something will be closed in another thread */
void harness_push(void);

#endif /* TESTS_UNIT_TRANSPORT_SOURCES_H */
