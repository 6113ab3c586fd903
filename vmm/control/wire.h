/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to one client of a control socket: bytes in, and bytes out through a bounded queue.
 *
 * A client that does not read is dropped when the queue is full, and one that does not listen to
 * answers before it asks again is not read from; so no client can make the process keep more than
 * WIRE_OUT_MAX bytes. The loop's thread only.
 */
#ifndef MINIVMM_CONTROL_WIRE_H
#define MINIVMM_CONTROL_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/byte_queue.h"
#include "base/loop.h"

/* The largest answers are those that describe all disks; events come on top. */
#define WIRE_OUT_MAX (3u << 19)

/*
 * With more than this to be sent, a wire is busy: nothing is read, and nothing should be answered.
 */
#define WIRE_OUT_BUSY (64u << 10)

struct wire;

struct wire_ops {
    /* Any number of bytes came, at least one. */
    void (*received)(struct wire *wire, const char *data, size_t len);
    /* The wire is no longer busy. */
    void (*drained)(struct wire *wire);
    /* The client will send no more; it may still read. */
    void (*ended)(struct wire *wire);
    /* The connection is closed, and the wire may be freed. Never from within a call of wire_*. */
    void (*closed)(struct wire *wire);
};

struct wire {
    const struct wire_ops *ops;
    struct loop *loop;
    struct loop_fd watch;
    struct byte_queue out;
    struct loop_work close_work;
    bool paused;    /* the owner wants no input for now */
    bool eof;       /* the client has ended its direction */
    bool finishing; /* to be closed when everything was sent */
    bool broken;    /* nothing is sent or received any more */
};

/* Take over `fd`, a connected socket. 0 or -errno; fd is closed then. */
int wire_open(struct wire *wire, const struct wire_ops *ops, struct loop *loop, int fd) MUST_CHECK;

/* Send, now or when the client reads; a wire that is broken or finishing forgets it. */
void wire_send(struct wire *wire, const char *data, size_t len);

bool wire_is_busy(const struct wire *wire);

/* Is it about to be closed, by the owner or because the client has gone? */
bool wire_is_ending(const struct wire *wire);

/* Take no input for a while. What was received in the same call before is the owner's to keep. */
void wire_pause(struct wire *wire, bool paused);

/* Close when all was sent. */
void wire_finish(struct wire *wire);

/* Close as soon as the loop comes to it; `closed` follows. */
void wire_drop(struct wire *wire);

/* Close at once, without `closed`; what the socket takes of the output is sent. */
void wire_close(struct wire *wire);

#endif
