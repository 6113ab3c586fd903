/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dgram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/unix_peer.h"

struct dgram {
    struct net net;
    struct unix_search search;
    int fd; /* -1: not connected */
    struct loop *loop;
    struct net_user *user;
    struct loop_fd watch;
    struct loop_work lost; /* to tell of `reason`, not inside a call */
    int reason;            /* why the socket is of no use; 0: it is */
    bool wanted;
    bool refused;
    struct mmsghdr messages[NET_SEND_MAX];
};

static struct dgram *dgram_of(struct net *net)
{
    return container_of(net, struct dgram, net);
}

/* ---- the peer -------------------------------------------------------------------------------- */

static void set_link(struct dgram *dgram, bool up)
{
    dgram->net.link_up = up;
    if (dgram->user)
        dgram->user->link_changed(dgram->user);
}

static void disconnect(struct dgram *dgram)
{
    loop_remove_fd(&dgram->watch);
    if (dgram->fd >= 0)
        close(dgram->fd);
    dgram->fd = -1;
    dgram->refused = false;
    dgram->reason = 0;
}

/* Inside a call: the user is told after it. */
static void note_lost(struct dgram *dgram, int reason)
{
    if (dgram->reason)
        return;
    dgram->reason = reason;
    loop_remove_fd(&dgram->watch);
    loop_post(dgram->loop, &dgram->lost);
}

static void tell_lost(struct loop_work *work)
{
    struct dgram *dgram = container_of(work, struct dgram, lost);

    log_guest(LOG_WARN, "net %s: connection lost (%s): the link is down", dgram->search.path,
              strerror(-dgram->reason));
    disconnect(dgram);
    unix_search_later(&dgram->search, dgram->loop);
    set_link(dgram, false);
}

static uint32_t wanted_events(const struct dgram *dgram)
{
    return (dgram->wanted ? EPOLLIN : 0) | (dgram->refused ? EPOLLOUT : 0);
}

static void update_events(struct dgram *dgram)
{
    int r;

    if (!dgram->watch.loop)
        return;
    r = loop_set_events(&dgram->watch, wanted_events(dgram));
    if (r < 0)
        note_lost(dgram, r);
}

static void socket_ready(struct loop_fd *watch, uint32_t events)
{
    struct dgram *dgram = container_of(watch, struct dgram, watch);

    if (events & EPOLLOUT && dgram->refused) {
        dgram->refused = false;
        update_events(dgram);
        dgram->user->writable(dgram->user);
    }
    if (!dgram->watch.loop)
        return;
    if (events & EPOLLIN && dgram->wanted)
        dgram->user->readable(dgram->user);
    else if (events & (EPOLLERR | EPOLLHUP))
        note_lost(dgram, -EPIPE);
}

static int watch_socket(struct dgram *dgram)
{
    dgram->watch =
        (struct loop_fd){.fd = dgram->fd, .events = wanted_events(dgram), .ready = socket_ready};
    return loop_add_fd(dgram->loop, &dgram->watch);
}

/* 0 or -errno. */
static int try_connect(struct dgram *dgram)
{
    int fd = unix_peer_connect(dgram->search.path, SOCK_DGRAM);
    int r = 0;

    if (fd < 0)
        return fd;
    dgram->fd = fd;
    if (dgram->loop)
        r = watch_socket(dgram);
    if (r < 0) {
        disconnect(dgram);
        return r;
    }
    unix_search_succeeds(&dgram->search);
    set_link(dgram, true);
    return 0;
}

