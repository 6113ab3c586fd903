/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port on standard input and output, with escape keys if input is a terminal.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"
#include "vmm/console/console_pump.h"
#include "vmm/console/terminal.h"

#define CTRL_A 0x01

#define HELP_BEGIN "\r\nCtrl-A h       this help\r\nCtrl-A x       end the VM\r\n"
#define HELP_BREAK "Ctrl-A b       send a break\r\n"
#define HELP_END "Ctrl-A Ctrl-A  send Ctrl-A (also Ctrl-A a)\r\n"

struct console_stdio {
    struct console console;
    struct console_pump *pump; /* NULL: not started */
    bool is_terminal;
    bool escaped; /* the last key was Ctrl-A */
};

static struct console_stdio *stdio_of(struct console *console)
{
    return container_of(console, struct console_stdio, console);
}

/* The key after Ctrl-A. True: it sends Ctrl-A to the guest. */
static bool escape_key(struct console_stdio *stdio, uint8_t key)
{
    struct chardev_front *front = stdio->console.front;

    switch (key) {
    case 'a':
    case CTRL_A:
        return true;
    case 'b':
        if (front && front->break_received)
            front->break_received(front);
        break;
    case 'h':
    case '?':
        console_print(&stdio->console, front && !front->break_received
                                           ? HELP_BEGIN HELP_END
                                           : HELP_BEGIN HELP_BREAK HELP_END);
        break;
    case 'x':
        stdio->console.events.quit(stdio->console.events.opaque);
        break;
    default: /* no such key: not worth a beep */
        break;
    }
    return false;
}

static size_t stdio_filter(struct console *console, uint8_t *data, size_t len)
{
    struct console_stdio *stdio = stdio_of(console);
    size_t kept = 0;

    if (!stdio->is_terminal)
        return len;
    terminal_refresh(); /* `fg` tells us nothing, but now somebody types here */
    for (size_t i = 0; i < len; i++) {
        bool escaped = stdio->escaped;

        stdio->escaped = !escaped && data[i] == CTRL_A;
        if (stdio->escaped)
            continue;
        if (!escaped)
            data[kept++] = data[i];
        else if (escape_key(stdio, data[i]))
            data[kept++] = CTRL_A;
    }
    return kept;
}

static void stdio_input_ended(struct console *console)
{
    log_info("end of standard input: the guest gets no more");
    console_end_input(console);
}

/* What a pipe still holds is read when the guest takes it; until then epoll would tell for ever. */
static void stdio_hung_up(struct console *console)
{
    console_suspend_input(console);
}

/* The pump swallows whatever the real output refuses, so only the pipe to it can fail. */
static void stdio_output_failed(struct console *console, int error)
{
    log_warn("standard output: error %d: the guest's output is dropped from here on", error);
    console_disconnect(console);
}

static void on_resized(void *opaque)
{
    console_look_at_size(opaque, STDIN_FILENO);
}

static int start_terminal(struct console *console)
{
    int r = terminal_make_raw(STDIN_FILENO);

    if (r < 0 || !console->is_sized)
        return r;
    console_look_at_size(console, STDIN_FILENO);
    return terminal_watch_size(console->loop, on_resized, console);
}

static int stdio_start(struct console *console, struct err *err)
{
    struct console_stdio *stdio = stdio_of(console);
    int pipe_fd;
    int r;

    r = console_pump_start(STDOUT_FILENO, "standard output", &pipe_fd, &stdio->pump);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot start the thread for standard output",
                             console->name);
    if (stdio->is_terminal) {
        r = start_terminal(console);
        if (r < 0)
            return err_set_errno(err, r, "standard input: cannot set up the terminal");
    }
    console_connect(console, STDIN_FILENO, pipe_fd);
    return 0;
}

static void stdio_close(struct console *console)
{
    struct console_stdio *stdio = stdio_of(console);

    if (stdio->pump)
        (void)console_pump_stop(stdio->pump, console->stalled ? 0 : CONSOLE_CLOSE_STALL_MS,
                                &console->events);
    if (stdio->is_terminal) {
        terminal_unwatch_size();
        terminal_restore();
    }
    console_done(console);
    free(stdio);
}

static const struct console_ops stdio_ops = {
    .start = stdio_start,
    .input_ended = stdio_input_ended,
    .hung_up = stdio_hung_up,
    .output_failed = stdio_output_failed,
    .filter = stdio_filter,
    .close = stdio_close,
};

struct console *console_stdio_new(struct loop *loop)
{
    struct console_stdio *stdio = calloc(1, sizeof(*stdio));

    if (!stdio)
        return NULL;
    console_init(&stdio->console, &stdio_ops, loop);
    stdio->is_terminal = isatty(STDIN_FILENO);
    stdio->console.input_always = stdio->is_terminal;
    return &stdio->console;
}
