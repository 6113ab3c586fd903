/* SPDX-License-Identifier: Apache-2.0 */
#include "img/target.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file_host.h"
#include "base/folder.h"
#include "block/image.h"
#include "block/name.h"
#include "img/chain.h"
#include "img/message.h"

/* A file, resolved when it was made: a link to it may be changed, but is not what we wrote. */
struct target_file {
    char *path; /* NULL: none */
    struct stat st;
};

/* Written before the handlers are there, and after they are gone. */
static struct target_file kept[2];
static bool begun;
static bool remove_files;
static uint64_t (*position_of)(void);

static const int deadly[] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction former[ARRAY_SIZE(deadly)];

/* ---- what signal handlers may do ------------------------------------------------------------- */

struct line {
    char text[1024];
    size_t len;
};

static void line_add(struct line *line, const char *text)
{
    size_t len = strlen(text);
    size_t room = sizeof(line->text) - line->len;

    len = len < room ? len : room;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void line_add_number(struct line *line, uint64_t n)
{
    char digits[24];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    line_add(line, digits + at);
}

/* Is it still the file that we made, and was it removed? */
static bool remove_file(const struct target_file *file)
{
    struct stat now;

    if (lstat(file->path, &now) < 0 || now.st_dev != file->st.st_dev ||
        now.st_ino != file->st.st_ino || !S_ISREG(now.st_mode) || unlink(file->path) < 0)
        return false;
    (void)!folder_sync(file->path, -1); /* at worst it is back after a power cut */
    return true;
}

/* Remove or name each file. */
static void dispose(struct line *line)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        if (!kept[i].path || (remove_files && remove_file(&kept[i])))
            continue;
        line_add(line, line->len ? ": '" : "'");
        line_add(line, kept[i].path);
        line_add(line, "' is incomplete");
    }
}

static void on_signal(int number)
{
    struct line line = {.len = 0};
    size_t i;

    line_add(&line, img_program);
    line_add(&line, ": interrupted by signal ");
    line_add_number(&line, (uint64_t)number);
    line_add(&line, " at byte ");
    line_add_number(&line, position_of());
    dispose(&line);
    line_add(&line, "\n");
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        line.len = 0; /* there is nobody to tell */

    for (i = 0; i < ARRAY_SIZE(deadly) - 1 && deadly[i] != number; i++)
        ;
    (void)sigaction(number, &former[i], NULL); /* the default, and it is blocked until we return */
    (void)raise(number);
}

/* ---- before ---------------------------------------------------------------------------------- */

/* The files that are there already, and their names. */
struct present {
    unsigned n;
    const char *names[2];
    uint64_t ids[2][2];
    char *data_path;
};

static void present_add(struct present *present, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return;
    present->names[present->n] = path;
    file_host_identify(&st, present->ids[present->n++]);
}

static void present_find(struct present *present, const struct target_files *files)
{
    *present = (struct present){.n = 0};
    present_add(present, files->path);
    if (files->data_name &&
        block_name_resolve(files->path, files->data_name, &present->data_path, NULL) == 0)
        present_add(present, present->data_path);
}

static int refuse(const char *name, struct err *err)
{
    return err_set(err, -EINVAL, "'%s' is read for this: it cannot be the output", name);
}

int target_check_input(const struct target_files *files, const struct block *input, struct err *err)
{
    struct present present;
    int r = 0;

    present_find(&present, files);
    for (unsigned i = 0; r == 0 && i < present.n; i++)
        if (block_uses_file(input, present.ids[i]))
            r = refuse(present.names[i], err);
    free(present.data_path);
    return r;
}

int target_check_backing(const struct target_files *files, const char *backing,
                         enum block_format format, struct err *err)
{
    struct present present;
    struct block_name name = {.path = NULL};
    int r = 0;

    present_find(&present, files);
    if (present.n == 2 && memcmp(present.ids[0], present.ids[1], sizeof(present.ids[0])) == 0)
        r = err_set(err, -EINVAL, "'%s' cannot be the image and its data file", files->path);
    if (r == 0 && backing && block_name_below(files->path, backing, NULL, &name, NULL) == 0) {
        name.format = format != BLOCK_FORMAT_PROBE ? format : name.format;
        for (unsigned i = 0; r == 0 && i < present.n; i++)
            if (chain_has_file(&name, present.ids[i]))
                r = refuse(present.names[i], err);
    }
    block_name_done(&name);
    free(present.data_path);
    return r;
}

bool target_is_zero(const struct block *target, bool made, bool promised)
{
    return promised || (made && block_new_is_zero(target));
}

/* ---- begin and end --------------------------------------------------------------------------- */

static void file_set(struct target_file *file, const char *path)
{
    file->path = path ? realpath(path, NULL) : NULL;
    if (file->path && stat(file->path, &file->st) < 0) {
        free(file->path);
        file->path = NULL;
    }
}

void target_begin(const char *path, const char *data_path, bool made, uint64_t (*position)(void))
{
    struct sigaction action = {.sa_handler = on_signal};

    file_set(&kept[0], path);
    file_set(&kept[1], data_path);
    begun = true;
    remove_files = made;
    position_of = position;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(deadly); i++)
        (void)sigaddset(&action.sa_mask, deadly[i]);
    for (size_t i = 0; i < ARRAY_SIZE(deadly); i++) {
        (void)sigaction(deadly[i], NULL, &former[i]); /* cannot fail for signals that exist */
        if (former[i].sa_handler == SIG_DFL)          /* nohup ignores one, and is to be obeyed */
            (void)sigaction(deadly[i], &action, NULL);
    }
}

void target_end(bool complete)
{
    struct line line = {.len = 0};

    if (!begun)
        return;
    begun = false;
    for (size_t i = 0; i < ARRAY_SIZE(deadly); i++)
        (void)sigaction(deadly[i], &former[i], NULL);
    if (!complete) {
        dispose(&line);
        if (line.len > 0)
            img_error("%.*s", (int)line.len, line.text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        free(kept[i].path);
        kept[i].path = NULL;
    }
}
