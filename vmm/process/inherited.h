/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that this process was started with.
 */
#ifndef MINIVMM_PROCESS_INHERITED_H
#define MINIVMM_PROCESS_INHERITED_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/config/config.h"

/*
 * Close all of them but 0 to 2 and those that the configuration names, as /dev/fd/N or
 * /proc/self/fd/N: a VM may run for months, and would keep somebody's pipe, socket or lock alive
 * for as long; and no name in a disk image shall lead to them. Before anything is opened. 0, or a
 * negative errno with *err filled.
 */
int inherited_close(const struct config *config, struct err *err) MUST_CHECK;

#endif
