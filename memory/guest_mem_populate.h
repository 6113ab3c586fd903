/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that is there before the guest is: no page fault is left for it, and no shortage of
 * the host's memory comes later.
 */
#ifndef MINIVMM_MEMORY_GUEST_MEM_POPULATE_H
#define MINIVMM_MEMORY_GUEST_MEM_POPULATE_H

#include "base/compiler.h"
#include "base/err.h"
#include "memory/guest_mem.h"

/*
 * Have the host provide every page, on several threads. What is mapped from files later is not
 * part of it. 0, or a negative errno with *err filled; some of the pages are there then.
 */
int guest_mem_populate(const struct guest_mem *mem, struct err *err) MUST_CHECK;

#endif
