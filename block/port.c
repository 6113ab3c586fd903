/* SPDX-License-Identifier: Apache-2.0 */
#include "block/port.h"

#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "base/compiler.h"

static bool is_cancelled(const struct block_port *port)
{
    return __atomic_load_n(&port->cancelled, __ATOMIC_RELAXED);
}

static void count_waiting(struct block_port *port, int by)
{
    __atomic_store_n(&port->nwaiting, port->nwaiting + (unsigned)by, __ATOMIC_RELAXED);
}

/* A cancelled disk answers at once. */
static bool lets_all_go(const struct block_port *port)
{
    return !port->throttle.on || port->hurry || is_cancelled(port);
}

/* Let go of those that may go now, and come back when the next one may. */
static void let_go(struct block_port *port)
{
    uint64_t wait_ns = UINT64_MAX;
    struct block_req *req;

    while ((req = lets_all_go(port) ? throttle_take(&port->throttle)
                                    : throttle_next(&port->throttle, monotonic_ns(), &wait_ns))) {
        count_waiting(port, -1);
        block_submit(port->block, req);
    }
    if (port->nwaiting > 0)
        loop_arm(port->loop, &port->timer, wait_ns);
    else
        loop_disarm(&port->timer);
}

static void time_has_come(struct loop_timer *timer)
{
    let_go(container_of(timer, struct block_port, timer));
}

static void released(struct loop_work *work)
{
    let_go(container_of(work, struct block_port, released));
}

void block_port_init(struct block_port *port, struct block *block, struct loop *loop)
{
    *port = (struct block_port){
        .block = block,
        .loop = loop,
        .timer.expired = time_has_come,
        .released.run = released,
    };
    throttle_init(&port->throttle);
}

void block_port_done(struct block_port *port)
{
    assert(port->nwaiting == 0);
    loop_cancel(port->loop, &port->released);
}

void block_port_switch(struct block_port *port, struct block *block)
{
    port->block = block;
    block_set_cancel(block, is_cancelled(port));
}

void block_port_resized(struct block_port *port)
{
    if (port->user)
        port->user->resized(port->user);
}

void block_port_submit(struct block_port *port, struct block_req *req)
{
    if (req->op == BLOCK_FLUSH || (port->nwaiting == 0 && !port->throttle.on)) {
        block_submit(port->block, req);
        return;
    }
    throttle_add(&port->throttle, req);
    count_waiting(port, 1);
    let_go(port);
}

void block_port_set_limits(struct block_port *port, const struct throttle_limits *limits)
{
    throttle_set(&port->throttle, limits, monotonic_ns());
    let_go(port);
}

void block_port_hurry(struct block_port *port, bool hurry)
{
    port->hurry = hurry;
    let_go(port);
}

void block_port_withdraw(struct block_port *port,
                         bool (*is_meant)(const struct block_req *req, const void *opaque),
                         const void *opaque)
{
    struct list withdrawn;
    struct list *first;

    list_init(&withdrawn);
    throttle_withdraw(&port->throttle, is_meant, opaque, &withdrawn);
    while ((first = list_first(&withdrawn))) {
        struct block_req *req = container_of(first, struct block_req, link);

        list_remove(first);
        count_waiting(port, -1);
        req->done(req, -ECANCELED);
    }
    let_go(port);
}

void block_port_set_cancel(struct block_port *port, bool cancel)
{
    block_set_cancel(port->block, cancel);
    __atomic_store_n(&port->cancelled, cancel, __ATOMIC_RELAXED);
    if (cancel)
        loop_post(port->loop, &port->released);
}

unsigned block_port_in_flight(const struct block_port *port)
{
    return __atomic_load_n(&port->nwaiting, __ATOMIC_RELAXED) + block_in_flight(port->block);
}
