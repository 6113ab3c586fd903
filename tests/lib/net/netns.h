/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network of the test's own: a namespace in which it is root and nothing is but what it makes.
 */
#ifndef MINIVMM_TESTS_NET_NETNS_H
#define MINIVMM_TESTS_NET_NETNS_H

#include <stdbool.h>

/*
 * Can that be had here, with the programs ip and, if it is not NULL, `program`, and with tap
 * interfaces, if `taps`? Prints a line if not. For main.
 */
bool netns_is_possible(const char *program, bool taps);

/* Move the process into a new one, with `lo` up; in a test's set-up. */
void netns_enter(void);

#endif
