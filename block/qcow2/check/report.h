/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a check says about an image, in the words of qemu-img check: scripts compare them.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_REPORT_H
#define MINIVMM_BLOCK_QCOW2_CHECK_REPORT_H

#include "block/qcow2/check/check_state.h"

/* Say something in the report. */
void qcow2_check_say(struct qcow2_check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* An error, found `n` times, unless that is 0 or entries are taken as repaired. */
void qcow2_check_error(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* The same for a wrong COPIED flag: qcow2_check_say_rest says it, and it becomes an error then. */
void qcow2_check_wrong_copied(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

void qcow2_check_say_rest(struct qcow2_check *check);

/* Say which of the clusters [first, end) are counted wrongly. */
void qcow2_check_say_counts(struct qcow2_check *check, uint64_t first, uint64_t end);

/* Say which clusters' refcounts a repair makes right, or that it makes all of them anew. */
void qcow2_check_say_repair(struct qcow2_check *check);

#endif
