/*
 * The serial port on a unix socket that we listen on: one client at a time, and any number one
 * after the other. The next one waits in the socket's queue meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/console_impl.h"

struct console_unix {
    struct console console;
    const char *path;        /* the configuration's */
    struct loop_fd listener; /* fd -1: not open */
    struct sockaddr_un addr;
    struct stat made;  /* the socket that we made, so that we unlink no other */
    int client_fds[2]; /* the client, twice: input and output; -1: none */
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

static void listen_again(struct console_unix *un)
{
    int r = loop_add_fd(un->console.loop, &un->listener);

    if (r < 0)
        log_warn("%s: cannot wait for clients: %s", un->addr.sun_path, strerror(-r));
}

static void drop_client(struct console *console)
{
    struct console_unix *un = unix_of(console);

    console_disconnect(console);
    close_client(un);
    log_info("%s: client gone", un->addr.sun_path);
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

static void on_client(struct loop_fd *watch, uint32_t events)
{
    struct console_unix *un = container_of(watch, struct console_unix, listener);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
        return;
    un->client_fds[0] = fd;
    un->client_fds[1] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (un->client_fds[1] < 0) {
        log_warn("%s: cannot take a client: %s: no more are taken", un->addr.sun_path,
                 strerror(errno));
        close_client(un);
    }
    /* One at a time; and without descriptors the next one would make us spin. */
    loop_remove_fd(watch);
    if (un->client_fds[1] < 0)
        return;
    log_info("%s: client connected", un->addr.sun_path);
    console_connect(&un->console, un->client_fds[0], un->client_fds[1]);
}

/* ---- the socket ------------------------------------------------------------------------------ */

/* Is it a socket that a process left behind, with nobody listening? */
static bool is_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    bool refused;
    int fd;

    if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    refused =
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_socket(int fd, const struct sockaddr_un *addr, struct err *err)
{
    const struct sockaddr *any = (const struct sockaddr *)addr;
    int r;

    if (bind(fd, any, sizeof(*addr)) == 0)
        return 0;
    if (errno == EADDRINUSE && is_stale(addr) && unlink(addr->sun_path) == 0 &&
        bind(fd, any, sizeof(*addr)) == 0)
        return 0;
    r = -errno;
    if (r == -EADDRINUSE)
        return err_set(err, r, "%s: exists: expected a new path, or a socket nobody listens on",
                       addr->sun_path);
    return err_set_errno(err, r, "%s: cannot make a socket", addr->sun_path);
}

/* Unlink what we made, and nothing that has taken its place. */
static void unlink_socket(const struct console_unix *un)
{
    struct stat now;

    if (lstat(un->addr.sun_path, &now) == 0 && now.st_dev == un->made.st_dev &&
        now.st_ino == un->made.st_ino)
        (void)unlink(un->addr.sun_path); /* at worst the next start finds it stale */
}

static int open_listener(struct console_unix *un, struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return err_set_errno(err, -errno, "%s: cannot make a socket", un->addr.sun_path);
    r = bind_socket(fd, &un->addr, err);
    if (r < 0)
        goto close_fd;
    un->listener.fd = fd;
    if (lstat(un->addr.sun_path, &un->made) < 0 || listen(fd, 1) < 0)
        r = -errno;
    if (r == 0)
        r = loop_add_fd(un->console.loop, &un->listener);
    if (r == 0)
        return 0;
    err_set_errno(err, r, "%s: cannot wait for clients", un->addr.sun_path);
    unlink_socket(un);

close_fd:
    close(fd);
    un->listener.fd = -1;
    return r;
}

static int unix_start(struct console *console, struct err *err)
{
    struct console_unix *un = unix_of(console);
    size_t len = strlen(un->path);

    if (len >= sizeof(un->addr.sun_path))
        return err_set(err, -ENAMETOOLONG, "%.200s: expected a socket path of at most %zu bytes",
                       un->path, sizeof(un->addr.sun_path) - 1);
    un->addr.sun_family = AF_UNIX;
    memcpy(un->addr.sun_path, un->path, len); /* fits, and zeroes follow */
    return open_listener(un, err);
}

static void unix_close(struct console *console)
{
    struct console_unix *un = unix_of(console);

    close_client(un);
    if (un->listener.fd >= 0) {
        loop_remove_fd(&un->listener);
        close(un->listener.fd);
        unlink_socket(un);
    }
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
    un->path = path;
    un->listener = (struct loop_fd){.fd = -1, .events = EPOLLIN, .ready = on_client};
    un->client_fds[0] = -1;
    un->client_fds[1] = -1;
    return &un->console;
}
