/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that end the process on the spot, from a crash or from outside: the terminal must not
 * stay raw.
 */
#ifndef MINIVMM_PROCESS_CRASH_H
#define MINIVMM_PROCESS_CRASH_H

/*
 * From now on, every signal that ends the process puts the terminal back first, also when it is the
 * stack of this thread, or of one that thread_start started, that has no room left. Except SIGKILL,
 * which nobody can catch, and the two that the C library keeps for itself, 32 and 33.
 *
 * Signals that are ignored stay so. The main thread, once.
 */
void crash_set_up(void);

#endif
