/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/console.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"
#include "vmm/console/terminal.h"

/* Refuse an output that is one of the VM's files, before the guest's memory is made. */
static int check_outputs(enum serial_kind kind, const char *path, const struct open_files *files,
                         struct err *err)
{
    int r = 0;

    if (kind == SERIAL_STDIO)
        r = open_files_check_fd(files, STDOUT_FILENO, "standard output", err);
    else if (path)
        r = open_files_check_path(files, path, err);
    if (r < 0)
        err_prefix(err, "serial port");
    return r;
}

int console_new(enum serial_kind kind, const char *path, const struct open_files *files,
                struct loop *loop, const struct console_events *events,
                struct console **ret_console, struct err *err)
{
    struct console *console = NULL;
    int r = check_outputs(kind, path, files, err);

    if (r < 0)
        return r;

    switch (kind) {
    case SERIAL_STDIO:
        console = console_stdio_new(loop);
        break;
    case SERIAL_PTY:
        console = console_pty_new(loop);
        break;
    case SERIAL_UNIX:
        console = console_unix_new(path, loop);
        break;
    case SERIAL_FILE:
        console = console_file_new(path, files, loop);
        break;
    case SERIAL_NULL:
        console = console_file_new(NULL, files, loop);
        break;
    }
    if (!console)
        return err_set(err, -ENOMEM, "serial port: out of memory");
    console->events = *events;
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
