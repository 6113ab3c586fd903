#include "tests/lib/qemu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/unit.h"

#define TEMPLATE "/tmp/minivmm-qemu-XXXXXX"

char qemu_dir[] = TEMPLATE;

void qemu_dir_set_up(void)
{
    memcpy(qemu_dir, TEMPLATE, sizeof(TEMPLATE));
    ck_assert_ptr_nonnull(mkdtemp(qemu_dir));
}

void qemu_dir_tear_down(void)
{
    ck_assert_int_eq(qemu_shell("rm -rf %s", qemu_dir), 0);
}

int qemu_shell(const char *fmt, ...)
{
    char command[4096];
    va_list args;
    int n = snprintf(command, sizeof(command), "cd %s && ", qemu_dir);

    va_start(args, fmt);
    n += vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, args);
    va_end(args);
    ck_assert_int_lt(n, (int)sizeof(command));
    return system(command); /* NOLINT: commands of our own */
}

bool qemu_is_missing(void)
{
    if (system("qemu-img --version > /dev/null 2>&1 && qemu-io --version > /dev/null 2>&1") == 0)
        return false;
    printf("not run: qemu-img and qemu-io are missing (Debian package qemu-utils)\n");
    return true;
}
