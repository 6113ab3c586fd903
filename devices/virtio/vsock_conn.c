/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vsock_conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"

/* Packets that are due. Bytes that the socket has for the guest come in addition. */
enum {
    TELL_REQUEST = 1 << 0,
    TELL_RESPONSE = 1 << 1,
    TELL_SHUTDOWN = 1 << 2,
    TELL_CREDIT = 1 << 3,
    TELL_ASK = 1 << 4, /* what credit it has */
};

/* How long a guest may take to answer a request, and to end a connection that the host ended. */
#define ANSWER_NS (5 * NS_PER_S)
#define GOODBYE_NS (8 * NS_PER_S)

/* Credit is told when so much of the buffer has become free since it was told last. */
#define CREDIT_STEP(buf_alloc) ((buf_alloc) / 2)

static void end(struct vsock_conn *conn, enum vsock_verdict verdict)
{
    if (conn->verdict == VSOCK_GOES_ON)
        conn->verdict = verdict;
}

/* A guest that has not been asked yet need not be told. */
static void end_asked(struct vsock_conn *conn)
{
    bool unknown = conn->state == VSOCK_REQUESTED && !conn->told_requested;

    end(conn, unknown ? VSOCK_OVER : VSOCK_RESET);
}

/* ---- what the host's program does ------------------------------------------------------------ */

/* Bytes from the guest have nowhere to go any more. Those that wait count as gone there. */
static void stop_writing(struct vsock_conn *conn)
{
    byte_queue_done(&conn->queue);
    conn->fwd_cnt = conn->rx_cnt;
    conn->host_takes_no_more = true;
    conn->tell |= TELL_SHUTDOWN;
    if (conn->state == VSOCK_DRAINING)
        end(conn, VSOCK_OVER);
}

/* A socket whose other end is closed hangs up, and so does one that is shut down both ways. */
static void notice_hang_up(struct vsock_conn *conn)
{
    if (conn->hung_up && conn->host_sends_no_more && !conn->host_takes_no_more)
        stop_writing(conn);
}

static void stop_reading(struct vsock_conn *conn)
{
    conn->host_sends_no_more = true;
    conn->tell |= TELL_SHUTDOWN;
    notice_hang_up(conn);
}

/* Be told when the socket takes bytes again; else each time it is read from would wake us. */
static void watch_writable(struct vsock_conn *conn)
{
    uint32_t events = EPOLLIN | EPOLLET | (conn->writable ? 0 : EPOLLOUT);

    if (loop_set_events(&conn->socket, events) < 0)
        end(conn, VSOCK_RESET);
}

