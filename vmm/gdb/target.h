/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a gdb session does with a machine. vmm/debug.c implements it with KVM; tests with arrays.
 *
 * All calls are on the main thread. Registers and memory are looked at, and a machine resumed, only
 * while it is stopped.
 */
#ifndef MINIVMM_GDB_TARGET_H
#define MINIVMM_GDB_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vmm/gdb/registers_x86.h"

struct gdb_target;
struct gdb_breakpoints;

/* The numbers of packets Z0 to Z4. */
enum gdb_breakpoint_type {
    GDB_BREAK_SOFTWARE,
    GDB_BREAK_HARDWARE,
    GDB_WATCH_WRITE,
    GDB_WATCH_READ, /* x86 cannot do it */
    GDB_WATCH_ACCESS,
};

/* What a vCPU shall do while the machine is not stopped. */
enum gdb_action {
    GDB_STAY,
    GDB_CONTINUE,
    GDB_STEP, /* one instruction; the others wait for it */
};

struct gdb_run {
    const enum gdb_action *actions;            /* of each vCPU */
    bool masks_interrupts;                     /* steps take none */
    const struct gdb_breakpoints *breakpoints; /* constant while the machine runs */
};

enum gdb_stop_kind {
    GDB_STOP_ASKED,
    GDB_STOP_STEPPED,
    GDB_STOP_BREAKPOINT,
    GDB_STOP_HARDWARE, /* an instruction with a hardware breakpoint, before it is executed */
    GDB_STOP_WATCHED,  /* data, after the access */
};

/* Why the machine stopped. */
struct gdb_stop {
    enum gdb_stop_kind kind;
    unsigned cpu;
    unsigned watch; /* GDB_STOP_WATCHED: index in gdb_breakpoints.hardware */
};

struct gdb_target_ops {
    unsigned (*ncpus)(struct gdb_target *target);
    bool (*has_avx)(struct gdb_target *target);
    /* Does it stop for such breakpoints? */
    bool (*supports)(struct gdb_target *target, enum gdb_breakpoint_type type);

    /* What to say of a vCPU in a list: "running", "halted", … */
    const char *(*describe)(struct gdb_target *target, unsigned cpu);

    /* 0 or -errno. */
    int (*get_registers)(struct gdb_target *target, unsigned cpu, struct gdb_registers *registers);
    int (*set_registers)(struct gdb_target *target, unsigned cpu,
                         const struct gdb_registers *registers);

    /* A virtual address, as the vCPU sees it now; see page_walk_x86. 0 or -EFAULT. */
    int (*translate)(struct gdb_target *target, unsigned cpu, uint64_t va, uint64_t *ret_gpa,
                     uint64_t *ret_len);

    /* RAM. 0, or -EFAULT: nothing was copied. */
    int (*read)(struct gdb_target *target, uint64_t gpa, void *buf, size_t len);
    int (*write)(struct gdb_target *target, uint64_t gpa, const void *buf, size_t len);

    /* Stop all vCPUs; gdb_session_stopped follows, later and once. */
    void (*stop)(struct gdb_target *target);

    /*
     * Go on. A stop, for which there may be a reason already, is told later, not within the call.
     */
    void (*resume)(struct gdb_target *target, const struct gdb_run *run);

    /* Forget breakpoints, and let all run for good. */
    void (*detach)(struct gdb_target *target);

    /* The same of somebody who was no gdb: a guest that waits for one goes on waiting. */
    void (*withdraw)(struct gdb_target *target);

    /* End the VM. */
    void (*kill)(struct gdb_target *target);
};

struct gdb_target {
    const struct gdb_target_ops *ops;
};

#endif
