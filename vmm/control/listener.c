/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "vmm/control/address.h"

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

static int listen_tcp(struct listener *listener, uint16_t port, struct err *err)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int one = 1;

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

static int listen_unix(struct listener *listener, const struct address *address, struct err *err)
{
    int r;

    listener->path = strndup(address->path, address->path_len);
    if (!listener->path)
        return err_set(err, -ENOMEM, "out of memory");
    r = unix_socket_listen(listener->path, &listener->unix_socket, err);
    if (r < 0)
        return r;
    listener->watch.fd = listener->unix_socket.fd;
    (void)listen(listener->watch.fd, QUEUE_LEN); /* a longer queue; it listens already */
    return 0;
}

/* Make the socket and watch it. */
static int start(struct listener *listener, const struct address *address, struct err *err)
{
    int r = address->path ? listen_unix(listener, address, err)
                          : listen_tcp(listener, address->port, err);

    if (r < 0)
        return r;
    r = loop_add_fd(listener->loop, &listener->watch);
    return r < 0 ? err_set_errno(err, r, "%s: cannot wait for clients", listener->address) : 0;
}

static int listen_at(struct loop *loop, const struct address *address, const char *label,
                     listener_client client, void *opaque, struct listener **ret_listener,
                     struct err *err)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    int r;

    if (!listener)
        return err_set(err, -ENOMEM, "out of memory");
    *listener = (struct listener){
        .loop = loop,
        .address = label,
        .client = client,
        .opaque = opaque,
        .unix_socket.fd = -1,
        .tcp_fd = -1,
        .watch = {.fd = -1, .events = EPOLLIN, .ready = on_client},
        .retry.expired = on_retry,
    };
    r = start(listener, address, err);
    if (r < 0) {
        listener_free(listener);
        return r;
    }
    *ret_listener = listener;
    return 0;
}

int listener_new(struct loop *loop, const char *address, listener_client client, void *opaque,
                 struct listener **ret_listener, struct err *err)
{
    struct address parsed;
    int r = address_parse(address, &parsed, err);

    return r < 0 ? r : listen_at(loop, &parsed, address, client, opaque, ret_listener, err);
}

int listener_new_unix(struct loop *loop, const char *path, const char *label,
                      listener_client client, void *opaque, struct listener **ret_listener,
                      struct err *err)
{
    const struct address address = {.path = path, .path_len = strlen(path)};

    return listen_at(loop, &address, label, client, opaque, ret_listener, err);
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
