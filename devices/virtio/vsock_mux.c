/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vsock_mux.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"
#include "base/log.h"

/*
 * Ports of the host for connections from there. Five digits: systemd's ssh proxy reads no longer
 * ones in "OK PORT". There are enough of them for all connections that there can be.
 */
#define HOST_PORT_FIRST 49152u
#define HOST_PORT_LAST 65535u

_Static_assert(HOST_PORT_LAST - HOST_PORT_FIRST >= VSOCK_CONNS_MAX, "a free port is always found");

/* A listener of the host whose queue is full is tried again, for two seconds in all. */
#define RETRY_NS (10 * NS_PER_MS)
#define RETRY_MAX 200u

/* How long the end of a VM waits for programs that have not read all yet. */
#define LAST_WORDS_NS (500 * NS_PER_MS)

/* The guest is to be told that there is no such connection. */
struct reset {
    struct list link;
    uint64_t cid; /* whom it wanted to talk to */
    uint32_t guest_port;
    uint32_t host_port;
    uint16_t type;
};

static void retry_waiting(struct loop_timer *timer);
static void settle(struct vsock_conn *conn);

void vsock_mux_init(struct vsock_mux *mux)
{
    for (size_t i = 0; i < ARRAY_SIZE(mux->buckets); i++)
        list_init(&mux->buckets[i]);
    list_init(&mux->draining);
    list_init(&mux->news);
    list_init(&mux->waiting);
    list_init(&mux->resets);
    mux->env.settle = settle;
    mux->retry.expired = retry_waiting;
    mux->next_host_port = HOST_PORT_FIRST;
}

/* ---- which connection ------------------------------------------------------------------------ */

static struct list *bucket_of(struct vsock_mux *mux, uint32_t guest_port, uint32_t host_port)
{
    uint32_t hash = (guest_port * 2654435761u) ^ host_port;

    return &mux->buckets[(hash ^ hash >> 16) % VSOCK_BUCKETS];
}

static struct vsock_conn *find(struct vsock_mux *mux, uint32_t guest_port, uint32_t host_port)
{
    list_for_each (link, bucket_of(mux, guest_port, host_port)) {
        struct vsock_conn *conn = container_of(link, struct vsock_conn, link);

        if (conn->guest_port == guest_port && conn->host_port == host_port)
            return conn;
    }
    return NULL;
}

/* NULL: too many, or no memory. */
static struct vsock_conn *add(struct vsock_mux *mux, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_conn *conn;

    if (mux->nconns == VSOCK_CONNS_MAX) {
        log_guest(LOG_WARN, "virtio-vsock: more than %u connections", VSOCK_CONNS_MAX);
        return NULL;
    }
    conn = vsock_conn_new(&mux->env, guest_port, host_port,
                          mux->nconns < VSOCK_FULL_CREDITS ? VSOCK_CREDIT : VSOCK_LITTLE_CREDIT);
    if (!conn)
        return NULL;
    list_add_tail(bucket_of(mux, guest_port, host_port), &conn->link);
    mux->nconns++;
    vsock_count(&mux->env.counters->connections, 1);
    return conn;
}

static void drop(struct vsock_mux *mux, struct vsock_conn *conn)
{
    list_remove(&conn->link);
    list_remove(&conn->news);
    list_remove(&conn->waiting);
    vsock_conn_free(conn);
    mux->nconns--;
    vsock_count(&mux->env.counters->connections, UINT64_MAX); /* one less */
}

/* ---- what there is to tell ------------------------------------------------------------------- */

/* Without memory for it the guest finds out by its own time-out. */
static void tell_reset(struct vsock_mux *mux, const struct reset *reset)
{
    struct reset *kept = malloc(sizeof(*kept));

    if (!kept)
        return;
    *kept = *reset;
    list_add_tail(&mux->resets, &kept->link);
    mux->nresets++;
    mux->wake(mux);
}

/* Answer a packet that belongs to no connection; never a reset by another one (5.10.6.4.1). */
static void refuse(struct vsock_mux *mux, const struct vsock_packet *packet)
{
    const struct reset reset = {
        .cid = packet->dst_cid,
        .guest_port = packet->src_port,
        .host_port = packet->dst_port,
        .type = packet->type,
    };

    if (packet->op != VIRTIO_VSOCK_OP_RST)
        tell_reset(mux, &reset);
}

static void tell_end(struct vsock_mux *mux, const struct vsock_conn *conn)
{
    const struct reset reset = {
        .cid = VSOCK_HOST_CID,
        .guest_port = conn->guest_port,
        .host_port = conn->host_port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
    };

    tell_reset(mux, &reset);
}

