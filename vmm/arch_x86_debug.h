/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM does for a debugger on x86: registers, steps, breakpoints in debug registers.
 *
 * On a vCPU that is held, from any thread, or on its own thread; arch_debug_exit wherever the exit
 * is dealt with.
 */
#ifndef MINIVMM_ARCH_X86_DEBUG_H
#define MINIVMM_ARCH_X86_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "memory/page_walk_x86.h"
#include "vmm/debug_step_x86.h"
#include "vmm/gdb/breakpoints.h"
#include "vmm/gdb/registers_x86.h"
#include "vmm/kvm.h"

struct kvm_run;

/* Why KVM stopped a vCPU. */
struct arch_debug_exit {
    uint64_t pc;        /* linear; of a breakpoint itself, else of the next instruction */
    bool breakpoint;    /* an int3 */
    bool stepped;       /* one instruction was executed */
    unsigned registers; /* a bit for each debug register that matched */
    uint64_t dr6;
};

/* What it shall stop for. */
struct arch_debug_want {
    bool step;
    bool masks_interrupts; /* in a step; only where KVM can */
    bool software;         /* int3 */
    unsigned nregisters;
    struct gdb_debug_register registers[GDB_HARDWARE_MAX];
    enum gdb_breakpoint_type types[GDB_HARDWARE_MAX];
};

/* 0 or -errno. A step is from where the vCPU is now: say it before each. */
int arch_debug_apply(int vcpu_fd, const struct arch_debug_want *want) MUST_CHECK;

void arch_debug_exit(const struct kvm_run *run, struct arch_debug_exit *ret_exit);

/* The exception was the guest's own: let it have it. */
int arch_debug_reinject(int vcpu_fd, const struct arch_debug_want *want,
                        const struct arch_debug_exit *exit) MUST_CHECK;

/* Take back an exception that KVM raised because it could not carry out an instruction. */
int arch_debug_forget_exception(int vcpu_fd) MUST_CHECK;

/* The linear address of the next instruction. */
int arch_debug_linear_rip(int vcpu_fd, uint64_t *ret_rip) MUST_CHECK;

int arch_debug_get_registers(int vcpu_fd, struct gdb_registers *ret_registers) MUST_CHECK;
int arch_debug_set_registers(int vcpu_fd, const struct gdb_registers *registers) MUST_CHECK;
bool arch_debug_has_avx(void);

int arch_debug_get_paging(int vcpu_fd, struct page_walk_x86 *ret_paging) MUST_CHECK;

/* Where interrupts, exceptions and system calls lead. */
int arch_debug_get_tables(int vcpu_fd, struct step_tables *ret_tables) MUST_CHECK;

/* "running", "halted", "waits for start-up". */
const char *arch_debug_describe(int vcpu_fd);

#endif
