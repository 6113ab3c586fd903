/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log_out.h"
#include "base/text.h"

/* The text of a line, without what stands in front of it: see LOG_OUT_LINE_MAX. */
#define LOG_LINE_MAX 1024

static const char level_names[][8] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static enum log_level max_level = LOG_WARN;
static const char *program = "minivmm";

/* Guards every struct log_limit: they are touched rarely and shortly. */
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_set_program(const char *name)
{
    program = name;
}

bool log_enabled(enum log_level level)
{
    return level <= max_level;
}

void log_set_raw_terminal(bool raw)
{
    log_out_set_raw_terminal(raw);
}

void log_start_thread(void)
{
    log_out_start_thread();
}

bool log_flush(unsigned timeout_ms)
{
    return log_out_flush(timeout_ms);
}

void log_wait_in_handler(unsigned timeout_ms)
{
    log_out_wait_in_handler(timeout_ms);
}

/* `level_text` is "" or ends in ": ". */
static void write_line(const char *level_text, char *msg)
{
    char line[LOG_OUT_LINE_MAX];
    int len;

    text_replace_control(msg);
    len = snprintf(line, sizeof(line), "%.60s: %s%s\n", program, level_text, msg);
    log_out_write(line, (size_t)len);
}

static void write_level_line(enum log_level level, char *msg)
{
    char level_text[16];

    (void)snprintf(level_text, sizeof(level_text), "%s: ", level_names[level]);
    write_line(level_text, msg);
}

void log_say(const char *fmt, ...)
{
    char msg[LOG_LINE_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, ap); /* a longer line is cut off */
    va_end(ap);
    write_line("", msg);
}

void log_at(enum log_level level, const char *fmt, ...)
{
    char msg[LOG_LINE_MAX];
    int saved_errno = errno;
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, ap); /* a longer line is cut off */
    va_end(ap);
    write_level_line(level, msg);
    errno = saved_errno;
}

/* May one more line be printed? *ret_dropped is how many were not since the last one that was. */
static bool limit_allows(struct log_limit *limit, unsigned *ret_dropped)
{
    uint64_t now = monotonic_ns();
    bool allowed;

    pthread_mutex_lock(&limit_lock);
    if (limit->printed == 0 || now - limit->window_start_ns >= LOG_LIMIT_NS) {
        limit->window_start_ns = now;
        limit->printed = 0;
    }
    allowed = limit->printed < LOG_LIMIT_BURST;
    if (allowed) {
        limit->printed++;
        *ret_dropped = limit->dropped;
        limit->dropped = 0;
    } else {
        limit->dropped++;
    }
    pthread_mutex_unlock(&limit_lock);
    return allowed;
}

bool log_limited_at(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
    char msg[LOG_LINE_MAX];
    int saved_errno = errno;
    unsigned dropped;
    va_list ap;
    int len;

    if (!log_enabled(level) || !limit_allows(limit, &dropped))
        return false;
    va_start(ap, fmt);
    len = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    if (dropped > 0 && len >= 0 && (size_t)len < sizeof(msg))
        (void)snprintf(msg + len, sizeof(msg) - (size_t)len, " (%u such lines before not shown)",
                       dropped);
    write_level_line(level, msg);
    errno = saved_errno;
    return true;
}
