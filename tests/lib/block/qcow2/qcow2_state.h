/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rig's disks have at some moment: after a power cut, or after operations that failed. What
 * is wrong fails the test.
 */
#ifndef MINIVMM_TESTS_QCOW2_STATE_H
#define MINIVMM_TESTS_QCOW2_STATE_H

#include "tests/lib/block/qcow2/qcow2_rig.h"

struct qcow2_state {
    struct qcow2_rig *rig;  /* whose history says what may be there */
    struct mem_disk *disks; /* QCOW2_RIG_DISKS of them: the rig's, or copies */
    size_t at;              /* in the rig's record */
    const char *what;       /* layout, seed and the like, for messages */
};

/*
 * The disk shows what it may, before and after the counts of an image with lazy refcounts were made
 * right, which changes the disks. A raw data file has at least what was flushed. Nothing is counted
 * too low, and no flag is wrong.
 */
void qcow2_state_verify(const struct qcow2_state *state);

/* The tables of a qcow2 backing file, which a commit may have changed. */
void qcow2_state_verify_base(const struct qcow2_state *state);

/* The snapshots that must be there, with their contents. */
void qcow2_state_verify_snapshots(const struct qcow2_state *state);

/* The checker under test finds what the tests' own finds. */
void qcow2_state_check_beside(const struct qcow2_state *state);

/* The same for QEMU's, and its `compare` (qemu_oracle.h). */
void qcow2_state_ask_qemu(const struct qcow2_state *state);

/* The disk goes on: it takes writes, and nothing else changes. */
void qcow2_state_use_further(const struct qcow2_state *state);

#endif
