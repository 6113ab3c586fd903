/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass of a check: count, and compare with what the refcount blocks say.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_PASS_H
#define MINIVMM_BLOCK_QCOW2_CHECK_PASS_H

#include "block/qcow2/check/check_state.h"
#include "block/qcow2/qcow2.h"

int qcow2_check_init(struct qcow2_check *check, struct qcow2 *q, struct block_check_report *report,
                     struct err *err) MUST_CHECK;
void qcow2_check_done(struct qcow2_check *check);

/* All of it; without the flags if there is anything to fix. */
int qcow2_check_run(struct qcow2_check *check) MUST_CHECK;

/* The wrong COPIED flags are errors: say so. */
void qcow2_check_report_flags(struct qcow2_check *check);

/* Is nothing wrong with the image any more? */
bool qcow2_check_is_right(const struct block_check_result *result);

#endif
