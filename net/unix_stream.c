/* SPDX-License-Identifier: Apache-2.0 */
#include "net/unix_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix_socket.h"
#include "net/stream.h"
#include "net/unix_peer.h"

struct unix_stream {
    struct stream stream;
    struct unix_search search;
    struct unix_socket listener; /* fd -1: we connect */
    struct loop_fd listening;    /* watched while there is no peer */
};

static struct unix_stream *unix_of(struct net *net)
{
    return container_of(net, struct unix_stream, stream.net);
}

static bool listens(const struct unix_stream *unix_stream)
{
    return unix_stream->listener.fd >= 0;
}

/* ---- peers ----------------------------------------------------------------------------------- */

/* 0 or -errno. */
static int take_peer(struct unix_stream *unix_stream, int fd)
{
    int r = stream_connect(&unix_stream->stream, fd);

    if (r < 0)
        return r;
    unix_search_succeeds(&unix_stream->search);
    return 0;
}

static int try_connect(struct unix_stream *unix_stream)
{
    int fd = unix_peer_connect(unix_stream->search.path, SOCK_STREAM);

    return fd < 0 ? fd : take_peer(unix_stream, fd);
}

/* Whoever waits is taken; 0 or -errno. */
static int try_accept(struct unix_stream *unix_stream)
{
    int fd = accept4(unix_stream->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return errno == EAGAIN || errno == ECONNABORTED ? -EAGAIN : -errno;
    unix_peer_widen(fd);
    return take_peer(unix_stream, fd);
}

/* Where there is no descriptor for a peer, looking again at once would not help. */
static void accept_ready(struct loop_fd *watch, uint32_t events)
{
    struct unix_stream *unix_stream = container_of(watch, struct unix_stream, listening);
    int r = try_accept(unix_stream);

    if (r == -EAGAIN)
        return; /* it has gone again */
    loop_remove_fd(watch);
    if (r < 0) {
        unix_search_fails(&unix_stream->search, r);
        unix_search_later(&unix_stream->search, unix_stream->stream.loop);
    }
}

/* There is no peer: get one. */
static void seek_peer(struct loop_timer *timer)
{
    struct unix_stream *unix_stream = container_of(timer, struct unix_stream, search.retry);
    struct loop *loop = unix_stream->stream.loop;
    int r = listens(unix_stream) ? loop_add_fd(loop, &unix_stream->listening)
                                 : try_connect(unix_stream);

    if (r < 0) {
        unix_search_fails(&unix_stream->search, r);
        unix_search_later(&unix_stream->search, loop);
    }
}

static void peer_lost(struct stream *stream, int reason)
{
    struct unix_stream *unix_stream = container_of(stream, struct unix_stream, stream);

    if (reason == -EPROTO)
        log_guest(LOG_WARN, "net %s: a frame of an impossible length came: hung up",
                  unix_stream->search.path);
    else
        log_guest(LOG_WARN, "net %s: connection lost (%s): the link is down",
                  unix_stream->search.path,
                  reason == -EPIPE ? "the other side hung up" : strerror(-reason));
    if (stream->loop)
        unix_search_later(&unix_stream->search, stream->loop);
}

/* ---- operations ------------------------------------------------------------------------------ */

static int attach(struct net *net, struct loop *loop, struct net_user *user)
{
    struct unix_stream *unix_stream = unix_of(net);
    int r = stream_attach(&unix_stream->stream, loop, user);

    if (r == 0 && !stream_has_peer(&unix_stream->stream))
        loop_arm(loop, &unix_stream->search.retry, 0);
    return r;
}

static void detach(struct net *net)
{
    struct unix_stream *unix_stream = unix_of(net);

    loop_remove_fd(&unix_stream->listening);
    loop_disarm(&unix_stream->search.retry);
    stream_detach(&unix_stream->stream);
}

static void close_net(struct net *net)
{
    struct unix_stream *unix_stream = unix_of(net);

    stream_done(&unix_stream->stream);
    unix_socket_close(&unix_stream->listener);
    free(unix_stream);
}

static const struct net_ops ops = {
    .attach = attach,
    .detach = detach,
    .set_offloads = stream_set_offloads,
    .send = stream_send,
    .receive = stream_receive,
    .watch = stream_watch,
    .close = close_net,
};

/* ---- opening --------------------------------------------------------------------------------- */

static struct unix_stream *new_unix_stream(const char *path)
{
    struct unix_stream *unix_stream = calloc(1, sizeof(*unix_stream));

    if (!unix_stream)
        return NULL;
    unix_stream->search.path = path;
    unix_stream->listener.fd = -1;
    unix_stream->search.retry.expired = seek_peer;
    stream_init(&unix_stream->stream);
    unix_stream->stream.lost = peer_lost;
    unix_stream->stream.net.ops = &ops;
    unix_stream->stream.net.kind = "unix";
    unix_stream->stream.net.label = path;
    return unix_stream;
}

static int start_listening(struct unix_stream *unix_stream, struct err *err)
{
    int r = unix_socket_listen(unix_stream->search.path, &unix_stream->listener, err);

    unix_stream->listening =
        (struct loop_fd){.fd = unix_stream->listener.fd, .events = EPOLLIN, .ready = accept_ready};
    return r;
}

static int start_connecting(struct unix_stream *unix_stream, struct err *err)
{
    int r = unix_peer_check_path(unix_stream->search.path, err);

    if (r < 0)
        return r;
    r = try_connect(unix_stream);
    if (r < 0)
        unix_search_fails(&unix_stream->search, r);
    return 0;
}

int unix_stream_open(const char *path, bool listen, struct net **ret_net, struct err *err)
{
    struct unix_stream *unix_stream = new_unix_stream(path);
    int r;

    if (!unix_stream)
        return err_set(err, -ENOMEM, "%.200s: out of memory", path);
    r = listen ? start_listening(unix_stream, err) : start_connecting(unix_stream, err);
    if (r < 0) {
        free(unix_stream);
        return r;
    }
    *ret_net = &unix_stream->stream.net;
    return 0;
}
