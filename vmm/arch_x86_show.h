/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of what people are shown that needs no KVM; the rest is in arch.h.
 */
#ifndef MINIVMM_ARCH_X86_SHOW_H
#define MINIVMM_ARCH_X86_SHOW_H

#include <stdio.h>

#include "memory/page_walk_x86.h"

/* A line for each range of virtual memory whose pages have the same rights. Any thread. */
void arch_x86_show_mappings(const struct page_walk_x86 *paging, const struct guest_mem *mem,
                            FILE *out);

#endif
