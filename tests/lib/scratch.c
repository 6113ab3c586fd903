#include "tests/lib/scratch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define COMMAND_MAX 4096

static char folder[64];

static void die(const char *what)
{
    fprintf(stderr, "scratch: %s\n", what);
    abort();
}

void scratch_set_up(void)
{
    strcpy(folder, "/tmp/minivmm-test-XXXXXX");
    if (!mkdtemp(folder))
        die("cannot make a temporary folder");
}

void scratch_tear_down(void)
{
    if (scratch_shell("rm -rf %s", folder) != 0)
        die("cannot remove the temporary folder");
}

const char *scratch_path(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

int scratch_shell(const char *fmt, ...)
{
    char command[COMMAND_MAX];
    int at = snprintf(command, sizeof(command), "cd %s && ", folder);
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(command + at, sizeof(command) - (size_t)at, fmt, args);
    va_end(args);
    if (n < 0 || n >= COMMAND_MAX - at)
        die("a command is too long");
    n = system(command); /* NOLINT: commands of our own */
    return WIFEXITED(n) ? WEXITSTATUS(n) : -1;
}

bool scratch_has_qemu(void)
{
    return system("qemu-img --version > /dev/null 2>&1 && qemu-io --version > /dev/null 2>&1") == 0;
}
