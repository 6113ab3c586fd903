/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Diagnostics on stderr: one line, one write(2), so that lines of several threads never mix.
 * Any thread; never from a signal handler, except log_wait_in_handler.
 */
#ifndef MINIVMM_BASE_LOG_H
#define MINIVMM_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Set before threads start. The default is LOG_WARN. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* What lines begin with; "minivmm" unless told otherwise. Set before threads start, and kept. */
void log_set_program(const char *name);

/*
 * From now on nobody who logs waits for stderr: a thread writes the lines. While stderr takes none,
 * LOG_OUT_BUFFER bytes of them are kept; later ones are lost, and a line says how many. Once,
 * before other threads start.
 */
void log_start_thread(void);

/* Wait until everything is written; false: it was not in `timeout_ms`. */
bool log_flush(unsigned timeout_ms);

/* The same for the handler of a fatal signal. Async-signal-safe. */
void log_wait_in_handler(unsigned timeout_ms);

/*
 * Lines end in "\r\n" instead of "\n" while this is set: the terminal is raw then.
 * Owner: the module that makes the terminal raw.
 */
void log_set_raw_terminal(bool raw);

/* A line for the user that counts at every level, and says none. */
void log_say(const char *fmt, ...) PRINTF_LIKE(1, 2);

void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/*
 * For what a guest can provoke as often as it likes: at most LOG_LIMIT_BURST lines per call site
 * in LOG_LIMIT_NS; the next line that passes says how many were dropped.
 */
#define LOG_LIMIT_BURST 5
#define LOG_LIMIT_NS (5 * 1000000000ull)

struct log_limit {
    uint64_t window_start_ns;
    unsigned printed;
    unsigned dropped;
};

/* Returns whether the line was printed. */
bool log_limited_at(struct log_limit *limit, enum log_level level, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#define log_guest(level, ...)                                                                      \
    do {                                                                                           \
        static struct log_limit log_limit_here;                                                    \
        (void)log_limited_at(&log_limit_here, level, __VA_ARGS__);                                 \
    } while (0)

#endif
