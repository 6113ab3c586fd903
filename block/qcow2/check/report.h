/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports what a check finds in the words of qemu-img check, which scripts compare.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_REPORT_H
#define MINIVMM_BLOCK_QCOW2_CHECK_REPORT_H

#include "block/qcow2/check/check_state.h"

/* Add a line to the report. */
void qcow2_check_say(struct qcow2_check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Count and report an error found `n` times, unless `n` is 0 or entries are counted as repaired. */
void qcow2_check_error(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/*
 * Count a wrong COPIED flag found `n` times, and keep the line, unless `n` is 0 or entries are
 * counted as repaired. It becomes an error with qcow2_check_report_flags.
 */
void qcow2_check_wrong_copied(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Report the lines that qcow2_check_wrong_copied has kept. */
void qcow2_check_say_rest(struct qcow2_check *check);

/* Report which of the clusters [first, end) have a wrong refcount. */
void qcow2_check_say_counts(struct qcow2_check *check, uint64_t first, uint64_t end);

/* Report which clusters' refcounts a repair makes right, or that it makes all of them anew. */
void qcow2_check_say_repair(struct qcow2_check *check);

#endif
