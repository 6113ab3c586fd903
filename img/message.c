/* SPDX-License-Identifier: Apache-2.0 */
#include "img/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/image.h"
#include "img/progress.h"
#include "img/shown.h"

const char *img_program = "minivmm-img";

static void PRINTF_LIKE(2, 0) print(const char *kind, const char *fmt, va_list ap)
{
    char *text;

    progress_break();
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    fprintf(stderr, "%s: %s%s\n", img_program, kind,
            text ? shown_lines(stderr, text) : "out of memory");
    free(text);
}

void img_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print("", fmt, ap);
    va_end(ap);
}

void img_warn(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print("warning: ", fmt, ap);
    va_end(ap);
}

int img_usage(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print("", fmt, ap);
    va_end(ap);
    fprintf(stderr, "Try '%s --help' for more information\n", img_program);
    return EXIT_FAILURE;
}

static void print_line(struct block_check_report *report, const char *text)
{
    fprintf(stderr, "%s\n", shown_lines(stderr, text));
}

struct block_check_report img_check_report = {.line = print_line};
