/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream_wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/iov.h"

#define LENGTH_LEN 4u

/* From here on a frame is worth a system call of its own, which saves copying it. */
#define LARGE_FRAME 4096u

void stream_wire_begin(struct stream_wire *wire, int fd)
{
    wire->fd = fd;
    wire->in_len = wire->in_done = 0;
    wire->in_skipped = wire->in_large = false;
    wire->ahead_at = wire->ahead_len = 0;
}

void stream_wire_end(struct stream_wire *wire)
{
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
    free(wire->rest);
    wire->rest = NULL;
    wire->ahead_len = 0;
    wire->in_len = 0;
}

/* Can a frame be so long? */
static bool is_length(uint32_t len)
{
    return len >= NET_FRAME_MIN && len <= STREAM_FRAME_MAX;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Returns how many bytes went out, 0 if there is no room; or -errno. */
static ssize_t send_vector(const struct stream_wire *wire, struct iovec *vec, size_t n)
{
    const struct msghdr message = {.msg_iov = vec, .msg_iovlen = n};
    ssize_t sent;

    do
        sent = sendmsg(wire->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -errno;
    return sent;
}

int stream_wire_flush(struct stream_wire *wire)
{
    struct iovec part;
    ssize_t sent;

    if (!wire->rest)
        return 0;
    part = (struct iovec){wire->rest + wire->rest_at, wire->rest_len};
    sent = send_vector(wire, &part, 1);
    if (sent < 0)
        return (int)sent;
    wire->rest_at += (uint32_t)sent;
    wire->rest_len -= (uint32_t)sent;
    if (wire->rest_len == 0) {
        free(wire->rest);
        wire->rest = NULL;
    }
    return 0;
}

/* What frames to send become: `n` of them, in so many elements of `vec`. */
struct batch {
    unsigned n;
    unsigned nvec;
    size_t len;
};

static struct batch gather(struct stream_wire *wire, const struct net_frame *frames, unsigned n)
{
    struct batch batch = {0};

    while (batch.n < n && batch.n < NET_SEND_MAX) {
        const struct net_frame *frame = &frames[batch.n];
        unsigned nvec = batch.nvec;

        /* Its header has the place of the length. */
        if (nvec + frame->niov > ARRAY_SIZE(wire->vec))
            break;
        if (is_length(frame->len)) {
            uint8_t *length = wire->lengths[batch.n];

            store_be32(length, frame->len);
            memcpy(&wire->vec[nvec], frame->iov, frame->niov * sizeof(*frame->iov));
            wire->vec[nvec] = (struct iovec){length, LENGTH_LEN};
            batch.nvec += frame->niov;
            batch.len += LENGTH_LEN + frame->len;
        }
        batch.n++;
    }
    return batch;
}

/* A frame of which `sent` bytes are out must be followed by the rest of it, whatever comes. */
static int keep_rest(struct stream_wire *wire, const struct net_frame *frame, size_t sent)
{
    const uint32_t len = LENGTH_LEN + frame->len - (uint32_t)sent;
    uint8_t length[LENGTH_LEN];
    uint32_t from_length = 0;

    wire->rest = malloc(len);
    if (!wire->rest)
        return -ENOMEM;
    if (sent < LENGTH_LEN) {
        store_be32(length, frame->len);
        from_length = LENGTH_LEN - (uint32_t)sent;
        memcpy(wire->rest, length + sent, from_length);
    }
    (void)iov_to_buf(frame->iov, frame->niov, NET_HDR_LEN + sent + from_length - LENGTH_LEN,
                     wire->rest + from_length, len - from_length); /* as long as it says */
    wire->rest_at = 0;
    wire->rest_len = len;
    return 0;
}

/* How many of the frames that were gathered are out, or kept, after so many bytes; or -errno. */
static int count_sent(struct stream_wire *wire, struct net_frame *frames, unsigned n, size_t sent)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        const size_t len = LENGTH_LEN + frames[i].len;

        frames[i].dropped = !is_length(frames[i].len);
        if (frames[i].dropped)
            continue;
        if (sent == 0)
            break;
        if (sent < len) {
            int r = keep_rest(wire, &frames[i], sent);

            return r < 0 ? r : (int)i + 1;
        }
        sent -= len;
    }
    return (int)i;
}

