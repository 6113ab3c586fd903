#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/block_ops.h"
#include "img/img.h"
#include "img/progress.h"

const char *img_program = "minivmm-img";

static void PRINTF_LIKE(2, 0) print(const char *kind, const char *fmt, va_list ap)
{
    progress_break();
    fprintf(stderr, "%s: %s", img_program, kind);
    (void)vfprintf(stderr, fmt, ap); /* there is nobody to tell that stderr does not work */
    fputc('\n', stderr);
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
    fprintf(stderr, "%s\n", text);
}

struct block_check_report img_check_report = {.line = print_line};
