/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_queue.h"

#include <errno.h>

#include "block/live.h"

/* ---- asking and reporting: the main thread --------------------------------------------------- */

static void begin_first(struct disk_queue *queue)
{
    struct list *first = list_first(&queue->waiting);

    if (!first)
        return;
    queue->first = container_of(first, struct disk_op, link);
    loop_post(queue->port->loop, &queue->begin);
}

static void report(struct disk_op *op)
{
    list_remove(&op->link);
    op->done.fn(op->done.opaque, op->result, &op->err);
    op->free(op);
}

static void report_and_go_on(struct loop_work *work)
{
    struct disk_op *op = container_of(work, struct disk_op, report);
    struct disk_queue *queue = op->queue;

    /* Whoever is told may ask for the next one, which then begins by that. */
    queue->first = NULL;
    report(op);
    if (!queue->first)
        begin_first(queue);
}

void disk_queue_add(struct disk_queue *queue, struct disk_op *op)
{
    const bool first = list_is_empty(&queue->waiting);

    op->queue = queue;
    op->report.run = report_and_go_on;
    op->result = err_set(&op->err, -ECANCELED, "the VM ends");
    list_add_tail(&queue->waiting, &op->link);
    if (first)
        begin_first(queue);
}

/* ---- carrying out: the disk's thread --------------------------------------------------------- */

static void finish(struct disk_op *op, int result)
{
    op->result = result;
    loop_post(op->queue->main, &op->report);
}

static void run(void *opaque)
{
    struct disk_op *op = opaque;

    op->err = (struct err){0};
    finish(op, op->carry_out(op));
}

static void begin(struct loop_work *work)
{
    struct disk_queue *queue = container_of(work, struct disk_queue, begin);
    int r = block_live_start(queue->port->block, run, queue->first);

    if (r < 0)
        finish(queue->first, err_set_errno(&queue->first->err, r, "cannot begin"));
}

/* ---- life ------------------------------------------------------------------------------------ */

void disk_queue_init(struct disk_queue *queue, struct loop *main, struct block_port *port)
{
    *queue = (struct disk_queue){.main = main, .port = port, .begin.run = begin};
    list_init(&queue->waiting);
}

void disk_queue_stop(struct disk_queue *queue)
{
    loop_cancel(queue->port->loop, &queue->begin);
}

void disk_queue_end(struct disk_queue *queue)
{
    struct list *first;

    while ((first = list_first(&queue->waiting))) {
        struct disk_op *op = container_of(first, struct disk_op, link);

        loop_cancel(queue->main, &op->report);
        report(op);
    }
}