/* A connection changed: do what its verdict says, and let it wait for its turn if it has news. */
static void settle(struct vsock_conn *conn)
{
    struct vsock_mux *mux = container_of(conn->env, struct vsock_mux, env);
    enum vsock_verdict verdict = conn->verdict;

    if (verdict == VSOCK_RESET || verdict == VSOCK_DETACH)
        tell_end(mux, conn);
    if (verdict == VSOCK_RESET || verdict == VSOCK_OVER) {
        drop(mux, conn);
        return;
    }
    if (verdict == VSOCK_DETACH) {
        list_remove(&conn->link);
        list_add_tail(&mux->draining, &conn->link);
        conn->verdict = VSOCK_GOES_ON;
    }
    if (!vsock_conn_has_news(conn)) {
        list_remove(&conn->news);
    } else if (list_is_empty(&conn->news)) {
        list_add_tail(&mux->news, &conn->news);
        mux->wake(mux);
    }
}

bool vsock_mux_is_full(const struct vsock_mux *mux)
{
    return mux->nresets >= VSOCK_RESETS_MAX;
}

bool vsock_mux_has_news(const struct vsock_mux *mux)
{
    return !list_is_empty(&mux->resets) || !list_is_empty(&mux->news);
}

static void fill_reset(struct vsock_mux *mux, struct vsock_buf *buf)
{
    struct reset *reset = container_of(list_first(&mux->resets), struct reset, link);
    const struct vsock_packet packet = {
        .src_cid = reset->cid,
        .dst_cid = mux->env.guest_cid,
        .src_port = reset->host_port,
        .dst_port = reset->guest_port,
        .type = reset->type,
        .op = VIRTIO_VSOCK_OP_RST,
    };

    vsock_packet_write(&packet, buf->iov, buf->niov);
    buf->written = VSOCK_HEADER_LEN;
    list_remove(&reset->link);
    mux->nresets--;
    free(reset);
}

unsigned vsock_mux_fill(struct vsock_mux *mux, struct vsock_buf *bufs, unsigned nbufs)
{
    struct vsock_conn *conn;
    unsigned n = 1;

    if (!list_is_empty(&mux->resets)) {
        fill_reset(mux, &bufs[0]);
    } else {
        conn = container_of(list_first(&mux->news), struct vsock_conn, news);
        n = vsock_conn_fill(conn, bufs, nbufs);
        list_remove(&conn->news); /* the next one's turn */
        settle(conn);
    }
    vsock_count(&mux->env.counters->to_guest_packets, n);
    return n;
}

/* ---- connections from the guest -------------------------------------------------------------- */

/* True: it has a socket, or never will. */
static bool find_socket(struct vsock_mux *mux, struct vsock_conn *conn)
{
    int fd = mux->host->connect(mux->host, conn->host_port);

    if (fd == -EAGAIN)
        return false;
    if (fd < 0) {
        conn->verdict = VSOCK_RESET;
    } else if (vsock_conn_accept(conn, fd) < 0) {
        close(fd);
        conn->verdict = VSOCK_RESET;
    }
    return true;
}

static void retry_waiting(struct loop_timer *timer)
{
    struct vsock_mux *mux = container_of(timer, struct vsock_mux, retry);

    if (*mux->env.paused)
        return; /* vsock_mux_resumed goes on */
    list_for_each_safe (link, &mux->waiting) {
        struct vsock_conn *conn = container_of(link, struct vsock_conn, waiting);

        if (!find_socket(mux, conn)) {
            if (++conn->tries < RETRY_MAX)
                continue;
            conn->verdict = VSOCK_RESET;
        }
        list_remove(&conn->waiting);
        settle(conn);
    }
    if (!list_is_empty(&mux->waiting))
        loop_arm(mux->env.loop, &mux->retry, RETRY_NS);
}

void vsock_mux_resumed(struct vsock_mux *mux)
{
    if (!list_is_empty(&mux->waiting) && !mux->retry.loop)
        loop_arm(mux->env.loop, &mux->retry, RETRY_NS);
    for (size_t i = 0; i < ARRAY_SIZE(mux->buckets); i++)
        list_for_each (link, &mux->buckets[i])
            vsock_conn_resumed(container_of(link, struct vsock_conn, link));
}

