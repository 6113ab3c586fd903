/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/helper_process.h"
#include "base/log.h"
#include "net/backoff.h"
#include "net/passt_args.h"
#include "net/passt_guard.h"
#include "net/stream.h"
#include "net/unix_peer.h"

/* How long it may take to be ready; without load it takes milliseconds. */
#define READY_MS 10000

/* How long it may take to end once our side of the socket is closed. */
#define END_MS 1000

/* It does not look at checksums, and takes segments as large as frames can be. */
#define OFFLOADS                                                                                   \
    (1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |                                 \
     1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6)

struct passt {
    struct stream stream;
    char name[32]; /* in the log: "net eth0: passt" */
    struct passt_args args;
    struct helper_process *process; /* NULL: it is to be started again */
    bool told;                      /* why the link is down */
    struct loop_timer retry;
    struct backoff backoff;
    bool isolates;
    struct passt_guard guard; /* of a guest that is isolated */
};

static struct passt *passt_of(struct net *net)
{
    return container_of(net, struct passt, stream.net);
}

/* ---- what it says ---------------------------------------------------------------------------- */

static bool begins_with(const char *line, const char *beginning)
{
    return strncmp(line, beginning, strlen(beginning)) == 0;
}

static bool tells_more(const char *kept, const char *line)
{
    /* Its own log of lines that nobody reads; and the list of options, after a wrong one. */
    return !begins_with(line, "Failed to send ") && !strstr(kept, "unrecognized option");
}

#define PORT_HINT "a port of forward= is in use, or needs more rights"

