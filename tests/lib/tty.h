/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What state a terminal is in, asked at either end of a pty.
 */
#ifndef MINIVMM_TESTS_TTY_H
#define MINIVMM_TESTS_TTY_H

#include <stdbool.h>

/* As minivmm wants it: every key goes to the guest, and output is not translated. */
bool tty_is_raw(int fd);

/* As a shell leaves it: lines, echo, signals. */
bool tty_is_cooked(int fd);

#endif
