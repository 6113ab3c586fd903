/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_questions.h"

static void answer(struct disk_question *question)
{
    list_remove(&question->link);
    question->answered(question);
}

static void come_back(struct loop_work *work)
{
    answer(container_of(work, struct disk_question, back));
}

/* On the disk's thread. */
static void look(struct loop_work *work)
{
    struct disk_question *question = container_of(work, struct disk_question, there);

    question->look(question, question->questions->port);
    loop_post(question->questions->main, &question->back);
}

void disk_questions_init(struct disk_questions *questions, struct loop *main,
                         const struct block_port *port)
{
    questions->main = main;
    questions->port = port;
    list_init(&questions->open);
}

void disk_questions_ask(struct disk_questions *questions, struct disk_question *question)
{
    question->questions = questions;
    question->there = (struct loop_work){.run = look};
    question->back = (struct loop_work){.run = come_back};
    list_add_tail(&questions->open, &question->link);
    loop_post(questions->port->loop, &question->there);
}

void disk_questions_end(struct disk_questions *questions)
{
    struct list *first;

    while ((first = list_first(&questions->open))) {
        struct disk_question *question = container_of(first, struct disk_question, link);

        loop_cancel(questions->main, &question->back);
        answer(question);
    }
}
