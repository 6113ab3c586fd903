/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of set-up code: a negative errno and one line for the user.
 *
 * The function that knows the fact fills the struct once: it names the file or option, the value
 * and what was expected. Callers pass it up; main prints it. Running code (vCPU and I/O threads)
 * returns codes only.
 */
#ifndef MINIVMM_BASE_ERR_H
#define MINIVMM_BASE_ERR_H

#include "base/compiler.h"

#define ERR_MSG_MAX 512

struct err {
    int code;              /* negative errno; 0 while unset */
    char msg[ERR_MSG_MAX]; /* one line, no newline; empty while unset */
};

/*
 * Record an error. `code` is a negative errno; returns it, so that `return err_set(…)` reads well.
 * Control characters that came in from outside (file names) are replaced. `err` may be NULL.
 */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set, with ": " and the text of errno `-code` appended. */
int err_set_errno(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put "text: " in front of a recorded message. */
void err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
