/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a log line to stderr; private to log.c.
 *
 * Stderr may take nothing for as long as it likes: a pipe that its owner does not read, a terminal
 * held by Ctrl-S, a file on a disk that hangs. O_NONBLOCK is no way out, for the open file is
 * shared with the shell and others. So a program whose threads must not wait has a thread that
 * blocks alone; it is made when there is something to write and gone when it was idle for a while.
 */
#ifndef MINIVMM_BASE_LOG_OUT_H
#define MINIVMM_BASE_LOG_OUT_H

#include <stdbool.h>
#include <stddef.h>

/* With its line end a line stays below PIPE_BUF, so a pipe takes it whole or not at all. */
#define LOG_OUT_LINE_MAX 2048u

/* What is kept of lines that cannot be written yet. More is lost, and counted. */
#define LOG_OUT_BUFFER ((size_t)64 << 10)

/*
 * Write one line; `line` ends with its only "\n". Before log_out_start_thread the caller waits for
 * stderr, afterwards it does not.
 */
void log_out_write(const char *line, size_t len);

void log_out_set_raw_terminal(bool raw);

/* See log_start_thread, log_flush and log_wait_in_handler. */
void log_out_start_thread(void);
bool log_out_flush(unsigned timeout_ms);
void log_out_wait_in_handler(unsigned timeout_ms);

#endif
