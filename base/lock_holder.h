/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has locked a file, as far as /proc shows the processes of the host. Locks of open file
 * descriptions have no owner that the kernel would name; but what each descriptor of a process
 * holds is to be seen.
 */
#ifndef MINIVMM_BASE_LOCK_HOLDER_H
#define MINIVMM_BASE_LOCK_HOLDER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct lock_holder {
    pid_t pid;
    char name[32]; /* of the program; without control characters */
};

/*
 * A process that holds a lock on the file, also this one, by another descriptor than `fd`, which is
 * open on it (or -1). False: none is in sight; it may belong to another
 * user or be in another container, or there is none any more: a process that is gone or on its way
 * out does not count, though the kernel may keep its locks for a moment.
 *
 * Looks at every descriptor of every process: for when there is an error to be told.
 */
bool lock_holder_find(const struct stat *st, int fd, struct lock_holder *ret_holder);

#endif
