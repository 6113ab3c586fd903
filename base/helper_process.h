/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that work for this one and end with it: passt, virtiofsd, helpers that open devices.
 * What they have started ends with them: all processes of their group.
 *
 * A helper gets the descriptors that it is meant to have and no other, no terminal, no signal that
 * was meant for us, and the signal mask and handlers of a fresh process. What it prints never
 * reaches our output as it is: it is read line by line, made harmless, logged at debug level, and
 * the line that tells most is kept for messages. A process is looked at by its pidfd, and only
 * helpers are waited for: other children of the process are nobody's business here.
 *
 * Starting one neither copies page tables nor memory, however much the guest has. One thread at a
 * time uses a helper; while it is watched, that is the loop's.
 */
#ifndef MINIVMM_BASE_HELPER_PROCESS_H
#define MINIVMM_BASE_HELPER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"

struct helper_process;

/* Longest line of a helper that counts; the rest of a longer one is dropped. */
#define HELPER_LINE_MAX 256u

/* Most descriptors that one is given. */
#define HELPER_FDS_MAX 4u

struct helper_spec {
    const char *name;        /* in the log, before what it prints: "net eth0: passt"; kept */
    const char *const *argv; /* NULL at the end; argv[0] has a slash, or is found by PATH */
    const int *fds;          /* they become its descriptors 3, 4, …; ours stay as they are */
    unsigned nfds;
    /*
     * What the kernel sends it when the *thread* that starts it ends, by kill -9 too; 0: nothing,
     * for one that ends when our side of a socket is closed. The kernel forgets it when the helper
     * changes its user.
     */
    int death_signal;
    /*
     * Does `line` say more than the line kept so far (""), which it then replaces? NULL: the last
     * line is kept.
     */
    bool (*tells_more)(const char *kept, const char *line);
};

/*
 * Start one. 0, or a negative errno with *err filled; -ENOENT: there is no such program. That it
 * started does not mean that it will go on.
 */
int helper_process_start(const struct helper_spec *spec, struct helper_process **ret_helper,
                         struct err *err) MUST_CHECK;

/*
 * Wait until `fd` (-1: none) is readable or broken, or the helper ends: for set-up, not watched. 0:
 * `fd` is; -ESRCH: the helper has ended, and what it printed is read; -ETIMEDOUT.
 */
int helper_process_wait(struct helper_process *helper, int fd, int timeout_ms) MUST_CHECK;

/*
 * Call `ended(opaque)` on the loop's thread, once, when the helper has ended; and read what it
 * prints, which it may wait for. 0 or -errno: then it is not watched. It may be watched again,
 * also by another loop.
 */
int helper_process_watch(struct helper_process *helper, struct loop *loop,
                         void (*ended)(void *opaque), void *opaque) MUST_CHECK;
void helper_process_unwatch(struct helper_process *helper); /* harmless if not watched */

/*
 * Why it has ended, for people: "exit status 1: no route to host". Valid until the helper is
 * freed; while it runs: "runs".
 */
const char *helper_process_fate(struct helper_process *helper);

/* It ended by itself, without a complaint: exit status 0. */
bool helper_process_is_content(const struct helper_process *helper);

/* The line of what it printed that was kept; "" if there was none. */
const char *helper_process_line(const struct helper_process *helper);

/*
 * The end: it has `patience_ms` to end by itself (its socket is closed, say), and is killed then.
 * Frees it; NULL is fine. Not watched any more.
 */
void helper_process_end(struct helper_process *helper, int patience_ms);

#endif
