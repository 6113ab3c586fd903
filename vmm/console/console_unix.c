/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port on a unix socket that we listen on: one client at a time, and any number one
 * after the other. The next one waits in the socket's queue meanwhile. It begins with the end of
 * what the others were shown, so that it sees more than an empty screen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix_socket.h"
#include "vmm/console/console_backends.h"
#include "vmm/console/console_core.h"

/* How long to do without a client for whom there were no descriptors. */
#define RETRY_NS 1000000000ull

struct console_unix {
    struct console console;
    const char *path; /* the configuration's */
    struct unix_socket socket;
    struct loop_fd listener; /* the same descriptor; watched while there is no client */
    struct loop_timer retry; /* armed while no client can be taken */
    bool failed;             /* and the user was told */
    int client_fds[2];       /* the client, twice: input and output; -1: none */
};

static struct console_unix *unix_of(struct console *console)
{
    return container_of(console, struct console_unix, console);
}

static void close_client(struct console_unix *un)
{
    for (size_t i = 0; i < ARRAY_SIZE(un->client_fds); i++) {
        if (un->client_fds[i] >= 0)
            close(un->client_fds[i]);
        un->client_fds[i] = -1;
    }
}

/* ---- clients --------------------------------------------------------------------------------- */

/* Take no client for a while: the same would happen again at once. */
static void listen_later(struct console_unix *un, const char *why, int error)
{
    if (!un->failed)
        log_warn("%s: %s: %s: trying again", un->path, why, strerror(error));
    un->failed = true;
    loop_remove_fd(&un->listener);
    loop_arm(un->console.loop, &un->retry, RETRY_NS);
}

static void listen_again(struct console_unix *un)
{
    int r = loop_add_fd(un->console.loop, &un->listener);

    if (r < 0)
        listen_later(un, "cannot wait for clients", -r);
}

static void on_retry(struct loop_timer *timer)
{
    listen_again(container_of(timer, struct console_unix, retry));
}

static void drop_client(struct console *console)
{
    struct console_unix *un = unix_of(console);

    console_disconnect(console);
    close_client(un);
    log_info("%s: client gone", un->path);
    listen_again(un);
}

/* It may have closed that direction only, and go on reading. */
static void unix_input_ended(struct console *console)
{
    console->input_eof = true;
}

static void unix_output_failed(struct console *console, int error)
{
    drop_client(console);
}

/*
 * The next client into client_fds. 0 or -errno: the client waits then. Its second descriptor is
 * there before it is, so that it is not taken only to be sent away.
 */
static int accept_client(struct console_unix *un)
{
    int second = fcntl(un->listener.fd, F_DUPFD_CLOEXEC, 0);
    int r = second < 0 ? -errno : 0;

    if (r == 0) {
        un->client_fds[0] = accept4(un->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        un->client_fds[1] = second;
    }
    if (r == 0 && (un->client_fds[0] < 0 || dup3(un->client_fds[0], second, O_CLOEXEC) < 0)) {
        r = -errno;
        close_client(un);
    }
    return r;
}

static void on_client(struct loop_fd *watch, uint32_t events)
{
    struct console_unix *un = container_of(watch, struct console_unix, listener);
    int r = accept_client(un);

    if (r == -EAGAIN || r == -EINTR || r == -ECONNABORTED)
        return;
    if (r < 0) {
        listen_later(un, "cannot take a client", -r);
        return;
    }
    un->failed = false;
    loop_remove_fd(watch); /* one at a time */
    log_info("%s: client connected", un->path);
    console_connect(&un->console, un->client_fds[0], un->client_fds[1]);
}

/* ---- start and end --------------------------------------------------------------------------- */

static int unix_start(struct console *console, struct err *err)
{
    struct console_unix *un = unix_of(console);
    int r = unix_socket_listen(un->path, &un->socket, err);

    if (r == 0) {
        un->listener.fd = un->socket.fd;
        r = loop_add_fd(console->loop, &un->listener);
        if (r < 0)
            err_set_errno(err, r, "%s: cannot wait for clients", un->path);
    }
    if (r < 0)
        err_prefix(err, "%s", console->name);
    return r;
}

static void unix_close(struct console *console)
{
    struct console_unix *un = unix_of(console);

    close_client(un);
    loop_disarm(&un->retry);
    loop_remove_fd(&un->listener);
    unix_socket_close(&un->socket);
    console_done(console);
    free(un);
}

static const struct console_ops unix_ops = {
    .start = unix_start,
    .input_ended = unix_input_ended,
    .hung_up = drop_client,
    .output_failed = unix_output_failed,
    .close = unix_close,
};

struct console *console_unix_new(const char *path, struct loop *loop)
{
    struct console_unix *un = calloc(1, sizeof(*un));

    if (!un)
        return NULL;
    console_init(&un->console, &unix_ops, loop);
    un->console.backlog_max = CONSOLE_BUFFER_FULL;
    un->console.shown_max = CONSOLE_SHOWN_MAX;
    un->console.repeats = true;
    un->path = path;
    un->socket.fd = -1;
    un->listener = (struct loop_fd){.fd = -1, .events = EPOLLIN, .ready = on_client};
    un->retry.expired = on_retry;
    un->client_fds[0] = -1;
    un->client_fds[1] = -1;
    return &un->console;
}
