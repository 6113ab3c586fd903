/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of --boot-trace: the timeline of base/trace.h, from `main` to the end.
 *
 * It is opened, and an earlier one emptied, when the first guest can start: a VM that cannot be set
 * up leaves it as it was. It is written when all else has ended.
 *
 * Main thread only.
 */
#ifndef MINIVMM_PROCESS_BOOT_TRACE_H
#define MINIVMM_PROCESS_BOOT_TRACE_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/open_files.h"

struct boot_trace {
    const char *path; /* the configuration's; NULL: none is wanted */
    int fd;           /* -1: not open */
};

/* Refuse, early, a file that the VM is made of. 0, or a negative errno with *err filled. */
int boot_trace_check(const struct boot_trace *trace, const struct open_files *files,
                     struct err *err) MUST_CHECK;

/*
 * Open it, and add it to `files`. Nothing if it is open. 0, or a negative errno with *err filled.
 */
int boot_trace_open(struct boot_trace *trace, struct open_files *files, struct err *err) MUST_CHECK;

/* Write and close it, if it was opened. 0, or a negative errno with *err filled. */
int boot_trace_close(struct boot_trace *trace, struct err *err) MUST_CHECK;

#endif
