/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of the process: whoever asks for it gets it, in bounded time, whatever the other threads
 * are stuck in.
 *
 * A thread of its own reads the signals and watches the clock, because the main thread may be in
 * something that takes long: an ioctl of KVM while a VM is set up, requests of a disk that hangs
 * while it is taken down. What is to be done about the guest it posts to the main loop. When the
 * main thread does not come to an end in time, this one ends the process.
 *
 *     first signal        no guest runs: ENDING_SET_UP_S
 *                         a guest runs: it is asked, and has shutdown_timeout_s
 *     a later one, or     the guest is ended, everything closed: ENDING_CLOSE_S
 *     time is up
 *     time is up again    the process ends as it is
 */
#ifndef MINIVMM_PROCESS_ENDING_H
#define MINIVMM_PROCESS_ENDING_H

#include <signal.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"

/* A step of set-up that goes on for so long after a signal is not waited for. */
#define ENDING_SET_UP_S 1u

/*
 * How long the disks may take to be flushed, once it was insisted on the end. With the default of
 * shutdown_timeout_s it fits into the 90 s after which systemd kills a service that does not stop.
 */
#define ENDING_CLOSE_S 20u

struct ending_options {
    unsigned shutdown_timeout_s; /* 0: the guest is not asked */
    struct loop *loop;           /* of the main thread */
    /* On `loop`: signal `signo` came, so ask the guest; if that cannot be done, ending_insist. */
    void (*asked)(void *opaque, unsigned signo);
    /* On `loop`: end now, with or without the guest. */
    void (*insisted)(void *opaque);
    /* On another thread, before the process ends by force: log what did not come to an end. */
    void (*report)(void *opaque);
    void *opaque;
};

struct ending;

/*
 * The signals that ask for the end: to be blocked before there are threads. Those that whoever
 * started us wants ignored (nohup, a background job of a script) are not among them.
 */
void ending_get_signals(sigset_t *ret_set);

/* Start to listen. 0, or a negative errno with *err filled. */
int ending_new(const struct ending_options *options, struct ending **ret_ending,
               struct err *err) MUST_CHECK;

/*
 * Stop to listen: signals have no effect any more. The main loop does not run; what was posted to
 * it is taken back. NULL is fine.
 */
void ending_free(struct ending *ending);

/* The rest is for the main thread. */

/* Was the end asked for? Between two steps of set-up: do not go on then. */
bool ending_is_asked(struct ending *ending);

/* A guest is about to run. False: the end was asked for, do not let it. */
bool ending_begin_guest(struct ending *ending) MUST_CHECK;

/* It is over, or there was none: what it used is closed now. */
void ending_begin_closing(struct ending *ending);

/* Another one will be set up. */
void ending_begin_set_up(struct ending *ending);

/* The main thread itself sees to the end: it may not take long any more. */
void ending_insist(struct ending *ending);

#endif
