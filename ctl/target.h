/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VM is meant, and which there are.
 */
#ifndef MINIVMM_CTL_TARGET_H
#define MINIVMM_CTL_TARGET_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ctl/link.h"

struct target {
    char *name;
    char *socket; /* its path */
};

/*
 * Connect to the VM that `text` names: a name, or, with a slash in it or after "unix:", the path of
 * a socket, or tcp:127.0.0.1:PORT. 0, or a negative errno with *err filled, as link_open.
 */
int target_open(const char *text, unsigned timeout_ms, struct link **ret_link,
                struct err *err) MUST_CHECK;

/*
 * All sockets in the folders of VMs with names, by name; whether anybody listens there is not
 * known. *ret_targets is to be freed by targets_free. 0, or a negative errno with *err filled.
 */
int targets_find(struct target **ret_targets, size_t *ret_n, struct err *err) MUST_CHECK;
void targets_free(struct target *targets, size_t n);

#endif
