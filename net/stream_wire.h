/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a connected stream socket: each a length of four bytes, the highest first, and so many
 * bytes. It is the wire of passt, of QEMU's `-netdev stream`, of socket_vmnet.
 *
 * A large frame is read into the receiver's buffers directly: its length came with the frame
 * before it. Small ones are read many at once, into a buffer of bounded size, and copied. A frame
 * of which a part has come stays where it is, in the receiver's buffers. Sent frames go out of
 * their buffers, many in a call; what a full socket has left of one is copied and goes first.
 *
 * Neither waits nor watches: net/stream.h does the latter. No locking.
 */
#ifndef MINIVMM_NET_STREAM_WIRE_H
#define MINIVMM_NET_STREAM_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "net/net.h"

/* Longest frame: that of passt and QEMU. After a longer length, nothing counts any more. */
#define STREAM_FRAME_MAX 65535u

/* Small frames: so many bytes of them are read in one go. */
#define STREAM_AHEAD_MAX (32u << 10)

struct stream_wire {
    int fd; /* not blocking; the owner's; -1: no peer */

    uint32_t in_len;  /* of the frame that has begun; 0: none has */
    uint32_t in_done; /* so much of it is behind us */
    bool in_skipped;  /* the rest of it belongs to nobody */
    bool in_large;    /* so was the last frame: what follows it is left in the socket */
    uint32_t ahead_at;
    uint32_t ahead_len; /* read and not taken: [ahead_at, ahead_at + ahead_len) */

    uint8_t *rest; /* of a frame that has begun to go out, or NULL */
    uint32_t rest_at;
    uint32_t rest_len;

    uint8_t ahead[STREAM_AHEAD_MAX];
    uint8_t lengths[NET_SEND_MAX][4];
    struct iovec vec[NET_IOV_MAX];
};

/* Begin on a socket: nothing is under way. */
void stream_wire_begin(struct stream_wire *wire, int fd);

/* The socket is gone, and with it what was under way. Closes it; harmless without one. */
void stream_wire_end(struct stream_wire *wire);

/*
 * As `send` of struct net_ops. *ret_taken: how many were taken, those marked as dropped among them.
 * 0, or -errno: the socket is of no use any more.
 */
int stream_wire_send(struct stream_wire *wire, struct net_frame *frames, unsigned nframes,
                     unsigned *ret_taken) MUST_CHECK;

/* Is a part of a frame still to be sent? */
static inline bool stream_wire_is_full(const struct stream_wire *wire)
{
    return wire->rest;
}

/* Send that part, as far as there is room for it. 0 or -errno as above. */
int stream_wire_flush(struct stream_wire *wire) MUST_CHECK;

/*
 * As `receive` of struct net_ops, but with the errors of the socket: -EPIPE is the end of the
 * stream, -EPROTO a length that cannot be.
 */
ssize_t stream_wire_receive(struct stream_wire *wire, const struct iovec *iov,
                            unsigned niov) MUST_CHECK;

/* A whole frame has been read: the socket does not tell of it any more. */
bool stream_wire_has_frame(const struct stream_wire *wire);

/*
 * The buffers of the last call of stream_wire_receive are not its any more: if a frame has begun,
 * it is dropped.
 */
void stream_wire_forget(struct stream_wire *wire);

#endif
