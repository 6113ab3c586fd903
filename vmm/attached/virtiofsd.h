/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtiofsd, the program that serves a folder of the host: finding and starting it.
 *
 * There are two of that name: the one that came with QEMU until 7.2, in C, which Debian 12 has, and
 * its successor in Rust. An ordinary user's runs in a user namespace of its own, in which it may do
 * what it otherwise needs root for; there guest's root is the user, and other users are the user's
 * subordinate ids, if there are any.
 */
#ifndef MINIVMM_ATTACHED_VIRTIOFSD_H
#define MINIVMM_ATTACHED_VIRTIOFSD_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/helper_process.h"

struct virtiofsd_options {
    const char *folder; /* absolute, without symbolic links */
    bool readonly;
};

/* Can one be started for that? 0, or a negative errno with *err filled: what helps. */
int virtiofsd_check(const struct virtiofsd_options *options, struct err *err) MUST_CHECK;

/*
 * Start one, and connect to it. It need not be ready: what is sent waits, and the connection is
 * reset if it ends before. It ends when the socket is closed. 0, or a negative errno with *err
 * filled.
 */
int virtiofsd_start(const struct virtiofsd_options *options, struct helper_process **ret_process,
                    int *ret_sock, struct err *err) MUST_CHECK;

/* What helps, by the line that it left; "" if nothing is known. Begins with ": ". */
const char *virtiofsd_hint(const char *line);

#endif