/* What helps, by what it says. */
static const char *hint_of(const char *line)
{
    static const struct {
        char text[24];
        char hint[164];
    } hints[] = {
        {"interface not usable", "this version of passt needs a host with a default route (2024-11 "
                                 "and later ones do not): set one, or use --net tap="},
        {"Failed to bind", PORT_HINT},
        {"listen on requested", PORT_HINT}, /* versions of 2026 */
        {"create user namespace", "passt needs user namespaces, which are not allowed here: in a "
                                  "chroot, or by a sysctl (user.max_user_namespaces, "
                                  "kernel.unprivileged_userns_clone)"},
        {"unrecognized option", "this version of passt is too old for a key of --net user"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
        if (strstr(line, hints[i].text))
            return hints[i].hint;
    }
    return NULL;
}

static int set_ended(struct passt *passt, struct err *err)
{
    const char *hint = hint_of(helper_process_line(passt->process));

    return err_set(err, -EIO, "passt: %s%s%s", helper_process_fate(passt->process),
                   hint ? ": " : "", hint ? hint : "");
}

/* ---- starting it ----------------------------------------------------------------------------- */

static int start_with(struct passt *passt, const int pair[2], struct err *err)
{
    const struct helper_spec spec = {
        .name = passt->name,
        .argv = passt->args.argv,
        .fds = &pair[1],
        .nfds = 1,
        .death_signal = SIGKILL, /* if it hangs, it does not notice that we are gone */
        .tells_more = tells_more,
    };
    int r;

    /* Before it is started: early versions lose frames where there is no room for them. */
    unix_peer_widen(pair[0]);
    unix_peer_widen(pair[1]);
    r = helper_process_start(&spec, &passt->process, err);
    if (r == -ENOENT)
        err_prefix(err, "--net user needs passt: install the package of that name, or use another "
                        "kind of --net");
    return r;
}

/* 0, or a negative errno with *err filled. */
static int start(struct passt *passt, struct err *err)
{
    int pair[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_errno(err, -errno, "passt: cannot make a socket");
    r = start_with(passt, pair, err);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    /* All calls but readv say so themselves; passt's end is its own. */
    r = ioctl(pair[0], FIONBIO, &(int){1}) < 0 ? -errno : 0;
    if (r == 0)
        r = stream_connect(&passt->stream, pair[0]);
    else
        close(pair[0]);
    if (r < 0) {
        helper_process_end(passt->process, END_MS);
        passt->process = NULL;
        return err_set_errno(err, r, "passt: cannot use its socket");
    }
    return 0;
}

/*
 * A frame that means nothing and comes from nobody (an experimental type, from the broadcast
 * address): when it is read, passt works, whatever its version.
 */
static const uint8_t probe[] = {0,    0,    0,    60,   0xff, 0xff, 0xff, 0xff, 0xff,    0xff,
                                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x88, 0xb5, [63] = 0};

static int send_probe(int fd)
{
    return send(fd, probe, sizeof(probe), MSG_NOSIGNAL) == sizeof(probe) ? 0 : -errno;
}

/*
 * What is under way is thrown away when the other side is closed; that it is can be seen before.
 * The kernel tells that the probe is read a moment before it counts the last byte of it.
 */
static bool is_read(int fd)
{
    struct pollfd hung_up = {.fd = fd};
    int unread;

    return ioctl(fd, SIOCOUTQ, &unread) == 0 && unread < (int)sizeof(probe) &&
           poll(&hung_up, 1, 0) == 0;
}

/* `edges` becomes readable when something is read from our socket, or it breaks. */
static int wait_until_read(struct passt *passt, int edges, struct err *err)
{
    const int fd = passt->stream.wire.fd;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
    int r;

    if (epoll_ctl(edges, EPOLL_CTL_ADD, fd, &event) < 0 || epoll_wait(edges, &event, 1, 0) < 0)
        return err_set_errno(err, -errno, "passt: cannot be watched");
    r = send_probe(fd);
    if (r == 0 && !is_read(fd))
        r = helper_process_wait(passt->process, edges, READY_MS);
    if (r == 0 && is_read(fd))
        return 0;
    /* Its socket breaks a moment before it has ended. */
    if (helper_process_wait(passt->process, -1, r == -ETIMEDOUT ? 0 : END_MS) == -ESRCH)
        return set_ended(passt, err);
    return err_set(err, -ETIMEDOUT, "passt: started, but reads nothing: %s",
                   helper_process_line(passt->process));
}

static int wait_ready(struct net *net, struct err *err)
{
    struct passt *passt = passt_of(net);
    int edges = epoll_create1(EPOLL_CLOEXEC);
    int r;

    if (edges < 0)
        return err_set_errno(err, -errno, "passt: cannot be watched");
    r = wait_until_read(passt, edges, err);
    close(edges);
    if (r == 0)
        backoff_succeed(&passt->backoff);
    return r;
}

/* ---- when it ends ---------------------------------------------------------------------------- */

static void retry_later(struct passt *passt)
{
    if (!passt->retry.loop)
        loop_arm(passt->stream.loop, &passt->retry, backoff_next(&passt->backoff));
}

static void tell_end(struct passt *passt)
{
    log_guest(LOG_WARN, "%s has ended (%s): the link is down until it is started again",
              passt->name, helper_process_fate(passt->process));
    passt->told = true;
}

static void ended(void *opaque)
{
    struct passt *passt = opaque;

    tell_end(passt);
    stream_disconnect(&passt->stream);
    if (passt->stream.loop)
        retry_later(passt);
}

/* It is about to end, or does not keep to the protocol: then it is made to end by the retry. */
static void peer_lost(struct stream *stream, int reason)
{
    struct passt *passt = container_of(stream, struct passt, stream);

    if (reason == -EPROTO) {
        passt->told = true;
        log_guest(LOG_WARN,
                  "%s: a frame of an impossible length came: the link is down until it is started "
                  "again",
                  passt->name);
    }
    if (stream->loop)
        retry_later(passt);
}

/* Its socket broke, mostly because it was about to end. */
static void tell_hang_up(struct passt *passt)
{
    helper_process_unwatch(passt->process);
    if (helper_process_wait(passt->process, -1, 0) == -ESRCH)
        tell_end(passt);
    else
        log_guest(LOG_WARN, "%s has hung up: it is killed, and started again", passt->name);
}

static void start_again(struct loop_timer *timer)
{
    struct passt *passt = container_of(timer, struct passt, retry);
    struct err err = {0};
    int r;

    if (!passt->told)
        tell_hang_up(passt);
    helper_process_end(passt->process, 0);
    passt->process = NULL;
    r = start(passt, &err);
    if (r == 0)
        r = helper_process_watch(passt->process, passt->stream.loop, ended, passt);
    if (r == 0) {
        backoff_succeed(&passt->backoff);
        passt->told = false;
        log_guest(LOG_WARN, "%s was started again: the link is up", passt->name);
        return;
    }
    log_guest(LOG_WARN, "%s cannot be started again: %s", passt->name,
              err.msg[0] ? err.msg : strerror(-r));
    passt->told = true;
    stream_disconnect(&passt->stream);
    retry_later(passt);
}

/* ---- operations ------------------------------------------------------------------------------ */

static int attach(struct net *net, struct loop *loop, struct net_user *user)
{
    struct passt *passt = passt_of(net);
    int r = stream_attach(&passt->stream, loop, user);

    if (r < 0)
        return r;
    if (!stream_has_peer(&passt->stream)) {
        loop_arm(loop, &passt->retry, 0); /* which makes an end of the process, if there is one */
        return 0;
    }
    r = helper_process_watch(passt->process, loop, ended, passt);
    if (r < 0)
        stream_detach(&passt->stream);
    return r;
}

static unsigned send_frames(struct net *net, struct net_frame *frames, unsigned nframes)
{
    struct passt *passt = passt_of(net);
    unsigned taken = 0;

    if (!passt->isolates)
        return stream_send(net, frames, nframes);
    while (taken < nframes) {
        const unsigned n = passt_guard_take(&passt->guard, frames + taken, nframes - taken);
        const unsigned sent = n > 0 ? stream_send(net, passt->guard.frames, n) : 0;

        for (unsigned i = 0; i < sent; i++)
            frames[taken++].dropped = passt->guard.frames[i].dropped;
        if (sent < n)
            break;
        if (n == 0)
            frames[taken++].dropped = true;
    }
    return taken;
}

static void detach(struct net *net)
{
    struct passt *passt = passt_of(net);

    if (passt->process)
        helper_process_unwatch(passt->process);
    loop_disarm(&passt->retry);
    stream_detach(&passt->stream);
}

static void close_net(struct net *net)
{
    struct passt *passt = passt_of(net);

    stream_done(&passt->stream); /* which ends it */
    helper_process_end(passt->process, END_MS);
    passt_args_free(&passt->args);
    free(passt);
}

static const struct net_ops ops = {
    .wait_ready = wait_ready,
    .attach = attach,
    .detach = detach,
    .set_offloads = stream_set_offloads,
    .send = send_frames,
    .receive = stream_receive,
    .watch = stream_watch,
    .close = close_net,
};

static void init(struct passt *passt, const struct passt_options *options)
{
    struct net *net = &passt->stream.net;

    (void)snprintf(passt->name, sizeof(passt->name), "net %s: passt", options->card);
    passt->isolates = options->isolate;
    passt->retry.expired = start_again;
    stream_init(&passt->stream);
    passt->stream.lost = peer_lost;
    passt->stream.is_checked = true;
    net->ops = &ops;
    net->kind = "user";
    net->label = "passt";
    net->offloads = OFFLOADS;
    net->mtu = (uint16_t)(options->mtu ? options->mtu : PASST_MTU_MAX);
    net->is_filtered = true;
}

int passt_open(const struct passt_options *options, struct net **ret_net, struct err *err)
{
    struct passt *passt = calloc(1, sizeof(*passt));
    int r;

    if (!passt)
        return err_set(err, -ENOMEM, "passt: out of memory");
    init(passt, options);
    r = passt_args_make(&passt->args, options, err);
    if (r == 0)
        r = start(passt, err);
    if (r < 0) {
        passt_args_free(&passt->args);
        free(passt);
        return r;
    }
    *ret_net = &passt->stream.net;
    return 0;
}
