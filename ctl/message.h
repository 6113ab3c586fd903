/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What minivmm-ctl says when something is wrong: one line on stderr, with nothing in it that a
 * terminal obeys, and an exit status.
 */
#ifndef MINIVMM_CTL_MESSAGE_H
#define MINIVMM_CTL_MESSAGE_H

#include <errno.h>

#include "base/compiler.h"
#include "base/err.h"

enum ctl_status {
    CTL_OK = 0,
    CTL_REFUSED = 1,   /* the VM answered with an error */
    CTL_USAGE = 2,     /* the command line is wrong */
    CTL_NO_VM = 3,     /* there is no such VM */
    CTL_NO_ANSWER = 4, /* the VM does not answer, speaks something else, or did not do it in time */
    CTL_FAILED = 5,    /* something on this side: no memory, no terminal, output lost */
};

/* What link.h returns for an error that the VM answered with. */
#define CTL_REMOTE_ERROR (-EREMOTEIO)

void ctl_note(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Print what *err says; the exit status that its code stands for. */
int ctl_fail(const struct err *err);

/* Print, and how to get help. Returns CTL_USAGE. */
int ctl_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
