/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu_questions.h"

#include "base/bytes.h"

static void answer(struct cpu_question *question)
{
    list_remove(&question->link);
    question->answered(question);
}

static void come_back(struct loop_work *work)
{
    answer(container_of(work, struct cpu_question, back));
}

/* On the CPU's thread. Once it is posted, the question is the main thread's. */
static void look(struct gate_work *work)
{
    struct cpu_question *question = container_of(work, struct cpu_question, there);
    struct gate *gate = question->of_all ? question->gate : NULL;

    if (gate)
        gate_begin_exclusive(gate);
    question->look(question);
    loop_post(question->questions->main, &question->back);
    if (gate)
        gate_end_exclusive(gate);
}

void cpu_questions_init(struct cpu_questions *questions, struct loop *main)
{
    questions->main = main;
    list_init(&questions->open);
}

void cpu_questions_ask(struct cpu_questions *questions, struct gate_thread *cpu,
                       struct cpu_question *question)
{
    question->questions = questions;
    question->gate = cpu->gate;
    question->there = (struct gate_work){.run = look};
    question->back = (struct loop_work){.run = come_back};
    question->looked = true; /* before the thread can be there */
    list_add_tail(&questions->open, &question->link);
    if (gate_post(cpu, &question->there))
        return;
    question->looked = false;
    answer(question);
}

void cpu_questions_end(struct cpu_questions *questions)
{
    struct list *first;

    while ((first = list_first(&questions->open))) {
        struct cpu_question *question = container_of(first, struct cpu_question, link);

        loop_cancel(questions->main, &question->back);
        answer(question);
    }
}
