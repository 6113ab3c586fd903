/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest's requests enter a disk. They wait here for the disk's limits (throttle.h); what
 * the disk does for itself does not come this way.
 *
 * A request that waits is in flight for whoever counts. No time passes for it without a reason: one
 * timer is armed for the next that may go, and limits that change, a hurry and a cancelled disk let
 * go of it at once.
 *
 * All functions on the thread of the loop, but for those that say otherwise.
 */
#ifndef MINIVMM_BLOCK_PORT_H
#define MINIVMM_BLOCK_PORT_H

#include <stdbool.h>

#include "base/loop.h"
#include "block/account.h"
#include "block/block.h"
#include "block/throttle.h"

/* The device of the disk, embedded in it. */
struct block_port_user {
    /* The disk may have another length. */
    void (*resized)(struct block_port_user *user);
};

struct block_port {
    struct block *block;          /* attached to `loop` */
    struct block_port_user *user; /* NULL: there is no device, or its driver does not run */
    struct loop *loop;
    struct account account; /* owner: the device, on the loop's thread */
    struct throttle throttle;
    struct loop_timer timer;   /* armed while requests wait */
    struct loop_work released; /* cancelled: nothing waits any more */
    unsigned nwaiting;         /* atomic, written on the loop's thread */
    bool hurry;
    bool cancelled; /* atomic, written on any thread */
};

/* No limits. Any thread, before the first request. */
void block_port_init(struct block_port *port, struct block *block, struct loop *loop);

/* Nothing is in flight, and nobody cancels any more. The loop does not run, or on its thread. */
void block_port_done(struct block_port *port);

/* Another image has the requests (stack.h). */
void block_port_switch(struct block_port *port, struct block *block);

/* Tell the user, if there is one, that the disk has another length. */
void block_port_resized(struct block_port *port);

/* As block_submit. */
void block_port_submit(struct block_port *port, struct block_req *req);

/* From now on these limits hold, for the requests that wait, too. */
void block_port_set_limits(struct block_port *port, const struct throttle_limits *limits);

/*
 * Does no request wait for limits? The user of the VM waits until none is in flight. They count all
 * the same, so what is gained by it is paid for afterwards.
 */
void block_port_hurry(struct block_port *port, bool hurry);

/*
 * Of the requests that wait for limits, those that are meant never begin: they are done inside,
 * with -ECANCELED. For what a guest can bring about as often as it likes: if they were let go
 * instead, it would have no limits.
 */
void block_port_withdraw(struct block_port *port,
                         bool (*is_meant)(const struct block_req *req, const void *opaque),
                         const void *opaque);

/* As block_set_cancel, for those that wait here, too. Any thread. */
void block_port_set_cancel(struct block_port *port, bool cancel);

/* Requests that wait here, and those of the disk. Any thread. */
unsigned block_port_in_flight(const struct block_port *port);

#endif
