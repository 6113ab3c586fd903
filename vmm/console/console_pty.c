/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port on a pseudo-terminal: its name is printed, and any terminal program may open it.
 *
 * While nobody has it open, the master only hangs up, again and again, so it cannot be watched
 * then. inotify tells when somebody opens the slave: an idle VM is not woken up.
 *
 * What was shown is not sent again to the next one, who may be the same program, but kept for those
 * who ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"

/* One event has no name: the watch is on a file. */
#define INOTIFY_EVENTS 16

struct console_pty {
    struct console console;
    struct loop_fd opened; /* inotify */
    int master_fds[2];     /* the master, twice: input and output */
    char name[64];
};

static struct console_pty *pty_of(struct console *console)
{
    return container_of(console, struct console_pty, console);
}

static bool has_reader(const struct console_pty *pty)
{
    struct pollfd pfd = {.fd = pty->master_fds[0]};

    return poll(&pfd, 1, 0) == 0; /* neither hang-up nor error */
}

static void connect_reader(struct console_pty *pty)
{
    if (pty->console.output.fd >= 0 || !has_reader(pty))
        return;
    console_look_at_size(&pty->console, pty->master_fds[0]);
    console_connect(&pty->console, pty->master_fds[0], pty->master_fds[1]);
}

static void on_opened(struct loop_fd *watch, uint32_t events)
{
    struct inotify_event buf[INOTIFY_EVENTS];

    /* What the events say does not matter: the pty itself is asked. */
    while (read(watch->fd, buf, sizeof(buf)) > 0)
        ;
    connect_reader(container_of(watch, struct console_pty, opened));
}

/* Nobody tells the master that the terminal's size has changed: it is seen when somebody types. */
static size_t pty_filter(struct console *console, uint8_t *data, size_t len)
{
    console_look_at_size(console, pty_of(console)->master_fds[0]);
    return len;
}

/* The last reader closed the slave, unless another has opened it already. */
static void pty_hung_up(struct console *console)
{
    console_disconnect(console);
    connect_reader(pty_of(console));
}

static void pty_output_failed(struct console *console, int error)
{
    pty_hung_up(console);
}

/*
 * Set the slave raw, before anybody uses it: echoing would send the guest its own output. The
 * setting stays while the master is open.
 */
static int make_slave_raw(const struct console_pty *pty)
{
    int slave = open(pty->name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios termios;
    int r = 0;

    if (slave < 0)
        return -errno;
    if (tcgetattr(slave, &termios) < 0)
        r = -errno;
    cfmakeraw(&termios);
    if (r == 0 && tcsetattr(slave, TCSANOW, &termios) < 0)
        r = -errno;
    close(slave);
    return r;
}

static int open_master(struct console_pty *pty)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    int r;

    pty->master_fds[0] = fd;
    if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0)
        return -errno;
    r = ptsname_r(fd, pty->name, sizeof(pty->name));
    if (r != 0)
        return -r;
    r = make_slave_raw(pty);
    if (r < 0)
        return r;
    pty->master_fds[1] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return pty->master_fds[1] < 0 ? -errno : 0;
}

/* After make_slave_raw, whose open and close are not to be noticed. */
static int watch_slave(struct console_pty *pty)
{
    pty->opened.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (pty->opened.fd < 0 || inotify_add_watch(pty->opened.fd, pty->name, IN_OPEN) < 0)
        return -errno;
    return loop_add_fd(pty->console.loop, &pty->opened);
}

static int pty_start(struct console *console, struct err *err)
{
    struct console_pty *pty = pty_of(console);
    int r;

    r = open_master(pty);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot make a pseudo-terminal", console->name);
    r = watch_slave(pty);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot watch who opens it (fs.inotify limits?)",
                             pty->name);
    console->pty_name = pty->name;
    log_say("%s: %s", console->name, pty->name);
    return 0;
}

static void pty_close(struct console *console)
{
    struct console_pty *pty = pty_of(console);

    for (size_t i = 0; i < ARRAY_SIZE(pty->master_fds); i++) {
        if (pty->master_fds[i] >= 0)
            close(pty->master_fds[i]);
    }
    if (pty->opened.fd >= 0) {
        loop_remove_fd(&pty->opened);
        close(pty->opened.fd);
    }
    console_done(console);
    free(pty);
}

static const struct console_ops pty_ops = {
    .start = pty_start,
    .input_ended = pty_hung_up,
    .hung_up = pty_hung_up,
    .output_failed = pty_output_failed,
    .filter = pty_filter,
    .close = pty_close,
};

struct console *console_pty_new(struct loop *loop)
{
    struct console_pty *pty = calloc(1, sizeof(*pty));

    if (!pty)
        return NULL;
    console_init(&pty->console, &pty_ops, loop);
    pty->console.backlog_max = CONSOLE_BUFFER_FULL;
    pty->console.shown_max = CONSOLE_SHOWN_MAX;
    pty->master_fds[0] = -1;
    pty->master_fds[1] = -1;
    pty->opened = (struct loop_fd){.fd = -1, .events = EPOLLIN, .ready = on_opened};
    return &pty->console;
}
