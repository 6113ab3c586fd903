/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream between a port of the guest and a stream socket of the host; private to vsock_*.c and
 * virtio_vsock.c. All on the loop's thread.
 *
 * From the guest, bytes go straight out of its memory into the socket; what the socket does not
 * take waits in a buffer, for which the guest has credit (5.10.6.3). To the guest, bytes go
 * straight from the socket into its buffers, as far as its own credit goes; nothing waits here. The
 * socket is watched for edges, so it wakes nobody twice while the guest has no room.
 *
 * Each function that changes a connection may end it or change what it has to tell the guest. Its
 * owner looks at it afterwards (`verdict`, vsock_conn_has_news); where the loop and not
 * the owner was the caller, the connection asks for that look by `settle`, which may free it.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VSOCK_CONN_H
#define MINIVMM_DEVICES_VIRTIO_VSOCK_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/byte_queue.h"
#include "base/compiler.h"
#include "base/list.h"
#include "base/loop.h"
#include "devices/virtio/vsock_host.h"
#include "devices/virtio/vsock_packet.h"

/* What a guest may send ahead of the host's program, and so the longest buffer. */
#define VSOCK_CREDIT (256u << 10)

/* Buffers of the guest that are filled by one look at a socket. */
#define VSOCK_FILL_MAX 32u

/* A guest's buffer for one packet: room for a header, and at least one byte. */
struct vsock_buf {
    const struct iovec *iov;
    unsigned niov;
    uint32_t len;
    uint32_t written; /* result: header and payload */
};

struct vsock_conn;

/* What connections have in common. */
struct vsock_env {
    struct loop *loop;
    uint32_t guest_cid;
    const bool *paused; /* the guest stands still: its time to answer does not run out */
    struct vsock_counters *counters;
    void (*settle)(struct vsock_conn *conn);
    struct iovec *iov; /* scratch, `niov` elements; longer than any buffer of a guest */
    unsigned niov;
};

enum vsock_state {
    VSOCK_WAITING,   /* the guest asked, and there is no socket yet */
    VSOCK_REQUESTED, /* the guest has not answered yet */
    VSOCK_OPEN,
    VSOCK_DRAINING, /* the guest is done with it; the host still gets what it has sent */
};

/* What the owner has to do. */
enum vsock_verdict {
    VSOCK_GOES_ON,
    VSOCK_OVER,   /* free it; the guest knows */
    VSOCK_RESET,  /* free it, and tell the guest */
    VSOCK_DETACH, /* tell the guest that it is over, but keep it until it is: VSOCK_DRAINING */
};

struct vsock_conn {
    struct vsock_env *env;
    uint32_t guest_port;
    uint32_t host_port;
    struct list link;    /* the owner's: all of a kind */
    struct list news;    /* the owner's: those that have something to tell the guest */
    struct list waiting; /* the owner's: those in VSOCK_WAITING */
    unsigned tries;      /* the owner's: how often the host was asked for a socket */

    enum vsock_state state;
    enum vsock_verdict verdict;
    unsigned tell; /* packets that are due, see vsock_conn.c */
    struct loop_fd socket;
    struct loop_timer patience; /* with a guest that has to answer */

    /* Bytes from the guest, and where they went (5.10.6.3). */
    uint32_t buf_alloc;
    uint32_t rx_cnt;
    uint32_t fwd_cnt;
    uint32_t told_fwd_cnt;
    struct byte_queue queue; /* rx_cnt - fwd_cnt bytes */

    /* Bytes to the guest. */
    uint32_t tx_cnt;
    uint32_t peer_buf_alloc;
    uint32_t peer_fwd_cnt;

    bool readable; /* the socket, as far as is known */
    bool writable;
    bool hung_up;
    bool host_sends_no_more;
    bool host_takes_no_more;
    bool guest_sends_no_more;
    bool guest_takes_no_more;
    bool told_requested; /* the guest has been asked */
    bool time_stands;    /* the guest's time to answer was over in a pause, which goes on */
    bool asked_for_credit;
};

/* A connection in VSOCK_WAITING with buf_alloc bytes of buffer at most. NULL: no memory. */
struct vsock_conn *vsock_conn_new(struct vsock_env *env, uint32_t guest_port, uint32_t host_port,
                                  uint32_t buf_alloc);

/* Close the socket. The owner has taken it off its lists. */
void vsock_conn_free(struct vsock_conn *conn);

/*
 * Go on with a socket, which is the connection's now: the guest is told that its request led to
 * something, or it is asked. 0, or -errno: the socket is still the caller's.
 */
int vsock_conn_accept(struct vsock_conn *conn, int fd) MUST_CHECK;
int vsock_conn_ask(struct vsock_conn *conn, int fd) MUST_CHECK;

/* A packet of the guest for this connection, with the payload that it says it has. */
void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_packet *packet,
                       const struct iovec *payload, unsigned niov);

/* Every packet of the guest says what credit it gives. */
void vsock_conn_set_credit(struct vsock_conn *conn, const struct vsock_packet *packet);

/* A pause is over: a guest that has to answer has time for it again. */
void vsock_conn_resumed(struct vsock_conn *conn);

/*
 * The guest is done with the connection. False: so is the host; else it is in VSOCK_DRAINING until
 * it is over.
 */
bool vsock_conn_drain(struct vsock_conn *conn) MUST_CHECK;

/* The same now: wait until the host's program has taken what waits for it, or time is up. */
void vsock_conn_flush(struct vsock_conn *conn, uint64_t deadline_ns);

bool vsock_conn_has_news(const struct vsock_conn *conn);

/* Fill buffers with packets for the guest; how many, which may be none. */
unsigned vsock_conn_fill(struct vsock_conn *conn, struct vsock_buf *bufs, unsigned nbufs);

#endif
