/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a step of an x86 guest exact.
 *
 * The processor steps by the trap flag, and clears it on the way into a handler: an interrupt, an
 * exception or a system call would run its handler unseen, until that returns. So while a vCPU
 * steps, there is an int3 at each place that the processor may enter by itself, and the step ends
 * there, before the handler's first instruction. There is one where IRET returns to, and one behind
 * STI, too. And the flag, which the guest did not set, is taken out of what the step wrote: the
 * flags that were pushed, and those that SYSCALL leaves in r11.
 *
 * Without KVM. The guest's tables are hostile input.
 */
#ifndef MINIVMM_DEBUG_STEP_X86_H
#define MINIVMM_DEBUG_STEP_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "memory/page_walk_x86.h"
#include "vmm/gdb/registers_x86.h"

#define STEP_VECTORS 256u
#define STEP_SYSCALLS_MAX 3u
#define STEP_PLACES_MAX (STEP_VECTORS + STEP_SYSCALLS_MAX + 1) /* and what follows IRET or STI */

/* How the processor finds handlers. */
struct step_tables {
    enum {
        STEP_REAL,      /* gates of 4 bytes */
        STEP_PROTECTED, /* of 8 */
        STEP_LONG,      /* of 16 */
    } mode;
    uint64_t idt_base;
    uint32_t idt_limit;
    uint64_t syscalls[STEP_SYSCALLS_MAX]; /* 0: none */
};

/* A place with an int3 of ours. */
struct step_place {
    uint64_t va;
    uint64_t gpa;
    uint8_t original;
};

struct debug_step {
    const struct guest_mem *mem;
    struct page_walk_x86 paging;
    struct step_tables tables;
    struct gdb_registers before;
    uint64_t linear_rip; /* of the instruction that is stepped */
    uint8_t code[3];     /* its first bytes; zeros where there are none */
    size_t nplaces;
    struct step_place places[STEP_PLACES_MAX];
};

/*
 * Fill in mem, paging, tables, before and linear_rip; then the traps are set, but for one at the
 * instruction itself. `traps`: whether KVM stops at them; otherwise there are none.
 */
void step_begin(struct debug_step *step, bool traps);

/* Is there a trap at this linear address? */
bool step_has(const struct debug_step *step, uint64_t va);

/* Remove the traps. */
void step_end(struct debug_step *step);

/*
 * The step is over, and these are the registers now: take the trap flag out of what it wrote.
 * Before step_end. Returns whether *now was changed.
 */
bool step_tidy(const struct debug_step *step, struct gdb_registers *now);

#endif