static void handle_request(struct vsock_mux *mux, const struct vsock_packet *packet)
{
    struct vsock_conn *conn = add(mux, packet->src_port, packet->dst_port);

    if (!conn) {
        refuse(mux, packet);
        return;
    }
    vsock_conn_set_credit(conn, packet);
    vsock_count(&mux->env.counters->from_guest_connections, 1);
    if (find_socket(mux, conn)) {
        settle(conn);
        return;
    }
    list_add_tail(&mux->waiting, &conn->waiting);
    if (!mux->retry.loop)
        loop_arm(mux->env.loop, &mux->retry, RETRY_NS);
}

/* A packet for a connection that exists. */
static void hand_over(struct vsock_mux *mux, struct vsock_conn *conn,
                      const struct vsock_packet *packet, const struct iovec *iov, unsigned niov)
{
    int n = 0;

    if (packet->op == VIRTIO_VSOCK_OP_RW)
        n = iov_slice(iov, niov, VSOCK_HEADER_LEN, packet->len, mux->env.iov, mux->env.niov);
    if (n < 0)
        conn->verdict = VSOCK_RESET; /* it says that it has more than there is */
    else
        vsock_conn_packet(conn, packet, mux->env.iov, (unsigned)n);
    settle(conn);
}

void vsock_mux_packet(struct vsock_mux *mux, const struct iovec *iov, unsigned niov)
{
    struct vsock_packet packet;
    struct vsock_conn *conn;

    vsock_count(&mux->env.counters->from_guest_packets, 1);
    if (vsock_packet_read(iov, niov, &packet) < 0 || packet.src_cid != mux->env.guest_cid) {
        log_guest(LOG_DEBUG, "virtio-vsock: packet without a header, or with a false address");
        return;
    }
    /* 5.10.6.4.1: an unknown type is answered. So is who looks for another guest. */
    if (packet.dst_cid != VSOCK_HOST_CID || packet.type != VIRTIO_VSOCK_TYPE_STREAM) {
        refuse(mux, &packet);
        return;
    }
    conn = find(mux, packet.src_port, packet.dst_port);
    if (conn)
        hand_over(mux, conn, &packet, iov, niov);
    else if (packet.op == VIRTIO_VSOCK_OP_REQUEST)
        handle_request(mux, &packet);
    else
        refuse(mux, &packet);
}

/* ---- connections to the guest ---------------------------------------------------------------- */

static uint32_t free_host_port(struct vsock_mux *mux, uint32_t guest_port)
{
    uint32_t port;

    do {
        port = mux->next_host_port;
        mux->next_host_port = port == HOST_PORT_LAST ? HOST_PORT_FIRST : port + 1;
    } while (find(mux, guest_port, port));
    return port;
}

int vsock_mux_connect(struct vsock_mux *mux, int fd, uint32_t guest_port)
{
    struct vsock_conn *conn = add(mux, guest_port, free_host_port(mux, guest_port));
    int r;

    if (!conn)
        return -ENOBUFS;
    r = vsock_conn_ask(conn, fd);
    if (r < 0) {
        drop(mux, conn);
        return r;
    }
    vsock_count(&mux->env.counters->to_guest_connections, 1);
    settle(conn);
    return 0;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static struct vsock_conn *first_of(const struct list *conns)
{
    struct list *first = list_first(conns);

    return first ? container_of(first, struct vsock_conn, link) : NULL;
}

static void end_all(struct vsock_mux *mux, struct list *conns)
{
    struct vsock_conn *conn;

    while ((conn = first_of(conns))) {
        if (!vsock_conn_drain(conn)) {
            drop(mux, conn);
            continue;
        }
        list_remove(&conn->link);
        list_remove(&conn->news);
        list_add_tail(&mux->draining, &conn->link);
    }
}

void vsock_mux_clear(struct vsock_mux *mux)
{
    struct list *first;

    loop_disarm(&mux->retry);
    for (size_t i = 0; i < ARRAY_SIZE(mux->buckets); i++)
        end_all(mux, &mux->buckets[i]);
    while ((first = list_first(&mux->resets))) {
        list_remove(first);
        free(container_of(first, struct reset, link));
    }
    mux->nresets = 0;
}

void vsock_mux_done(struct vsock_mux *mux)
{
    const uint64_t deadline = monotonic_ns() + LAST_WORDS_NS;
    struct vsock_conn *conn;

    vsock_mux_clear(mux);
    while ((conn = first_of(&mux->draining))) {
        vsock_conn_flush(conn, deadline);
        drop(mux, conn);
    }
    assert(mux->nconns == 0);
}
