/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vsock_unix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/unix_socket.h"

/* "CONNECT 4294967295\n" with room for blanks. */
#define LINE_MAX_LEN 64u

/* How long a client may take to say where to. */
#define LINE_NS (10 * NS_PER_S)

/* Clients that wait to be taken. */
#define QUEUE_LEN 128

/* How long to do without clients for whom there were no descriptors. */
#define RETRY_NS NS_PER_S

struct vsock_unix {
    struct vsock_host host;
    struct vsock_unix_options options;
    struct unix_socket socket;
    struct loop_fd listener; /* watched while there may be more clients */
    struct loop_timer retry;
    bool failed; /* and the user was told */
    struct list clients;
    unsigned nclients;
    int result; /* of what was called on the loop's thread */
};

/* Somebody who has connected and did not say yet where to. */
struct client {
    struct vsock_unix *un;
    struct list link;
    struct loop_fd socket;
    struct loop_timer patience;
};

static struct vsock_unix *unix_of(struct vsock_host *host)
{
    return container_of(host, struct vsock_unix, host);
}

/* ---- from the guest -------------------------------------------------------------------------- */

/* 0; -ECONNREFUSED: the guest may not; -ENAMETOOLONG. */
static int find_address(const struct vsock_unix *un, uint32_t port, struct sockaddr_un *ret_addr)
{
    const size_t room = sizeof(ret_addr->sun_path);
    int len = 0;

    ret_addr->sun_family = AF_UNIX;
    for (size_t i = 0; i < un->options.nmaps && len == 0; i++)
        if (un->options.maps[i].port == port)
            len = snprintf(ret_addr->sun_path, room, "%s", un->options.maps[i].path);
    if (len == 0 && un->options.listen)
        len = snprintf(ret_addr->sun_path, room, "%s_%u", un->options.path, port);
    if (len == 0)
        return -ECONNREFUSED;
    if ((size_t)len < room)
        return 0;
    log_guest(LOG_WARN, "vsock: port %u: the name of its socket is too long", port);
    return -ENAMETOOLONG;
}

static int unix_connect(struct vsock_host *host, uint32_t port)
{
    struct sockaddr_un addr;
    int r = find_address(unix_of(host), port, &addr);
    int fd;

    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        r = -errno;
        log_guest(LOG_WARN, "vsock: no socket for a connection of the guest: %s", strerror(-r));
        return r;
    }
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    r = -errno;
    close(fd);
    if (r != -EAGAIN)
        log_guest(LOG_DEBUG, "vsock: the guest cannot reach %s: %s", addr.sun_path, strerror(-r));
    return r;
}

/* ---- to the guest ---------------------------------------------------------------------------- */

static void watch_listener(struct vsock_unix *un);

/* Forget a client whose descriptor is closed, or somebody else's. */
static void drop_client(struct client *client)
{
    struct vsock_unix *un = client->un;

    loop_disarm(&client->patience);
    list_remove(&client->link);
    free(client);
    if (un->nclients-- == VSOCK_UNIX_CLIENTS_MAX)
        watch_listener(un);
}

static void close_client(struct client *client)
{
    loop_remove_fd(&client->socket);
    close(client->socket.fd);
    drop_client(client);
}

static void patience_is_over(struct loop_timer *timer)
{
    close_client(container_of(timer, struct client, patience));
}

/* "CONNECT PORT", without the end of the line. */
static int parse_line(char *line, uint32_t *ret_port)
{
    char *save;
    const char *word = strtok_r(line, " \t\r", &save);
    const char *number = strtok_r(NULL, " \t\r", &save);
    uint64_t port;

    if (!word || !number || strtok_r(NULL, " \t\r", &save) || strcasecmp(word, "connect") != 0 ||
        parse_u64(number, &port) < 0 || port >= UINT32_MAX)
        return -EINVAL;
    *ret_port = (uint32_t)port;
    return 0;
}

/*
 * Take the line off the socket and no more: what follows is for the guest. 0; -EAGAIN: it has not
 * ended yet; another -errno: nothing will come of it.
 */
static int read_line(int fd, uint32_t *ret_port)
{
    char line[LINE_MAX_LEN + 1];
    ssize_t n = recv(fd, line, LINE_MAX_LEN, MSG_PEEK | MSG_DONTWAIT);
    const char *newline;

    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    newline = memchr(line, '\n', (size_t)n);
    if (!newline)
        return n == 0 || n == LINE_MAX_LEN ? -EINVAL : -EAGAIN;
    n = recv(fd, line, (size_t)(newline - line) + 1, MSG_DONTWAIT);
    if (n < 1)
        return -EIO;
    line[n - 1] = '\0';
    return strlen(line) == (size_t)n - 1 ? parse_line(line, ret_port) : -EINVAL;
}

