/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repairs what a check has found.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_H
#define MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_H

#include "block/qcow2/check/check_state.h"

/*
 * Repair what `check` has found and check->fix allows, each round with one switch, and check again:
 * check->result says what is left and what was repaired. Returns 0, or -errno with *err filled.
 */
int qcow2_repair(struct qcow2_check *check) MUST_CHECK;

#endif
