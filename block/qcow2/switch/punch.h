/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives back space of the file that a switch has left unused: between the switch and the next use
 * of the image.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_PUNCH_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_PUNCH_H

#include "block/qcow2/switch/ledger.h"

/*
 * Give the space of clusters that the old state used and the new one does not back to the host.
 * Where the host cannot take it, the space stays with the file and may be taken again.
 */
void qcow2_punch_unused(struct qcow2_ledger *ledger);

/*
 * Cut the file after the last cluster in use, durably. A block device stays as it is. 0 or -errno.
 */
int qcow2_cut_file(struct qcow2_ledger *ledger) MUST_CHECK;

/*
 * The offset of the run at the end of the file that only the new state uses, if there is free space
 * before it: placed anew, the file becomes shorter. UINT64_MAX if there is no such run.
 */
uint64_t qcow2_new_end(const struct qcow2_ledger *ledger);

#endif
