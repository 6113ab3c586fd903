/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal in raw mode: every key goes to the guest, and what the guest prints reaches
 * the terminal unchanged.
 *
 * It is put back whenever the process lets go of it: on exit, on a fatal signal (main's handlers
 * call terminal_restore), and when the process is stopped; it is raw again when the process goes
 * on in the foreground. There is one terminal per process.
 */
#ifndef MINIVMM_CONSOLE_TERMINAL_H
#define MINIVMM_CONSOLE_TERMINAL_H

#include "base/compiler.h"
#include "base/loop.h"

/*
 * Make the terminal `fd` raw and keep it so. In the background this waits until the process is in
 * the foreground. 0 or -errno. Main thread; SIGTSTP and SIGCONT must not be blocked in all threads.
 */
int terminal_make_raw(int fd) MUST_CHECK;

/* Make it raw now if it should be and was not possible before. Main thread. */
void terminal_refresh(void);

/*
 * Call `resized` whenever the terminal may have got another size, until terminal_unwatch_size. 0 or
 * -errno. The loop's thread, which is the main one.
 */
int terminal_watch_size(struct loop *loop, void (*resized)(void *opaque), void *opaque) MUST_CHECK;
void terminal_unwatch_size(void); /* harmless if nobody does */

/* Put it back for good. Async-signal-safe, idempotent; any thread. */
void terminal_restore(void);

#endif
