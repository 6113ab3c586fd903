/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass of a check: counts references, and compares the counts with what the refcount blocks
 * say.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_PASS_H
#define MINIVMM_BLOCK_QCOW2_CHECK_PASS_H

#include "block/qcow2/check/check_state.h"
#include "block/qcow2/qcow2.h"

/*
 * Begin a check that repairs nothing. Returns 0, or -errno with *err filled; qcow2_check_done frees
 * the memory in any case.
 */
int qcow2_check_init(struct qcow2_check *check, struct qcow2 *q, struct block_check_report *report,
                     struct err *err) MUST_CHECK;
void qcow2_check_done(struct qcow2_check *check);

/*
 * Carry out the pass. If check->fix is not 0, wrong COPIED flags are left to a repair or to
 * qcow2_check_report_flags. Returns 0 or -errno.
 */
int qcow2_check_run(struct qcow2_check *check) MUST_CHECK;

/* Report the wrong COPIED flags, and count them as errors. */
void qcow2_check_report_flags(struct qcow2_check *check);

/* Has the check found nothing wrong? */
bool qcow2_check_is_right(const struct block_check_result *result);

#endif
