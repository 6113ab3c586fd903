/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space of the file that a switch has left without use: before the image is used again.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_PUNCH_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_PUNCH_H

#include "block/qcow2/switch/ledger.h"

/*
 * Give the space of clusters that nothing refers to any more back to the host. A hint: where the
 * host cannot do it, the space stays with the file, free for reuse.
 */
void qcow2_punch_unused(struct qcow2_ledger *ledger);

/* Cut the file after the last cluster in use, durably; a block device stays as it is. */
int qcow2_cut_file(struct qcow2_ledger *ledger) MUST_CHECK;

/*
 * Where clusters begin that the old state did not use, at the end of the file, and after free ones:
 * the file can be shorter. UINT64_MAX: nowhere.
 */
uint64_t qcow2_new_end(const struct qcow2_ledger *ledger);

#endif