/* Watched for edges: a line that is not complete stays in the socket. */
static void client_ready(struct loop_fd *watch, uint32_t events)
{
    struct client *client = container_of(watch, struct client, socket);
    struct vsock_guest *guest = client->un->host.guest;
    uint32_t port = 0;
    int r = read_line(watch->fd, &port);

    if (r == -EAGAIN && !(events & EPOLLHUP))
        return;
    if (r < 0 || !guest) {
        close_client(client);
        return;
    }
    loop_remove_fd(watch);
    if (guest->connect(guest, watch->fd, port) < 0)
        close(watch->fd);
    drop_client(client);
}

static int add_client(struct vsock_unix *un, int fd)
{
    struct client *client = calloc(1, sizeof(*client));
    int r = -ENOMEM;

    if (client) {
        client->un = un;
        client->socket =
            (struct loop_fd){.fd = fd, .events = EPOLLIN | EPOLLET, .ready = client_ready};
        client->patience.expired = patience_is_over;
        r = loop_add_fd(un->options.loop, &client->socket);
    }
    if (r < 0) {
        free(client);
        return r;
    }
    loop_arm(un->options.loop, &client->patience, LINE_NS);
    list_add_tail(&un->clients, &client->link);
    un->nclients++;
    return 0;
}

/* ---- the listener ---------------------------------------------------------------------------- */

/* Take no client for a while: the same would happen again at once. */
static void listen_later(struct vsock_unix *un, int error)
{
    if (!un->failed)
        log_warn("%s: cannot take a client: %s: trying again", un->options.path, strerror(error));
    un->failed = true;
    loop_remove_fd(&un->listener);
    loop_arm(un->options.loop, &un->retry, RETRY_NS);
}

static void watch_listener(struct vsock_unix *un)
{
    int r = 0;

    if (!un->listener.loop && un->nclients < VSOCK_UNIX_CLIENTS_MAX)
        r = loop_add_fd(un->options.loop, &un->listener);
    if (r < 0)
        listen_later(un, -r);
}

static void on_retry(struct loop_timer *timer)
{
    watch_listener(container_of(timer, struct vsock_unix, retry));
}

static void on_client(struct loop_fd *watch, uint32_t events)
{
    struct vsock_unix *un = container_of(watch, struct vsock_unix, listener);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int r = fd < 0 ? -errno : add_client(un, fd);

    if (fd >= 0 && r < 0)
        close(fd);
    if (r == -EAGAIN || r == -EINTR || r == -ECONNABORTED)
        return;
    if (r < 0) {
        listen_later(un, -r);
        return;
    }
    un->failed = false;
    if (un->nclients == VSOCK_UNIX_CLIENTS_MAX)
        loop_remove_fd(watch);
}

/* ---- start and end --------------------------------------------------------------------------- */

static void start_on_loop(void *opaque)
{
    struct vsock_unix *un = opaque;

    un->result = loop_add_fd(un->options.loop, &un->listener);
}

int vsock_unix_new(const struct vsock_unix_options *options, struct vsock_unix **ret_host,
                   struct err *err)
{
    struct vsock_unix *un = calloc(1, sizeof(*un));
    int r;

    if (!un)
        return err_set(err, -ENOMEM, "vsock: out of memory");
    un->options = *options;
    un->host.connect = unix_connect;
    list_init(&un->clients);
    un->retry.expired = on_retry;
    r = unix_socket_listen(options->path, &un->socket, err);
    if (r < 0) {
        err_prefix(err, "vsock");
        free(un);
        return r;
    }
    (void)listen(un->socket.fd, QUEUE_LEN); /* it listens: this makes its queue longer */
    un->listener = (struct loop_fd){.fd = un->socket.fd, .events = EPOLLIN, .ready = on_client};
    loop_call(options->loop, start_on_loop, un);
    if (un->result < 0) {
        r = err_set_errno(err, un->result, "vsock: %s: cannot wait for clients", options->path);
        vsock_unix_free(un);
        return r;
    }
    *ret_host = un;
    return 0;
}

static void stop_on_loop(void *opaque)
{
    struct vsock_unix *un = opaque;

    list_for_each_safe (link, &un->clients)
        close_client(container_of(link, struct client, link));
    loop_disarm(&un->retry);
    loop_remove_fd(&un->listener);
}

void vsock_unix_free(struct vsock_unix *un)
{
    if (!un)
        return;
    loop_call(un->options.loop, stop_on_loop, un);
    unix_socket_close(&un->socket);
    free(un);
}

struct vsock_host *vsock_unix_host(struct vsock_unix *un)
{
    return &un->host;
}