/* Bytes that the socket took; 0: it takes none now, or never will. */
static size_t write_socket(struct vsock_conn *conn, const struct iovec *iov, size_t niov)
{
    const struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = niov};
    ssize_t n;

    do {
        n = sendmsg(conn->socket.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
        conn->writable = false;
    else
        stop_writing(conn);
    return 0;
}

/* All of the guest's bytes are written that there will be. */
static void finish_writing(struct vsock_conn *conn)
{
    if (conn->state == VSOCK_DRAINING)
        end(conn, VSOCK_OVER);
    else if (conn->guest_sends_no_more)
        (void)shutdown(conn->socket.fd, SHUT_WR); /* fails only if the other end is gone */
}

static void offer_credit(struct vsock_conn *conn)
{
    if (conn->fwd_cnt - conn->told_fwd_cnt >= CREDIT_STEP(conn->buf_alloc))
        conn->tell |= TELL_CREDIT;
}

static void write_queue(struct vsock_conn *conn)
{
    const bool had_some = conn->queue.len > 0;

    while (conn->queue.len > 0 && conn->writable) {
        const struct iovec iov = {
            .iov_base = (uint8_t *)byte_queue_front(&conn->queue),
            .iov_len = conn->queue.len,
        };
        size_t n = write_socket(conn, &iov, 1);

        if (n > 0) {
            byte_queue_consume(&conn->queue, n);
            conn->fwd_cnt += (uint32_t)n;
        }
    }
    offer_credit(conn);
    if (had_some && conn->queue.len == 0)
        finish_writing(conn);
}

static void socket_ready(struct loop_fd *watch, uint32_t events)
{
    struct vsock_conn *conn = container_of(watch, struct vsock_conn, socket);

    if (events & EPOLLIN)
        conn->readable = true;
    if (events & (EPOLLHUP | EPOLLERR)) {
        conn->hung_up = true;
        conn->readable = true; /* what it has left, and then the end */
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        conn->writable = true;
    if (conn->hung_up && conn->state == VSOCK_REQUESTED)
        end_asked(conn);
    notice_hang_up(conn);
    write_queue(conn);
    watch_writable(conn);
    conn->env->settle(conn);
}

/* ---- what the guest says --------------------------------------------------------------------- */

static void patience_is_over(struct loop_timer *timer)
{
    struct vsock_conn *conn = container_of(timer, struct vsock_conn, patience);

    if (*conn->env->paused) {
        conn->time_stands = true;
        return;
    }
    end_asked(conn);
    conn->env->settle(conn);
}

void vsock_conn_resumed(struct vsock_conn *conn)
{
    if (conn->time_stands)
        loop_arm(conn->env->loop, &conn->patience, ANSWER_NS);
    conn->time_stands = false;
}

/* The guest has accepted; so has whoever asked for it, by a line of text. */
static void handle_response(struct vsock_conn *conn)
{
    char line[32];
    int len;

    if (conn->state != VSOCK_REQUESTED || !conn->told_requested) {
        end(conn, VSOCK_RESET);
        return;
    }
    loop_disarm(&conn->patience);
    conn->state = VSOCK_OPEN;
    len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);
    /* The first bytes that the socket is given: it has room, or nobody is there. */
    if (send(conn->socket.fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
        end(conn, VSOCK_RESET);
}

/* Keep bytes [off, len) of a payload. */
static void keep_payload(struct vsock_conn *conn, const struct iovec *iov, unsigned niov,
                         size_t off, size_t len)
{
    for (unsigned i = 0; i < niov && off < len; i++) {
        size_t part = min_u64(iov[i].iov_len, len);

        if (off < part && byte_queue_append(&conn->queue, (const uint8_t *)iov[i].iov_base + off,
                                            part - off, conn->buf_alloc) != part - off) {
            end(conn, VSOCK_RESET); /* no memory */
            return;
        }
        len -= part;
        off -= min_u64(off, part);
    }
}

/* 5.10.6.3.1: a guest never sends more than it has credit for. */
static void handle_bytes(struct vsock_conn *conn, uint32_t len, const struct iovec *payload,
                         unsigned niov)
{
    size_t written = 0;

    if (conn->state != VSOCK_OPEN || conn->guest_sends_no_more ||
        len > conn->buf_alloc - (conn->rx_cnt - conn->fwd_cnt)) {
        end(conn, VSOCK_RESET);
        return;
    }
    vsock_count(&conn->env->counters->from_guest_bytes, len);
    conn->rx_cnt += len;
    if (conn->host_takes_no_more) {
        conn->fwd_cnt = conn->rx_cnt;
        offer_credit(conn);
        return;
    }
    if (conn->queue.len == 0 && conn->writable && len > 0) {
        written = write_socket(conn, payload, niov);
        if (conn->host_takes_no_more)
            return;
        conn->fwd_cnt += (uint32_t)written;
    }
    keep_payload(conn, payload, niov, written, len);
    if (conn->queue.len > 0) {
        write_queue(conn); /* until it says that it takes no more, and will say when it does */
        watch_writable(conn);
    }
    offer_credit(conn);
}

bool vsock_conn_drain(struct vsock_conn *conn)
{
    if (conn->queue.len == 0)
        return false;
    loop_disarm(&conn->patience);
    conn->state = VSOCK_DRAINING;
    return true;
}

/*
 * Once the guest has closed both directions, it waits for us to reset the connection (5.10.6.5).
 * That need not wait for the host's program to read what it was sent.
 */
static void handle_shutdown(struct vsock_conn *conn, uint32_t flags)
{
    if (conn->state != VSOCK_OPEN) {
        end(conn, VSOCK_RESET);
        return;
    }
    if ((flags & VIRTIO_VSOCK_SHUTDOWN_RCV) && !conn->guest_takes_no_more) {
        conn->guest_takes_no_more = true;
        conn->host_sends_no_more = true;
        (void)shutdown(conn->socket.fd, SHUT_RD); /* fails only if the other end is gone */
    }
    if ((flags & VIRTIO_VSOCK_SHUTDOWN_SEND) && !conn->guest_sends_no_more) {
        conn->guest_sends_no_more = true;
        if (conn->queue.len == 0)
            finish_writing(conn);
    }
    if (!conn->guest_takes_no_more || !conn->guest_sends_no_more)
        return;
    end(conn, vsock_conn_drain(conn) ? VSOCK_DETACH : VSOCK_RESET);
}

void vsock_conn_set_credit(struct vsock_conn *conn, const struct vsock_packet *packet)
{
    if (conn->peer_buf_alloc != packet->buf_alloc || conn->peer_fwd_cnt != packet->fwd_cnt)
        conn->asked_for_credit = false;
    conn->peer_buf_alloc = packet->buf_alloc;
    conn->peer_fwd_cnt = packet->fwd_cnt;
}

void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_packet *packet,
                       const struct iovec *payload, unsigned niov)
{
    vsock_conn_set_credit(conn, packet);
    switch (packet->op) {
    case VIRTIO_VSOCK_OP_RST:
        end(conn, VSOCK_OVER);
        break;
    case VIRTIO_VSOCK_OP_RESPONSE:
        handle_response(conn);
        break;
    case VIRTIO_VSOCK_OP_RW:
        handle_bytes(conn, packet->len, payload, niov);
        break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        handle_shutdown(conn, packet->flags);
        break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        if (conn->state == VSOCK_OPEN)
            conn->tell |= TELL_CREDIT;
        break;
    default: /* a request for a connection that exists, too */
        end(conn, VSOCK_RESET);
    }
}

/* ---- what the guest is told ------------------------------------------------------------------ */

static uint32_t credit_of(const struct vsock_conn *conn)
{
    uint32_t ahead = conn->tx_cnt - conn->peer_fwd_cnt;

    return ahead < conn->peer_buf_alloc ? conn->peer_buf_alloc - ahead : 0;
}

static bool may_read(const struct vsock_conn *conn)
{
    return conn->state == VSOCK_OPEN && conn->readable && !conn->host_sends_no_more &&
           !conn->guest_takes_no_more && credit_of(conn) > 0;
}

bool vsock_conn_has_news(const struct vsock_conn *conn)
{
    if (conn->state == VSOCK_DRAINING)
        return false;
    return conn->tell || may_read(conn);
}

/* `len` bytes of payload are in the buffer already. */
static void write_packet(struct vsock_conn *conn, struct vsock_buf *buf, uint16_t op,
                         uint32_t flags, uint32_t len)
{
    const struct vsock_packet packet = {
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = conn->env->guest_cid,
        .src_port = conn->host_port,
        .dst_port = conn->guest_port,
        .len = len,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = op,
        .flags = flags,
        .buf_alloc = conn->buf_alloc,
        .fwd_cnt = conn->fwd_cnt,
    };

    vsock_packet_write(&packet, buf->iov, buf->niov);
    buf->written = VSOCK_HEADER_LEN + len;
    conn->told_fwd_cnt = conn->fwd_cnt;
    conn->tell &= ~(unsigned)TELL_CREDIT;
}

/*
 * Where bytes for the guest may go: behind the headers of its buffers, as far as its credit goes.
 * Returns of how many buffers, with the room in each, and *ret_niov pieces in the scratch.
 */
static unsigned plan_room(const struct vsock_conn *conn, const struct vsock_buf *bufs,
                          unsigned nbufs, uint32_t room[VSOCK_FILL_MAX], size_t *ret_niov)
{
    const struct vsock_env *env = conn->env;
    uint32_t credit = credit_of(conn);
    unsigned n;

    *ret_niov = 0;
    for (n = 0; n < nbufs && credit > 0; n++) {
        int niov;

        room[n] = (uint32_t)min_u64(bufs[n].len - VSOCK_HEADER_LEN, credit);
        niov = iov_slice(bufs[n].iov, bufs[n].niov, VSOCK_HEADER_LEN, room[n], env->iov + *ret_niov,
                         env->niov - *ret_niov);
        if (niov < 0)
            break; /* so many pieces that the next round is for them */
        *ret_niov += (unsigned)niov;
        credit -= room[n];
    }
    return n;
}

/* `len` bytes are in the buffers behind their headers. Returns how many buffers have some. */
static unsigned write_headers(struct vsock_conn *conn, struct vsock_buf *bufs, unsigned nbufs,
                              const uint32_t *room, uint32_t len)
{
    unsigned n;

    conn->tx_cnt += len;
    vsock_count(&conn->env->counters->to_guest_bytes, len);
    for (n = 0; n < nbufs && len > 0; n++) {
        uint32_t part = (uint32_t)min_u64(room[n], len);

        write_packet(conn, &bufs[n], VIRTIO_VSOCK_OP_RW, 0, part);
        len -= part;
    }
    return n;
}

/*
 * Put bytes of the socket into as many buffers as they fill. Returns how many; 0: there are no
 * bytes, and what is known of the socket has changed.
 */
static unsigned read_socket(struct vsock_conn *conn, struct vsock_buf *bufs, unsigned nbufs)
{
    struct msghdr msg = {.msg_iov = conn->env->iov};
    uint32_t room[VSOCK_FILL_MAX];
    unsigned n = plan_room(conn, bufs, nbufs, room, &msg.msg_iovlen);
    ssize_t got;

    assert(n > 0); /* there is credit, and the scratch is longer than any buffer */
    do {
        got = recvmsg(conn->socket.fd, &msg, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) {
        conn->readable = false;
        return 0;
    }
    if (got <= 0) { /* ECONNRESET: closed with bytes of the guest that nobody read */
        stop_reading(conn);
        return 0;
    }
    n = write_headers(conn, bufs, n, room, (uint32_t)got);
    if (credit_of(conn) == 0 && !conn->asked_for_credit) {
        conn->asked_for_credit = true;
        conn->tell |= TELL_ASK;
    }
    return n;
}

/* The guest answers the end of both directions by a reset. */
static void write_shutdown(struct vsock_conn *conn, struct vsock_buf *buf)
{
    uint32_t flags = (conn->host_sends_no_more ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0) |
                     (conn->host_takes_no_more ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0);

    write_packet(conn, buf, VIRTIO_VSOCK_OP_SHUTDOWN, flags, 0);
    if (conn->host_sends_no_more && conn->host_takes_no_more)
        loop_arm(conn->env->loop, &conn->patience, GOODBYE_NS);
}

/* Packets without anything but their operation: before all others, and after the bytes. */
struct plain {
    unsigned bit;
    uint16_t op;
};
static const struct plain openings[] = {
    {TELL_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
    {TELL_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
};
static const struct plain credits[] = {
    {TELL_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
    {TELL_ASK, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
};

static bool fill_plain(struct vsock_conn *conn, const struct plain plains[2], struct vsock_buf *buf)
{
    for (size_t i = 0; i < 2; i++) {
        if (!(conn->tell & plains[i].bit))
            continue;
        conn->tell &= ~plains[i].bit;
        conn->told_requested |= plains[i].bit == TELL_REQUEST;
        write_packet(conn, buf, plains[i].op, 0, 0);
        return true;
    }
    return false;
}

unsigned vsock_conn_fill(struct vsock_conn *conn, struct vsock_buf *bufs, unsigned nbufs)
{
    unsigned n;

    if (fill_plain(conn, openings, &bufs[0]))
        return 1;
    if (!(conn->tell & TELL_SHUTDOWN) && may_read(conn)) {
        n = read_socket(conn, bufs, nbufs);
        if (n > 0)
            return n;
    }
    if (conn->tell & TELL_SHUTDOWN) {
        conn->tell &= ~(unsigned)TELL_SHUTDOWN;
        write_shutdown(conn, &bufs[0]);
        return 1;
    }
    return fill_plain(conn, credits, &bufs[0]);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

struct vsock_conn *vsock_conn_new(struct vsock_env *env, uint32_t guest_port, uint32_t host_port,
                                  uint32_t buf_alloc)
{
    struct vsock_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->env = env;
    conn->guest_port = guest_port;
    conn->host_port = host_port;
    conn->buf_alloc = buf_alloc;
    conn->state = VSOCK_WAITING;
    conn->socket.fd = -1;
    conn->socket.ready = socket_ready;
    conn->patience.expired = patience_is_over;
    list_init(&conn->link);
    list_init(&conn->news);
    list_init(&conn->waiting);
    return conn;
}

void vsock_conn_flush(struct vsock_conn *conn, uint64_t deadline_ns)
{
    struct pollfd pfd = {.fd = conn->socket.fd, .events = POLLOUT};
    uint64_t now;

    while (conn->queue.len > 0 && (now = monotonic_ns()) < deadline_ns) {
        if (poll(&pfd, 1, (int)div_round_up(deadline_ns - now, NS_PER_MS)) < 0 && errno != EINTR)
            return;
        conn->writable = pfd.revents != 0;
        write_queue(conn);
    }
}

void vsock_conn_free(struct vsock_conn *conn)
{
    loop_disarm(&conn->patience);
    if (conn->socket.fd >= 0) {
        loop_remove_fd(&conn->socket);
        close(conn->socket.fd);
    }
    byte_queue_done(&conn->queue);
    free(conn);
}

static int begin(struct vsock_conn *conn, int fd, enum vsock_state state, unsigned tell)
{
    int r;

    conn->socket.fd = fd;
    conn->socket.events = EPOLLIN | EPOLLET;
    r = loop_add_fd(conn->env->loop, &conn->socket);
    if (r < 0) {
        conn->socket.fd = -1;
        return r;
    }
    conn->writable = true;
    conn->state = state;
    conn->tell = tell;
    return 0;
}

int vsock_conn_accept(struct vsock_conn *conn, int fd)
{
    return begin(conn, fd, VSOCK_OPEN, TELL_RESPONSE);
}

int vsock_conn_ask(struct vsock_conn *conn, int fd)
{
    int r = begin(conn, fd, VSOCK_REQUESTED, TELL_REQUEST);

    if (r == 0)
        loop_arm(conn->env->loop, &conn->patience, ANSWER_NS);
    return r;
}
