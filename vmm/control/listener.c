/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/unix_socket.h"

/* Who waits while others are taken. */
#define QUEUE_LEN 16

/* How long to do without a client for whom there was no descriptor. */
#define RETRY_NS NS_PER_S

struct listener {
    struct loop *loop;
    const char *address;
    listener_client client;
    void *opaque;
    char *path;                     /* of the unix socket; NULL with TCP */
    struct unix_socket unix_socket; /* fd -1 with TCP */
    int tcp_fd;                     /* -1 with a unix socket */
    struct loop_fd watch;
    struct loop_timer retry;
    bool failed; /* and the user was told */
};

/* ---- addresses ------------------------------------------------------------------------------- */

#define EXPECTED "expected unix:PATH or tcp:127.0.0.1:PORT"

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static int parse_tcp(const char *address, const char *host_port, struct sockaddr_in *ret_addr,
                     struct err *err)
{
    const char *port = after_prefix(host_port, "127.0.0.1:");
    uint64_t number;

    if (!port)
        port = after_prefix(host_port, "localhost:");
    if (!port)
        return err_set(err, -EINVAL,
                       "%s: a control socket is for this machine only: expected "
                       "tcp:127.0.0.1:PORT",
                       address);
    if (parse_u64(port, &number) < 0 || number == 0 || number > UINT16_MAX)
        return err_set(err, -EINVAL, "%s: '%s': expected a port from 1 to 65535", address, port);
    *ret_addr = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)number),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    return 0;
}

/*
 * What QEMU's users write after a path, and what always holds here: we listen, and start without
 * waiting for a client.
 */
static bool is_usual_word(const char *word, size_t len)
{
    static const char *const usual[] = {"server", "server=on", "nowait", "wait=off"};

    for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
        if (strlen(usual[i]) == len && memcmp(usual[i], word, len) == 0)
            return true;
    return false;
}

/* The path's length in `PATH[,WORD]…`, or a negative errno with *err filled. */
static int parse_unix(const char *address, const char *text, struct err *err)
{
    size_t path_len = strcspn(text, ",");

    for (const char *word = text + path_len; *word == ',';) {
        size_t len = strcspn(++word, ",");

        if (!is_usual_word(word, len))
            return err_set(err, -EINVAL, "%s: '%.*s': expected unix:PATH[,server]", address,
                           (int)len, word);
        word += len;
    }
    if (path_len == 0 || path_len > PATH_MAX)
        return err_set(err, -EINVAL, "%s: " EXPECTED, address);
    return (int)path_len;
}

int listener_check_address(const char *address, struct err *err)
{
    const char *tcp = after_prefix(address, "tcp:");
    const char *path = after_prefix(address, "unix:");
    struct sockaddr_in addr;
    int r;

    if (tcp)
        return parse_tcp(address, tcp, &addr, err);
    if (!path)
        return err_set(err, -EINVAL, "%s: " EXPECTED, address);
    r = parse_unix(address, path, err);
    return r < 0 ? r : 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

/* Take no client for a while: the same would happen again at once. */
static void listen_later(struct listener *listener, int error)
{
    if (!listener->failed)
        log_warn("%s: cannot take a client: %s: trying again", listener->address, strerror(error));
    listener->failed = true;
    loop_remove_fd(&listener->watch);
    loop_arm(listener->loop, &listener->retry, RETRY_NS);
}

static void on_retry(struct loop_timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, retry);
    int r = loop_add_fd(listener->loop, &listener->watch);

    if (r < 0)
        listen_later(listener, -r);
}

static void on_client(struct loop_fd *watch, uint32_t events)
{
    static struct log_limit limit; /* clients come as fast as they like */
    struct listener *listener = container_of(watch, struct listener, watch);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const int one = 1;
    int r;

    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            listen_later(listener, errno);
        return;
    }
    listener->failed = false;
    if (listener->tcp_fd >= 0) /* small messages; at worst they come late */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    r = listener->client(fd, listener->opaque);
    if (r < 0)
        log_limited_at(&limit, LOG_WARN, "%s: a client is sent away: %s", listener->address,
                       r == -EUSERS ? "too many are connected" : strerror(-r));
}

/* ---- start and end --------------------------------------------------------------------------- */

static int listen_tcp(struct listener *listener, const char *host_port, struct err *err)
{
    struct sockaddr_in addr;
    const int one = 1;
    int r = parse_tcp(listener->address, host_port, &addr, err);

    if (r < 0)
        return r;
    listener->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->tcp_fd < 0)
        return err_set_errno(err, -errno, "%s: cannot make a socket", listener->address);
    /* Connections of a process before may linger. */
    (void)setsockopt(listener->tcp_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener->tcp_fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(listener->tcp_fd, QUEUE_LEN) < 0)
        return err_set_errno(err, -errno, "%s: cannot listen", listener->address);
    listener->watch.fd = listener->tcp_fd;
    return 0;
}

static int listen_unix(struct listener *listener, const char *text, struct err *err)
{
    int r = parse_unix(listener->address, text, err);

    if (r < 0)
        return r;
    listener->path = strndup(text, (size_t)r);
    if (!listener->path)
        return err_set(err, -ENOMEM, "out of memory");
    r = unix_socket_listen(listener->path, &listener->unix_socket, err);
    listener->watch.fd = listener->unix_socket.fd;
    return r;
}

int listener_new(struct loop *loop, const char *address, listener_client client, void *opaque,
                 struct listener **ret_listener, struct err *err)
{
    const char *tcp = after_prefix(address, "tcp:");
    struct listener *listener;
    int r = listener_check_address(address, err);

    if (r < 0)
        return r;
    listener = calloc(1, sizeof(*listener));
    if (!listener)
        return err_set(err, -ENOMEM, "out of memory");
    *listener = (struct listener){
        .loop = loop,
        .address = address,
        .client = client,
        .opaque = opaque,
        .unix_socket.fd = -1,
        .tcp_fd = -1,
        .watch = {.fd = -1, .events = EPOLLIN, .ready = on_client},
        .retry.expired = on_retry,
    };
    r = tcp ? listen_tcp(listener, tcp, err)
            : listen_unix(listener, after_prefix(address, "unix:"), err);
    if (r == 0) {
        r = loop_add_fd(loop, &listener->watch);
        if (r < 0)
            err_set_errno(err, r, "%s: cannot wait for clients", address);
    }
    if (r < 0) {
        listener_free(listener);
        return r;
    }
    *ret_listener = listener;
    return 0;
}

void listener_free(struct listener *listener)
{
    if (!listener)
        return;
    loop_disarm(&listener->retry);
    loop_remove_fd(&listener->watch);
    unix_socket_close(&listener->unix_socket);
    if (listener->tcp_fd >= 0)
        close(listener->tcp_fd);
    free(listener->path);
    free(listener);
}
