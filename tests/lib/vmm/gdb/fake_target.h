/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine for gdb sessions, made of arrays: memory and registers, no code. It stops when told so,
 * and notes what it was asked to do.
 */
#ifndef MINIVMM_TESTS_FAKE_TARGET_H
#define MINIVMM_TESTS_FAKE_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/gdb/breakpoints.h"
#include "vmm/gdb/target.h"

#define FAKE_NCPUS 3u
#define FAKE_MEM 0x4000u

/* Virtual addresses: memory is at its own address, and once more here. Page 2 is not mapped. */
#define FAKE_ALIAS 0xffff800000000000ull
#define FAKE_HOLE 0x2000u

struct fake_target {
    struct gdb_target target;
    uint8_t mem[FAKE_MEM];
    struct gdb_registers registers[FAKE_NCPUS];
    bool supports_nothing;
    unsigned nstops; /* calls */
    unsigned nresumes;
    unsigned ndetaches;
    unsigned nwithdrawals;
    unsigned nkills;
    enum gdb_action actions[FAKE_NCPUS]; /* of the last resume */
    bool masks_interrupts;
    const struct gdb_breakpoints *breakpoints;
};

void fake_target_init(struct fake_target *fake);

#endif
