/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations on a disk that were asked for: they are asked for on the main thread, carried out
 * on the disk's, one after the other, and reported on the main loop.
 *
 * Main thread, but for what says otherwise.
 */
#ifndef MINIVMM_DISK_QUEUE_H
#define MINIVMM_DISK_QUEUE_H

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "block/port.h"

/* Who is told that an operation is done. */
struct disk_done {
    void (*fn)(void *opaque, int result, const struct err *err);
    void *opaque;
};

/* Embedded in an operation. Owner: the main thread, and the disk's while it is carried out. */
struct disk_op {
    /* In a coroutine of the disk's loop (block/live.h). 0, or -errno with `err` filled. */
    int (*carry_out)(struct disk_op *op);
    /* It was reported, and is nobody's any more. */
    void (*free)(struct disk_op *op);
    struct disk_done done;

    struct list link;
    struct disk_queue *queue;
    struct loop_work report; /* on the main loop */
    int result;
    struct err err;
};

struct disk_queue {
    struct loop *main;
    struct block_port *port; /* of the disk */
    struct list waiting;     /* struct disk_op, in order; the first is under way */
    struct loop_work begin;  /* on the disk's loop: begin with `first` */
    struct disk_op *first;
};

void disk_queue_init(struct disk_queue *queue, struct loop *main, struct block_port *port);

/* Fill in carry_out, free and done first. The queue owns the operation. */
void disk_queue_add(struct disk_queue *queue, struct disk_op *op);

/* No operation begins any more. On the disk's thread, before the image is detached. */
void disk_queue_stop(struct disk_queue *queue);

/* Report on all that are not reported yet. After the image was detached. */
void disk_queue_end(struct disk_queue *queue);

#endif
