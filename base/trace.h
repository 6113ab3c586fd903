/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A timeline of the process: what each thread did from when to when, for one file in the format of
 * Chrome's trace events, which Perfetto and chrome://tracing show.
 *
 * Always compiled in. Until it is switched on, a call costs one test. What is recorded goes to
 * memory of a fixed size; the file is written once, at the end. All times are CLOCK_MONOTONIC.
 *
 * Any thread; trace_switch_on before threads start, trace_write when they have ended.
 */
#ifndef MINIVMM_BASE_TRACE_H
#define MINIVMM_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* Guests that reset again and again leave more; the first are kept. */
#define TRACE_EVENTS_MAX 1024u

void trace_switch_on(void);

bool trace_is_on(void);

/* When a piece of work begins: for trace_span. 0 where nothing is recorded. */
uint64_t trace_begin(void);

/*
 * The calling thread did `name` from `begin_ns` until now. The name lasts as long as the process,
 * and needs no escapes in JSON.
 */
void trace_span(const char *name, uint64_t begin_ns);

/* `name` happened now, on the calling thread. */
void trace_mark(const char *name);

/* Write the whole timeline. 0, or a negative errno. */
int trace_write(int fd) MUST_CHECK;

#endif