int stream_wire_send(struct stream_wire *wire, struct net_frame *frames, unsigned nframes,
                     unsigned *ret_taken)
{
    unsigned taken = 0;
    int r = stream_wire_flush(wire);

    *ret_taken = 0;
    while (r == 0 && !wire->rest && taken < nframes) {
        const struct batch batch = gather(wire, frames + taken, nframes - taken);
        ssize_t sent = batch.nvec ? send_vector(wire, wire->vec, batch.nvec) : 0;
        int n;

        if (sent < 0)
            return (int)sent;
        n = count_sent(wire, frames + taken, batch.n, (size_t)sent);
        if (n < 0)
            return n;
        taken += (unsigned)n;
        *ret_taken = taken;
        if ((size_t)sent < batch.len)
            break;
    }
    return r;
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Bytes of the frame that has begun which are still to come. */
static uint32_t in_left(const struct stream_wire *wire)
{
    return wire->in_len - wire->in_done;
}

/* Returns how many bytes came, 0 if there are none now; or -errno. */
static ssize_t read_vector(const struct stream_wire *wire, const struct iovec *vec, int n)
{
    ssize_t got;

    do
        got = readv(wire->fd, vec, n);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 0 : -errno;
    return got == 0 ? -EPIPE : got;
}

static void take_ahead(struct stream_wire *wire, uint32_t len)
{
    wire->ahead_at += len;
    wire->ahead_len -= len;
}

/* Have a length at hand. 1, 0 if it has not come, or -errno. */
static int read_length(struct stream_wire *wire)
{
    struct iovec part;
    ssize_t got;

    if (wire->ahead_len >= LENGTH_LEN)
        return 1;
    memmove(wire->ahead, wire->ahead + wire->ahead_at, wire->ahead_len);
    wire->ahead_at = 0;
    part.iov_base = wire->ahead + wire->ahead_len;
    part.iov_len = (wire->in_large ? LENGTH_LEN : STREAM_AHEAD_MAX) - wire->ahead_len;
    got = read_vector(wire, &part, 1);
    if (got < 0)
        return (int)got;
    wire->ahead_len += (uint32_t)got;
    return wire->ahead_len >= LENGTH_LEN;
}

/* 1: a frame has begun; 0: none is there; or -errno. */
static int begin_frame(struct stream_wire *wire)
{
    uint32_t len;
    int r = read_length(wire);

    if (r <= 0)
        return r;
    len = load_be32(wire->ahead + wire->ahead_at);
    if (!is_length(len))
        return -EPROTO;
    take_ahead(wire, LENGTH_LEN);
    wire->in_len = len;
    wire->in_done = 0;
    wire->in_skipped = false;
    wire->in_large = len >= LARGE_FRAME;
    return 1;
}

static void copy_ahead(struct stream_wire *wire, const struct iovec *iov, unsigned niov)
{
    uint32_t len = (uint32_t)min_u64(wire->ahead_len, in_left(wire));

    (void)iov_from_buf(iov, niov, NET_HDR_LEN + wire->in_done, wire->ahead + wire->ahead_at,
                       len); /* there is room, see stream_wire_receive */
    take_ahead(wire, len);
    wire->in_done += len;
}

/*
 * Read the rest of the frame into place, and what follows it: of a large one only the length of the
 * next. Nothing is read ahead when this is called. 0 or -errno.
 */
static int read_rest(struct stream_wire *wire, const struct iovec *iov, unsigned niov)
{
    const uint32_t left = in_left(wire);
    int n = iov_slice(iov, niov, NET_HDR_LEN + wire->in_done, left, wire->vec,
                      ARRAY_SIZE(wire->vec) - 1);
    ssize_t got;

    assert(n > 0); /* there is room, and the header's place is that of what follows */
    wire->vec[n] = (struct iovec){wire->ahead, wire->in_large ? LENGTH_LEN : STREAM_AHEAD_MAX};
    got = read_vector(wire, wire->vec, n + 1);
    if (got < 0)
        return (int)got;
    wire->in_done += (uint32_t)min_u64((uint64_t)got, left);
    wire->ahead_at = 0;
    wire->ahead_len = (uint32_t)got > left ? (uint32_t)got - left : 0;
    return 0;
}

/* Get on with a frame that nobody has room for. 0 or -errno. */
static int skip_rest(struct stream_wire *wire)
{
    struct iovec part = {wire->ahead, 0};
    uint32_t len = (uint32_t)min_u64(wire->ahead_len, in_left(wire));
    ssize_t got = len;

    take_ahead(wire, len);
    if (wire->in_done + len < wire->in_len) {
        wire->in_done += len;
        part.iov_len = min_u64(STREAM_AHEAD_MAX, in_left(wire));
        got = read_vector(wire, &part, 1);
        if (got < 0)
            return (int)got;
    }
    wire->in_done += (uint32_t)got;
    return 0;
}

ssize_t stream_wire_receive(struct stream_wire *wire, const struct iovec *iov, unsigned niov)
{
    int r;

    if (wire->in_len == 0) {
        r = begin_frame(wire);
        if (r <= 0)
            return r;
    }
    if (NET_HDR_LEN + wire->in_len > iov_len(iov, niov))
        wire->in_skipped = true;
    if (wire->in_skipped) {
        r = skip_rest(wire);
    } else {
        copy_ahead(wire, iov, niov);
        r = in_left(wire) ? read_rest(wire, iov, niov) : 0;
    }
    if (r < 0)
        return r;
    if (in_left(wire))
        return 0;
    r = wire->in_skipped ? -EMSGSIZE : (int)wire->in_len;
    wire->in_len = 0;
    return r;
}

bool stream_wire_has_frame(const struct stream_wire *wire)
{
    uint32_t len;

    if (wire->in_len)
        return wire->ahead_len >= in_left(wire);
    if (wire->ahead_len < LENGTH_LEN)
        return false;
    len = load_be32(wire->ahead + wire->ahead_at);
    /* Nonsense is there to be found. */
    return !is_length(len) || wire->ahead_len - LENGTH_LEN >= len;
}

void stream_wire_forget(struct stream_wire *wire)
{
    if (wire->in_len && wire->in_done)
        wire->in_skipped = true;
}
