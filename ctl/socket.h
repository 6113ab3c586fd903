/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting to a unix socket that a VM listens on.
 */
#ifndef MINIVMM_CTL_SOCKET_H
#define MINIVMM_CTL_SOCKET_H

#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * Connect, at the latest at `deadline_ns`: a process that takes no clients lets them wait.
 * *ret_pid is the process that listens; 0: unknown. 0, or a negative errno with *err filled:
 * -ENOENT, -ECONNREFUSED: nobody listens; -ETIMEDOUT.
 */
int socket_connect(const char *path, uint64_t deadline_ns, int *ret_fd, pid_t *ret_pid,
                   struct err *err) MUST_CHECK;

#endif
