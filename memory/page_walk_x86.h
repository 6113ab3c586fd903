/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest's virtual address is in its physical memory, by the tables of the guest: a look
 * from outside, for debuggers. It checks no permissions and marks nothing as accessed.
 *
 * The tables are hostile input. Any thread; what a running guest changes meanwhile is seen or not.
 */
#ifndef MINIVMM_MEMORY_PAGE_WALK_X86_H
#define MINIVMM_MEMORY_PAGE_WALK_X86_H

#include <stdbool.h>
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

/* A page, with what all the entries that lead to it allow. */
struct page_x86 {
    uint64_t va;
    uint64_t len;
    bool writable;
    bool user;
};

/* False: that is enough. */
typedef bool page_walk_x86_fn(void *opaque, const struct page_x86 *page);

/* Of a guest's tables, each may be in all others: so many of them are looked at, one or often. */
#define PAGE_WALK_X86_TABLES_MAX 8192u

/*
 * Call `each` for all pages, in the order in which the tables have them; none without paging.
 * False: there are more, because `each` or PAGE_WALK_X86_TABLES_MAX said that it is enough.
 */
bool page_walk_x86_each(const struct guest_mem *mem, const struct page_walk_x86 *how,
                        page_walk_x86_fn *each, void *opaque);

#endif
