#include "vmm/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/text.h"

/*
 * Record `code` with the message built from `fmt` and, unless NULL, `tail` behind it. The message
 * is built aside because an argument may be err->msg itself.
 */
static void PRINTF_LIKE(4, 0)
    record(struct err *err, int code, const char *tail, const char *fmt, va_list ap)
{
    char msg[ERR_MSG_MAX];
    size_t len;

    if (!err)
        return;

    (void)vsnprintf(msg, sizeof(msg), fmt, ap); /* a longer message is cut off */
    len = strlen(msg);
    if (tail)
        (void)snprintf(msg + len, sizeof(msg) - len, ": %s", tail);
    text_replace_control(msg);

    err->code = code;
    memcpy(err->msg, msg, sizeof(msg));
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
    char buf[128];
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
