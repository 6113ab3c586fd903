/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

#define PROGRAM "minivmm-ctl"

static void PRINTF_LIKE(1, 0) say(const char *fmt, va_list ap)
{
    char *text = NULL;
    char *safe = vasprintf(&text, fmt, ap) < 0 ? NULL : text_escaped(text, false);

    fprintf(stderr, PROGRAM ": %s\n", safe ? safe : "out of memory");
    free(safe);
    free(text);
}

void ctl_note(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

static int status_of(int code)
{
    switch (code) {
    case 0:
        return CTL_OK;
    case CTL_REMOTE_ERROR:
        return CTL_REFUSED;
    case -EINVAL:
        return CTL_USAGE;
    case -ENOENT:
    case -ECONNREFUSED:
        return CTL_NO_VM;
    case -ETIMEDOUT:
    case -ECONNRESET:
    case -EPROTO:
        return CTL_NO_ANSWER;
    default:
        return CTL_FAILED;
    }
}

int ctl_fail(const struct err *err)
{
    ctl_note("%s", err->msg);
    return status_of(err->code);
}

int ctl_usage(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    fputs("Try `" PROGRAM " --help`.\n", stderr);
    return CTL_USAGE;
}
