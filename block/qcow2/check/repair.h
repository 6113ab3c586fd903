/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making right what a check has found.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_H
#define MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_H

#include "block/qcow2/check/check_state.h"

/* Make all that `check` found and is to fix right, as one change; check again. */
int qcow2_repair(struct qcow2_check *check) MUST_CHECK;

#endif
