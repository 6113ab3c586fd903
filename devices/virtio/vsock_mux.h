/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All connections of a guest: which packet belongs to which, and who may tell the guest something
 * next; private to virtio_vsock.c. Nothing of queues, nothing of how the host's programs are found.
 * All on the loop's thread.
 *
 * Connections take turns in telling the guest something, resets of connections that do not exist
 * come first. Bounds: VSOCK_CONNS_MAX connections, and VSOCK_RESETS_MAX resets that wait for a
 * buffer of the guest. As long as vsock_mux_is_full, the guest's packets are to be left where they
 * are (5.10.6.1.2).
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VSOCK_MUX_H
#define MINIVMM_DEVICES_VIRTIO_VSOCK_MUX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/loop.h"
#include "devices/virtio/vsock_conn.h"
#include "devices/virtio/vsock_host.h"

#define VSOCK_CONNS_MAX 1024u
#define VSOCK_RESETS_MAX 256u

/*
 * The first connections have the full credit, which is what they may have buffered; those beyond
 * make do with less, so that all together have 128 * 256 + 896 * 32 KiB = 60 MiB at most.
 */
#define VSOCK_FULL_CREDITS 128u
#define VSOCK_LITTLE_CREDIT (32u << 10)

#define VSOCK_BUCKETS 128u

struct vsock_mux {
    struct vsock_host *host;
    struct vsock_env env;
    void (*wake)(struct vsock_mux *mux); /* there is something to tell the guest */

    struct list buckets[VSOCK_BUCKETS]; /* connections that the guest knows, by their ports */
    struct list draining;               /* those that it is done with */
    struct list news;                   /* those that have something to tell it */
    struct list waiting;                /* those for whose sockets the host is asked again */
    struct loop_timer retry;
    unsigned nconns;
    struct list resets;
    unsigned nresets;
    uint32_t next_host_port;
};

/* Fill in host and wake, and of env all but settle, first. */
void vsock_mux_init(struct vsock_mux *mux);

/*
 * End all connections and forget all there was to tell; the guest knows. What it has sent still
 * goes to the host's programs. vsock_mux_done waits for that, but not for long: they would wait
 * for the end of the VM, and it for them.
 */
void vsock_mux_clear(struct vsock_mux *mux);
void vsock_mux_done(struct vsock_mux *mux);

/* A pause is over: what waited for that waits for the guest and the host again. */
void vsock_mux_resumed(struct vsock_mux *mux);

/* A packet of the guest: buffers with a header and a payload, if they are right. */
void vsock_mux_packet(struct vsock_mux *mux, const struct iovec *iov, unsigned niov);

bool vsock_mux_is_full(const struct vsock_mux *mux);

/* A socket of the host for a port of the guest; see struct vsock_guest. */
int vsock_mux_connect(struct vsock_mux *mux, int fd, uint32_t guest_port) MUST_CHECK;

bool vsock_mux_has_news(const struct vsock_mux *mux);

/* Fill buffers with what there is to tell; how many, none if there turned out to be nothing. */
unsigned vsock_mux_fill(struct vsock_mux *mux, struct vsock_buf *bufs, unsigned nbufs);

#endif
