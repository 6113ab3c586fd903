/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The breakpoints of a gdb session.
 *
 * A software breakpoint is an int3 in guest memory, at the physical address where its virtual one
 * led when it was set. Nobody who reads memory through the session sees it. Hardware breakpoints
 * and watchpoints are kept in the processor's four debug registers, which each cover up to 8
 * aligned bytes; a larger or unaligned watchpoint takes several.
 */
#ifndef MINIVMM_GDB_BREAKPOINTS_H
#define MINIVMM_GDB_BREAKPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vmm/gdb/target.h"

#define GDB_SOFTWARE_MAX 512u
#define GDB_HARDWARE_MAX 4u

struct gdb_software {
    uint64_t va;
    uint64_t gpa;
    uint8_t original;
};

struct gdb_hardware {
    enum gdb_breakpoint_type type;
    uint64_t va;
    uint64_t len;
};

/* What one debug register covers: `len` is 1, 2, 4 or 8, and va is aligned to it. */
struct gdb_debug_register {
    unsigned hardware; /* index in gdb_breakpoints.hardware */
    uint64_t va;
    unsigned len;
};

/* All zero: none. */
struct gdb_breakpoints {
    struct gdb_software software[GDB_SOFTWARE_MAX];
    size_t nsoftware;
    struct gdb_hardware hardware[GDB_HARDWARE_MAX];
    unsigned nhardware;
};

/*
 * Setting one that is set, and removing one that is not, is fine. `cpu` translates the address.
 * 0; -EFAULT: there is no memory; -ENOSPC: too many.
 */
int gdb_software_set(struct gdb_breakpoints *breakpoints, struct gdb_target *target, unsigned cpu,
                     uint64_t va) MUST_CHECK;
void gdb_software_remove(struct gdb_breakpoints *breakpoints, struct gdb_target *target,
                         uint64_t va);

/* 0; -ENOSPC: the debug registers do not suffice; -EINVAL: `len` is 0 or the address wraps. */
int gdb_hardware_set(struct gdb_breakpoints *breakpoints,
                     const struct gdb_hardware *hardware) MUST_CHECK;
void gdb_hardware_remove(struct gdb_breakpoints *breakpoints, const struct gdb_hardware *hardware);

/* Returns how many registers there are. */
unsigned gdb_debug_registers(const struct gdb_breakpoints *breakpoints,
                             struct gdb_debug_register registers[GDB_HARDWARE_MAX]);

void gdb_breakpoints_remove_all(struct gdb_breakpoints *breakpoints, struct gdb_target *target);

/*
 * The guest was reset, its memory is new: set again the software breakpoints whose place has the
 * same instruction as before, and forget the others. Returns how many were forgotten.
 */
size_t gdb_breakpoints_restore(struct gdb_breakpoints *breakpoints, struct gdb_target *target);

/* Is there a software breakpoint at this virtual address? */
bool gdb_breakpoints_has(const struct gdb_breakpoints *breakpoints, uint64_t va);

/* Memory at gpa was read into buf: put back what the breakpoints hide. */
void gdb_breakpoints_hide(const struct gdb_breakpoints *breakpoints, uint64_t gpa, uint8_t *buf,
                          size_t len);

/* Buf is about to be written to gpa: keep what the breakpoints hide, and them in it. */
void gdb_breakpoints_keep(struct gdb_breakpoints *breakpoints, uint64_t gpa, uint8_t *buf,
                          size_t len);

#endif
