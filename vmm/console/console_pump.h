/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that copies a pipe to a descriptor which may block: the way from the main loop to
 * standard output, and to a file, whose disk may hang.
 *
 * Whether writing blocks is a property of the open file, and standard output is shared: with the
 * shell, with standard error, with other processes. O_NONBLOCK would change all of them, and stay
 * if we are killed. Opening /proc/self/fd/1 again is no way out: it does not work with sockets, nor
 * with a terminal of another user (su, sudo). A thread that blocks works with everything, and costs
 * nothing while the guest is silent.
 */
#ifndef MINIVMM_CONSOLE_CONSOLE_PUMP_H
#define MINIVMM_CONSOLE_CONSOLE_PUMP_H

#include <stdbool.h>

#include "base/compiler.h"

struct console_events;
struct console_pump;

/*
 * Start to copy to `out_fd`, which must stay open; `name` is what the user calls it, and stays,
 * too. *ret_pipe_fd does not block, and belongs to the pump. 0 or -errno.
 */
int console_pump_start(int out_fd, const char *name, int *ret_pipe_fd,
                       struct console_pump **ret_pump) MUST_CHECK;

/*
 * Wait until everything is written, as long as some of it is every `stall_ms`, and nobody is
 * hurried. The thread of a reader that takes too little is left behind, to end with the process,
 * and so must `out_fd` and `name` be. False: that is the case.
 */
bool console_pump_stop(struct console_pump *pump, unsigned stall_ms,
                       const struct console_events *events);

#endif
