/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* A path as long as any, and some words about it; and the text of an errno. */
#define LONG_MSG_MAX (4096 + ERR_MSG_MAX)
#define ERRNO_TEXT_MAX 128

#define ELLIPSIS "..."

/*
 * What is wrong and what was expected stands at the end, after a path which may be long. So a text
 * that does not fit loses its middle.
 */
static void shorten(char dst[ERR_MSG_MAX], const char *text, size_t len)
{
    const size_t head = ERR_MSG_MAX / 4;
    const size_t tail = ERR_MSG_MAX - head - sizeof(ELLIPSIS);

    if (len < ERR_MSG_MAX)
        memcpy(dst, text, len + 1);
    else
        (void)snprintf(dst, ERR_MSG_MAX, "%.*s" ELLIPSIS "%s", (int)head, text, text + len - tail);
}

/*
 * Record `code` with the message built from `fmt`, followed by `tail` unless NULL. The message
 * is built aside because an argument may be err->msg itself.
 */
static void PRINTF_LIKE(4, 0)
    record(struct err *err, int code, const char *tail, const char *fmt, va_list ap)
{
    char msg[LONG_MSG_MAX + ERRNO_TEXT_MAX];
    size_t len;

    if (!err)
        return;

    (void)vsnprintf(msg, LONG_MSG_MAX, fmt, ap); /* cut off if it is even longer */
    len = strlen(msg);
    if (tail)
        (void)snprintf(msg + len, sizeof(msg) - len, ": %s", tail);
    text_replace_control(msg);

    err->code = code;
    shorten(err->msg, msg, strlen(msg));
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    record(err, code, NULL, fmt, ap);
    va_end(ap);
    return code;
}

int err_set_errno(struct err *err, int code, const char *fmt, ...)
{
    char buf[ERRNO_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    record(err, code, strerror_r(-code, buf, sizeof(buf)), fmt, ap);
    va_end(ap);
    return code;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    char old[ERR_MSG_MAX];
    va_list ap;

    if (!err)
        return;
    memcpy(old, err->msg, sizeof(old));

    va_start(ap, fmt);
    record(err, err->code, old, fmt, ap);
    va_end(ap);
}
