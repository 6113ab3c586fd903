#include "img/target.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_ops.h"
#include "img/img.h"
#include "vmm/base/bytes.h"

/* A file, resolved when it was made: a link to it may be changed, but is not what we wrote. */
struct target_file {
    char *path; /* NULL: none */
    struct stat st;
};

/* Written before the handlers are there, and after they are gone. */
static struct target_file files[2];
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

    return lstat(file->path, &now) == 0 && now.st_dev == file->st.st_dev &&
           now.st_ino == file->st.st_ino && S_ISREG(now.st_mode) && unlink(file->path) == 0;
}

/* Remove or name each file. */
static void dispose(struct line *line)
{
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (!files[i].path || (remove_files && remove_file(&files[i])))
            continue;
        line_add(line, line->len ? ": '" : "'");
        line_add(line, files[i].path);
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

bool target_is_source(const char *path, struct block *block)
{
    const struct block *layer = block;
    struct stat target;
    struct stat st;

    if (stat(path, &target) < 0)
        return false;
    while (layer) {
        struct block_details details;

        block_get_details(layer, &details);
        if (stat(details.path, &st) == 0 && st.st_dev == target.st_dev &&
            st.st_ino == target.st_ino)
            return true;
        layer = details.backing;
    }
    return false;
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

    file_set(&files[0], path);
    file_set(&files[1], data_path);
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
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        free(files[i].path);
        files[i].path = NULL;
    }
}
