/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest's virtual address is in its physical memory, by the tables of the guest: a look
 * from outside, for debuggers. It checks no permissions and marks nothing as accessed.
 *
 * The tables are hostile input. Any thread; what a running guest changes meanwhile is seen or not.
 */
#ifndef MINIVMM_MEMORY_PAGE_WALK_X86_H
#define MINIVMM_MEMORY_PAGE_WALK_X86_H

#include <stdint.h>

#include "base/compiler.h"
#include "memory/guest_mem.h"

/* The registers that say how addresses are translated. */
struct page_walk_x86 {
    uint64_t cr0;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t efer;
};

/*
 * Translate the virtual (linear) address `va`. Returns 0 with *ret_gpa, and *ret_len, how many
 * bytes from there on belong to the same page; -EFAULT if nothing is mapped there.
 */
int page_walk_x86(const struct guest_mem *mem, const struct page_walk_x86 *how, uint64_t va,
                  uint64_t *ret_gpa, uint64_t *ret_len) MUST_CHECK;

/* Copy out of memory at virtual addresses. 0, or -EFAULT: part of it may be copied. */
int page_walk_x86_read(const struct guest_mem *mem, const struct page_walk_x86 *how, uint64_t va,
                       void *buf, size_t len) MUST_CHECK;

#endif