static void connect_again(struct loop_timer *timer)
{
    struct dgram *dgram = container_of(timer, struct dgram, search.retry);
    int r = try_connect(dgram);

    if (r == 0)
        return;
    unix_search_fails(&dgram->search, r);
    unix_search_later(&dgram->search, dgram->loop);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* About the frame, and not about the peer. */
static bool is_about_frame(int error)
{
    return error == EMSGSIZE || error == ENOBUFS || error == ENOMEM;
}

/* Send some, without their headers. Returns how many went out; 0: there is no room; or -errno. */
static int send_some(struct dgram *dgram, const struct net_frame *frames, unsigned n)
{
    int sent;

    for (unsigned i = 0; i < n; i++) {
        dgram->messages[i].msg_hdr = (struct msghdr){.msg_iov = (struct iovec *)frames[i].iov + 1,
                                                     .msg_iovlen = frames[i].niov - 1};
    }
    do
        sent = sendmmsg(dgram->fd, dgram->messages, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -errno;
    return sent;
}

static unsigned send_frames(struct net *net, struct net_frame *frames, unsigned nframes)
{
    struct dgram *dgram = dgram_of(net);
    unsigned taken = 0;

    while (taken < nframes) {
        int n = dgram->reason
                    ? dgram->reason
                    : send_some(dgram, frames + taken,
                                nframes - taken < NET_SEND_MAX ? nframes - taken : NET_SEND_MAX);

        if (n == 0) {
            dgram->refused = true;
            update_events(dgram);
            break;
        }
        if (n < 0) {
            if (!is_about_frame(-n))
                note_lost(dgram, n);
            frames[taken++].dropped = true;
            continue;
        }
        for (; n > 0; n--)
            frames[taken++].dropped = false;
    }
    return taken;
}

static ssize_t receive(struct net *net, const struct iovec *iov, unsigned niov)
{
    struct dgram *dgram = dgram_of(net);
    struct msghdr message = {.msg_iov = (struct iovec *)iov + 1, .msg_iovlen = niov - 1};
    ssize_t r;

    if (dgram->reason)
        return 0;
    do
        r = recvmsg(dgram->fd, &message, MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        if (errno != EAGAIN)
            note_lost(dgram, -errno);
        return 0;
    }
    if (message.msg_flags & MSG_TRUNC || r < (ssize_t)NET_FRAME_MIN || r > (ssize_t)NET_FRAME_MAX)
        return -EMSGSIZE;
    memset(iov->iov_base, 0, NET_HDR_LEN);
    return r;
}

static void watch(struct net *net, bool on)
{
    struct dgram *dgram = dgram_of(net);

    dgram->wanted = on;
    update_events(dgram);
}

/* There are none. */
static int set_offloads(struct net *net, uint64_t offloads)
{
    return 0;
}

/* ---- guests ---------------------------------------------------------------------------------- */

static int attach(struct net *net, struct loop *loop, struct net_user *user)
{
    struct dgram *dgram = dgram_of(net);
    int r = 0;

    dgram->loop = loop;
    dgram->wanted = dgram->refused = false;
    if (dgram->fd >= 0)
        r = watch_socket(dgram);
    else
        loop_arm(loop, &dgram->search.retry, 0);
    if (r < 0)
        dgram->loop = NULL;
    else
        dgram->user = user;
    return r;
}

/* A peer that was lost, and nobody was told of it yet, is no peer of the next user. */
static void detach(struct net *net)
{
    struct dgram *dgram = dgram_of(net);

    loop_cancel(dgram->loop, &dgram->lost);
    loop_disarm(&dgram->search.retry);
    loop_remove_fd(&dgram->watch);
    dgram->user = NULL;
    dgram->loop = NULL;
    if (dgram->reason) {
        disconnect(dgram);
        dgram->net.link_up = false;
    }
}

static void close_net(struct net *net)
{
    struct dgram *dgram = dgram_of(net);

    disconnect(dgram);
    free(dgram);
}

static const struct net_ops ops = {
    .attach = attach,
    .detach = detach,
    .set_offloads = set_offloads,
    .send = send_frames,
    .receive = receive,
    .watch = watch,
    .close = close_net,
};

int dgram_open(const char *path, struct net **ret_net, struct err *err)
{
    struct dgram *dgram;
    int r = unix_peer_check_path(path, err);

    if (r < 0)
        return r;
    dgram = calloc(1, sizeof(*dgram));
    if (!dgram)
        return err_set(err, -ENOMEM, "%s: out of memory", path);
    dgram->search.path = path;
    dgram->fd = -1;
    dgram->lost.run = tell_lost;
    dgram->search.retry.expired = connect_again;
    dgram->net.ops = &ops;
    dgram->net.kind = "unix-dgram";
    dgram->net.label = path;
    r = try_connect(dgram);
    if (r < 0)
        unix_search_fails(&dgram->search, r);
    *ret_net = &dgram->net;
    return 0;
}
