/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port's output into a file, or nowhere. There is no input. A file may lie on a disk
 * that hangs, or is slow, so another thread writes to it: the main loop has the power button to
 * press.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_host.h"
#include "base/log.h"
#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"
#include "vmm/console/console_pump.h"

struct console_file {
    struct console console;
    int fd;                    /* -1: not open */
    struct console_pump *pump; /* NULL: not started */
    const char *path;          /* the configuration's; NULL: nowhere */
    struct open_files *files;
    uint64_t id[2]; /* among these files */
    bool is_noted;
};

static struct console_file *file_of(struct console *console)
{
    return container_of(console, struct console_file, console);
}

/* Never connected to any input. */
static void file_no_input(struct console *console)
{
    console_end_input(console);
}

/* The pump swallows whatever the file refuses, so only the pipe to it can fail. */
static void file_output_failed(struct console *console, int error)
{
    log_warn("%s: error %d: the guest's output is dropped from here on", file_of(console)->path,
             error);
    console_disconnect(console);
}

static void file_close(struct console *console)
{
    struct console_file *file = file_of(console);
    unsigned stall_ms = console->stalled ? 0 : CONSOLE_CLOSE_STALL_MS;
    bool written = !file->pump || console_pump_stop(file->pump, stall_ms, &console->events);

    if (file->is_noted)
        open_files_remove(file->files, file->id);
    if (written && file->fd >= 0 && close(file->fd) < 0)
        log_warn("%s: %s", file->path, strerror(errno));
    console_done(console);
    free(file);
}

/*
 * Two ports that print into one file would overwrite each other. A device or a pipe takes what
 * comes.
 */
static int note_output(struct console_file *file, struct err *err)
{
    struct open_file_use use = {.path = file->path, .writable = true};
    struct stat st;
    int r;

    if (fstat(file->fd, &st) < 0)
        return err_set_errno(err, -errno, "%s: cannot stat", file->path);
    if (!S_ISREG(st.st_mode))
        return 0;
    (void)snprintf(use.role, sizeof(use.role), "the output of the %s", file->console.name);
    file_host_identify(&st, file->id);
    r = open_files_add(file->files, file->id, &use, err);
    file->is_noted = r == 0;
    return r;
}

static int file_start(struct console *console, struct err *err)
{
    struct console_file *file = file_of(console);
    int pipe_fd = -1;
    int r;

    if (!file->path)
        return 0;
    r = open_files_open_output(file->files, file->path, &file->fd, err);
    if (r == 0)
        r = note_output(file, err);
    if (r == 0) {
        r = console_pump_start(file->fd, file->path, &pipe_fd, &file->pump);
        if (r < 0)
            err_set_errno(err, r, "%s: cannot start the thread that writes to it", file->path);
    }
    if (r < 0) {
        err_prefix(err, "%s", console->name);
        return r;
    }
    console_connect(console, -1, pipe_fd);
    return 0;
}

static const struct console_ops file_ops = {
    .start = file_start,
    .input_ended = file_no_input,
    .hung_up = file_no_input,
    .output_failed = file_output_failed,
    .close = file_close,
};

struct console *console_file_new(const char *path, struct open_files *files, struct loop *loop)
{
    struct console_file *file = calloc(1, sizeof(*file));

    if (!file)
        return NULL;
    file->path = path;
    file->files = files;
    file->fd = -1;
    console_init(&file->console, &file_ops, loop);
    return &file->console;
}
