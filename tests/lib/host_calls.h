/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the host that unit tests count and break: they are linked with --wrap for each of them,
 * see the Makefile. A test that does nothing about it has the host's own.
 */
#ifndef MINIVMM_TESTS_HOST_CALLS_H
#define MINIVMM_TESTS_HOST_CALLS_H

#include <stdbool.h>
#include <stdint.h>

enum host_call_kind {
    HOST_SUBMIT,    /* io_uring_submit, and io_uring_submit_and_wait_timeout that submits */
    HOST_WAIT,      /* any io_uring_submit_and_wait_timeout that did not fail */
    HOST_RING,      /* io_uring_queue_init */
    HOST_NANOSLEEP, /* fails by not sleeping; the time counts as slept */
    HOST_FSYNC,
    HOST_SYNCFS,
    HOST_TRIM, /* malloc_trim; it cannot fail */
    HOST_MMAP, /* of the program's own calls, not of the C library's */
    HOST_MREMAP,
    HOST_RANDOM, /* getrandom */
    HOST_OUTQ,   /* ioctl SIOCOUTQ; fails by one byte too many, as while the last is freed */
    HOST_CALLS,
};

struct host_call {
    unsigned count;       /* calls so far */
    unsigned fail;        /* so many of the next calls fail; UINT_MAX: all */
    int error;            /* with this errno */
    void (*hook)(int fd); /* FSYNC and SYNCFS: called first; may be NULL */
};

extern struct host_call host_calls[HOST_CALLS];
extern uint64_t host_slept_ns; /* what HOST_NANOSLEEP was asked for, in all */

/* As at the beginning of the program. */
void host_calls_reset(void);

#endif
