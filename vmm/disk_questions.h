/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk is asked or told that leaves its image as it is: its thread answers at once, whatever
 * operation is under way (disk_queue.h). Nobody waits: a disk that hangs leaves its questions open.
 *
 * Main thread, but for what says otherwise.
 */
#ifndef MINIVMM_DISK_QUESTIONS_H
#define MINIVMM_DISK_QUESTIONS_H

#include "base/list.h"
#include "base/loop.h"
#include "block/port.h"

/* Embedded in the object of whoever asks, and valid until it is answered. */
struct disk_question {
    /* Look and note what there is to see, or do what is to be done; on the disk's thread. */
    void (*look)(struct disk_question *question, const struct block_port *port);
    /* On the main loop, or when the disk is closed: it has been looked at. */
    void (*answered)(struct disk_question *question);

    struct disk_questions *questions;
    struct list link;
    struct loop_work there;
    struct loop_work back;
};

struct disk_questions {
    struct loop *main;
    const struct block_port *port; /* of the disk */
    struct list open;              /* struct disk_question */
};

void disk_questions_init(struct disk_questions *questions, struct loop *main,
                         const struct block_port *port);

/* Fill in look and answered first. The disk is open. */
void disk_questions_ask(struct disk_questions *questions, struct disk_question *question);

/* Answer all that are open. The disk's thread has ended, and did first what was posted to it. */
void disk_questions_end(struct disk_questions *questions);

#endif
