/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the back ends on a stream socket have in common: the peer is there or not, and the link is
 * up or down accordingly; frames go as stream_wire.h says; the loop tells when they can.
 *
 * The back end brings the peers: stream_connect gives one, and `lost` asks for the next. It embeds
 * a struct stream, and has the functions below, those with the names of operations, in its struct
 * net_ops.
 */
#ifndef MINIVMM_NET_STREAM_H
#define MINIVMM_NET_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "net/net.h"
#include "net/stream_wire.h"

struct stream {
    struct net net;
    /*
     * The peer is gone for the reason given, -errno (-EPIPE: it has hung up; -EPROTO: it sends
     * nonsense). On the loop's thread; the user has been told that the link is down.
     */
    void (*lost)(struct stream *stream, int reason);
    /* The peer has looked at all checksums of what it sends. */
    bool is_checked;

    /* The rest is the module's own. */
    struct loop *loop; /* NULL: not attached */
    struct net_user *user;
    uint64_t agreed;         /* offloads */
    struct loop_fd watch;    /* of the socket */
    struct loop_work again;  /* frames have been read that nobody has asked for yet */
    struct loop_work broken; /* to tell of `reason`, not inside a call */
    int reason;              /* why the peer is of no use; 0: it is */
    bool wanted;             /* `watch` is on */
    bool refused;            /* a call of `send` did not take everything */
    struct stream_wire wire;
};

/* Without a peer. `ops`, `kind` and so on of `net` are the caller's to fill in. */
void stream_init(struct stream *stream);

/* Closes the socket. Not attached. */
void stream_done(struct stream *stream);

/*
 * Here is a peer, and there is none at the moment: the link is up, and the user is told. Takes the
 * socket, which does not block. 0 or -errno: then it is closed.
 */
int stream_connect(struct stream *stream, int fd) MUST_CHECK;

static inline bool stream_has_peer(const struct stream *stream)
{
    return stream->wire.fd >= 0;
}

/* The peer is not wanted any more: as if it were lost, but without a call of `lost`. */
void stream_disconnect(struct stream *stream);

int stream_attach(struct stream *stream, struct loop *loop, struct net_user *user) MUST_CHECK;
void stream_detach(struct stream *stream);
int stream_set_offloads(struct net *net, uint64_t offloads);
unsigned stream_send(struct net *net, struct net_frame *frames, unsigned nframes);
ssize_t stream_receive(struct net *net, const struct iovec *iov, unsigned niov);
void stream_watch(struct net *net, bool on);

#endif
