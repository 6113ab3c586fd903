/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a CPU is asked, on whose thread alone it can be found out, or what is about all CPUs and
 * the memory that they change, which one of them finds out while the others stand still. Nobody
 * else waits: a CPU that waits for a disk that hangs leaves open what is asked of it or of all.
 *
 * Main thread, but for what says otherwise.
 */
#ifndef MINIVMM_CPU_QUESTIONS_H
#define MINIVMM_CPU_QUESTIONS_H

#include <stdbool.h>

#include "base/list.h"
#include "base/loop.h"
#include "vmm/gate.h"

/* Embedded in the object of whoever asks, and valid until it is answered. */
struct cpu_question {
    /* Look and note what there is to see; on the CPU's thread, outside the guest. */
    void (*look)(struct cpu_question *question);
    bool of_all; /* and all other CPUs are outside the guest meanwhile */
    /* On the main loop, or when the VM has ended; at once if the CPU does not run. */
    void (*answered)(struct cpu_question *question);

    bool looked; /* for `answered`: false: the CPU does not run */
    struct cpu_questions *questions;
    struct gate *gate;
    struct list link;
    struct gate_work there;
    struct loop_work back;
};

struct cpu_questions {
    struct loop *main;
    struct list open; /* struct cpu_question */
};

void cpu_questions_init(struct cpu_questions *questions, struct loop *main);

/* Fill in look, of_all and answered first. */
void cpu_questions_ask(struct cpu_questions *questions, struct gate_thread *cpu,
                       struct cpu_question *question);

/* Answer all that are open. The CPUs' threads have ended, and did first what was posted to them. */
void cpu_questions_end(struct cpu_questions *questions);

#endif
