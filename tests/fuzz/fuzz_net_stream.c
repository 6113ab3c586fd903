/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a stream of frames: it writes what it likes, in pieces of any size, reads when
 * it likes, and hangs up. What arrives is what an independent reader of the same bytes finds; what
 * is sent arrives whole.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "net/stream_wire.h"

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum step {
    STEP_WRITE,
    STEP_LONG_FRAME,
    STEP_RECEIVE,
    STEP_ROOM,
    STEP_SEND,
    STEP_READ,
    STEP_HANG_UP,
    STEP_FORGET
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300u
#define WRITTEN_MAX (2u << 20)

static struct stream_wire wire = {.fd = -1};
static int peer = -1;
static uint32_t room;

/* What the peer wrote, and how much of it was received or passed over. */
static uint8_t written[WRITTEN_MAX];
static uint32_t nwritten, at;
static bool forgot; /* the frame that has begun may be dropped */

/* Lengths of what was sent and not read yet by the peer; what it has read of the first. */
static uint32_t sent[4096];
static uint32_t first_sent, nsent;
static uint8_t read_back[4 + STREAM_FRAME_MAX];
static uint32_t nread_back;

static uint8_t buffer[NET_FRAME_MAX];
static uint8_t frame[NET_FRAME_MAX];

static void end_connection(void)
{
    stream_wire_end(&wire);
    if (peer >= 0)
        close(peer);
    peer = -1;
}

/* Small buffers, so that they are often full. */
static void begin_connection(void)
{
    const int size = 20000;
    int pair[2];

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    for (unsigned i = 0; i < 2; i++)
        must(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
    stream_wire_begin(&wire, pair[0]);
    peer = pair[1];
    nwritten = at = nread_back = 0;
    first_sent = nsent = 0;
    forgot = false;
}

static void peer_write(const uint8_t *data, size_t len)
{
    ssize_t n;

    len = min_u64(len, WRITTEN_MAX - nwritten);
    n = peer >= 0 && len > 0 ? send(peer, data, len, MSG_NOSIGNAL) : 0;
    if (n > 0) {
        memcpy(written + nwritten, data, (size_t)n);
        nwritten += (uint32_t)n;
    }
}

/* So that large frames need no large input. */
static void peer_write_frame(uint32_t len)
{
    static uint8_t bytes[4 + NET_FRAME_MAX];

    store_be32(bytes, len);
    memset(bytes + 4, (int)len & 0xff, len);
    peer_write(bytes, 4 + len);
}

/* A frame, or its end, has come: what does the reader in the test think? */
static void check_received(ssize_t r)
{
    uint32_t len;

    must(nwritten - at >= 4);
    len = load_be32(written + at);
    must(len >= NET_FRAME_MIN && len <= STREAM_FRAME_MAX && nwritten - at - 4 >= len);
    if (r == -EMSGSIZE) {
        must(len > room || forgot);
    } else {
        must(r == (ssize_t)len && len <= room && !memcmp(buffer, written + at + 4, len));
    }
    at += 4 + len;
    forgot = false;
}

static void check_end(ssize_t r)
{
    uint32_t len = nwritten - at >= 4 ? load_be32(written + at) : NET_FRAME_MIN;

    if (r == -EPROTO)
        must(len < NET_FRAME_MIN || len > STREAM_FRAME_MAX);
    else
        must(peer < 0 && (r == -EPIPE || r == -ECONNRESET));
}

static void receive(void)
{
    struct virtio_net_hdr_v1 header;
    const struct iovec iov[] = {{&header, NET_HDR_LEN},
                                {buffer, min_u64(room, 100)},
                                {buffer + min_u64(room, 100), room - min_u64(room, 100)}};
    bool has_frame = stream_wire_has_frame(&wire);
    ssize_t r = stream_wire_receive(&wire, iov, 3);

    if (r == 0) {
        must(!has_frame);
    } else if (r > 0 || r == -EMSGSIZE) {
        check_received(r);
    } else {
        check_end(r);
        end_connection();
    }
}

static void send_frames(uint32_t len, unsigned n)
{
    struct virtio_net_hdr_v1 header = {0};
    const struct iovec iov[] = {
        {&header, NET_HDR_LEN}, {frame, len / 2}, {frame + len / 2, len - len / 2}};
    struct net_frame frames[NET_SEND_MAX];
    unsigned taken;
    int r;

    memset(frame, (int)len & 0xff, len);
    for (unsigned i = 0; i < n; i++)
        frames[i] = (struct net_frame){.iov = iov, .niov = 3, .len = len};
    r = stream_wire_send(&wire, frames, n, &taken);
    must(taken <= n);
    for (unsigned i = 0; i < taken; i++) {
        must(frames[i].dropped == (len > STREAM_FRAME_MAX));
        if (!frames[i].dropped && nsent < ARRAY_SIZE(sent))
            sent[nsent++] = len;
    }
    if (r < 0)
        end_connection();
}

/* One byte after the other, as the length says. */
static void check_read(const uint8_t *data, size_t n)
{
    while (n > 0) {
        uint32_t whole = nread_back < 4 ? 4 : 4 + load_be32(read_back);
        size_t part;

        must(nread_back < 4 || (first_sent < nsent && whole == 4 + sent[first_sent]));
        part = min_u64(n, whole - nread_back);
        memcpy(read_back + nread_back, data, part);
        nread_back += (uint32_t)part;
        data += part;
        n -= part;
        if (nread_back < 4 || nread_back < 4 + load_be32(read_back))
            continue;
        for (uint32_t i = 4; i < nread_back; i++)
            must(read_back[i] == (uint8_t)sent[first_sent]);
        first_sent++;
        nread_back = 0;
    }
}

static void peer_read(size_t len)
{
    static uint8_t data[1 << 20];
    ssize_t n = peer >= 0 ? recv(peer, data, min_u64(len, sizeof(data)), 0) : 0;

    if (n > 0)
        check_read(data, (size_t)n);
    if (wire.fd >= 0 && stream_wire_flush(&wire) < 0)
        end_connection();
}

static void hang_up(void)
{
    if (peer >= 0)
        close(peer);
    peer = -1;
}

/* How many bytes after the step belong to it. */
static size_t take_step(uint8_t step, const uint8_t *data, size_t size)
{
    const unsigned amount = step >> 3;
    const uint32_t number = size >= 2 ? load_be16(data) : 0;

    switch ((enum step)(step & 7)) {
    case STEP_WRITE:
        peer_write(data, min_u64(amount + 1, size));
        return min_u64(amount + 1, size);
    case STEP_LONG_FRAME:
        peer_write_frame(number + (amount & 1) * 15);
        return min_u64(2, size);
    case STEP_RECEIVE:
        for (unsigned i = 0; i <= amount && wire.fd >= 0; i++)
            receive();
        return 0;
    case STEP_ROOM:
        /* It may grow while a frame is under way, which may be passed over already. */
        if (wire.in_len == 0 || number > room)
            room = (uint32_t)max_u64(number, NET_FRAME_MIN);
        forgot = wire.in_len != 0;
        return min_u64(2, size);
    case STEP_SEND:
        if (wire.fd >= 0 && nsent + amount + 1 < ARRAY_SIZE(sent))
            send_frames((uint32_t)max_u64(number, NET_FRAME_MIN) + (amount & 1), amount + 1);
        return min_u64(2, size);
    case STEP_READ:
        peer_read((size_t)1 << (amount & 15));
        return 0;
    case STEP_HANG_UP:
        hang_up();
        return 0;
    case STEP_FORGET:
        stream_wire_forget(&wire);
        forgot = wire.in_len != 0;
        return 0;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    room = NET_FRAME_MAX;
    begin_connection();
    for (unsigned i = 0; i < STEPS_MAX && size > 0; i++) {
        size_t len = 1 + take_step(data[0], data + 1, size - 1);

        data += len;
        size -= len;
        if (wire.fd < 0) {
            end_connection();
            begin_connection();
        }
    }
    end_connection();
    return 0;
}
