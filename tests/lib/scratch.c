/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/scratch.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define COMMAND_MAX 8192

/* Files that one test may name. */
#define PATHS_MAX 128
#define PATH_LEN 256

#define TEMPLATE "minivmm-test-XXXXXX"

static char program_folder[64];
static char folder[128]; /* of the test, or the program's */
static char paths[PATHS_MAX][PATH_LEN];

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* ---- folders --------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static bool keeps(void)
{
    const char *text = getenv("KEEP");

    return text && strcmp(text, "0") != 0;
}

static void remove_folder(const char *path)
{
    if (!keeps() && nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS) < 0)
        perror(path);
}

static void use_folder(const char *path)
{
    snprintf(folder, sizeof(folder), "%s", path);
    memset(paths, 0, sizeof(paths));
}

void scratch_begin(void)
{
    strcpy(program_folder, "/tmp/" TEMPLATE);
    if (!mkdtemp(program_folder))
        die(program_folder);
    use_folder(program_folder);
}

void scratch_end(void)
{
    if (keeps())
        printf("files of the tests: %s\n", program_folder);
    remove_folder(program_folder);
}

void scratch_set_up(void)
{
    char path[sizeof(folder)];

    snprintf(path, sizeof(path), "%s/XXXXXX", program_folder);
    if (!mkdtemp(path))
        die(path);
    use_folder(path);
}

void scratch_tear_down(void)
{
    remove_folder(folder);
    use_folder(program_folder);
}

/* ---- files ----------------------------------------------------------------------------------- */

const char *scratch_path(const char *name)
{
    char path[PATH_LEN];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    for (size_t i = 0; i < PATHS_MAX; i++) {
        if (paths[i][0] == '\0')
            memcpy(paths[i], path, sizeof(path));
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    fprintf(stderr, "%s: more than %d files in one test\n", path, PATHS_MAX);
    exit(EXIT_FAILURE);
}

void scratch_save(const char *name, const void *data, size_t len)
{
    const char *path = scratch_path(name);
    FILE *file = fopen(path, "wb");

    if (!file || fwrite(data, 1, len, file) != len || fclose(file) != 0)
        die(path);
}

size_t scratch_load(const char *name, void *data, size_t max)
{
    const char *path = scratch_path(name);
    FILE *file = fopen(path, "rb");
    size_t len;

    if (!file)
        die(path);
    len = fread(data, 1, max, file);
    if (ferror(file) || fclose(file) != 0)
        die(path);
    return len;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* Make a command that runs in the folder; returns where it begins after that. */
static const char *PRINTF_LIKE(2, 0) make_command(char *command, const char *fmt, va_list args)
{
    int at = snprintf(command, COMMAND_MAX, "cd %s && ", folder);

    if (vsnprintf(command + at, COMMAND_MAX - (size_t)at, fmt, args) >= COMMAND_MAX - at)
        ck_abort_msg("a command is too long: %s", command);
    return command + at;
}

static int run_command(const char *command)
{
    int status = system(command); /* NOLINT: commands of our own */

    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int scratch_shell(const char *fmt, ...)
{
    char command[COMMAND_MAX];
    va_list args;

    va_start(args, fmt);
    (void)make_command(command, fmt, args);
    va_end(args);
    return run_command(command);
}

void scratch_ok(const char *fmt, ...)
{
    char command[COMMAND_MAX];
    const char *text;
    va_list args;
    int status;

    va_start(args, fmt);
    text = make_command(command, fmt, args);
    va_end(args);
    status = run_command(command);
    ck_assert_msg(status == 0, "exit status %d of: %s", status, text);
}

bool scratch_has_qemu(void)
{
    if (system("qemu-img --version > /dev/null 2>&1 && qemu-io --version > /dev/null 2>&1") == 0)
        return true;
    printf("not run: what needs qemu-img and qemu-io (Debian package qemu-utils)\n");
    fflush(stdout);
    return false;
}
