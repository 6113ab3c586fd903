/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host's kernel says about the process of a VM, in /proc.
 */
#ifndef MINIVMM_CTL_PROCESS_H
#define MINIVMM_CTL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

struct process {
    uint64_t uptime_s;
    uint64_t cpu_ns;   /* time that its threads have run */
    uint64_t resident; /* bytes */
    uint64_t swapped;
};

/* 0 or -errno: -ESRCH, -ENOENT: it is gone, or cannot be seen. */
int process_look(pid_t pid, struct process *ret_process) MUST_CHECK;

/* Has it the other end of the pseudo-terminal /dev/pts/INDEX? */
bool process_has_pty(pid_t pid, unsigned index);

#endif
