/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/console.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"
#include "vmm/console/terminal.h"

/* Refuse an output that is one of the VM's files, before the guest's memory is made. */
static int check_outputs(const struct console_options *options, struct err *err)
{
    int r = 0;

    if (options->kind == SERIAL_STDIO)
        r = open_files_check_fd(options->files, STDOUT_FILENO, "standard output", err);
    else if (options->path)
        r = open_files_check_path(options->files, options->path, err);
    if (r < 0)
        err_prefix(err, "%s", options->name);
    return r;
}

static struct console *make(const struct console_options *options)
{
    switch (options->kind) {
    case SERIAL_STDIO:
        return console_stdio_new(options->loop);
    case SERIAL_PTY:
        return console_pty_new(options->loop);
    case SERIAL_UNIX:
        return console_unix_new(options->path, options->loop);
    case SERIAL_FILE:
        return console_file_new(options->path, options->files, options->loop);
    case SERIAL_NULL:
        return console_file_new(NULL, options->files, options->loop);
    }
    return NULL;
}

int console_new(const struct console_options *options, struct console **ret_console,
                struct err *err)
{
    struct console *console;
    int r = check_outputs(options, err);

    if (r < 0)
        return r;
    console = make(options);
    if (!console)
        return err_set(err, -ENOMEM, "%s: out of memory", options->name);
    console->name = options->name;
    console->is_sized = options->is_sized;
    console->events = options->events;
    *ret_console = console;
    return 0;
}

int console_start(struct console *console, struct err *err)
{
    return console->ops->start(console, err);
}

void console_close(struct console *console)
{
    if (!console)
        return;
    console->front = NULL;
    console_drain(console);
    console_disconnect(console);
    console->ops->close(console);
}

const char *console_pty_name(const struct console *console)
{
    return console->pty_name;
}

const struct byte_queue *console_shown(const struct console *console)
{
    return &console->shown;
}

struct chardev *console_chardev(struct console *console)
{
    return &console->chardev;
}

void console_restore_terminal(void)
{
    terminal_restore();
}
