/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of relocations after an x86-64 vmlinux with CONFIG_RANDOMIZE_BASE, as the program in
 * Linux' arch/x86/tools writes it: 32-bit words, each list in ascending order and after a word that
 * is zero.
 *
 *   0 | 64-bit places | 0 | places of inverse 32-bit relocations | 0 | 32-bit places
 *
 * Kernels from 6.15 on have no inverse list and no zero in front of it. A place is a virtual
 * address that the kernel was linked for, cut to 32 bits.
 */
#ifndef MINIVMM_BOOT_RELOCS_X86_H
#define MINIVMM_BOOT_RELOCS_X86_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct relocs_list {
    const uint8_t *words;
    size_t n;
};

struct relocs {
    uint64_t link_gpa;
    struct relocs_list add64;
    struct relocs_list subtract32;
    struct relocs_list add32;
};

struct relocs_kernel {
    uint64_t link_gpa; /* the physical address that it was linked for */
    uint64_t len;
};

/*
 * The lists point into `table`. 0; or -EINVAL with *err filled: it is no such table, or a place is
 * out of order or outside the kernel.
 */
int relocs_parse(const uint8_t *table, size_t len, const struct relocs_kernel *kernel,
                 struct relocs *ret_relocs, struct err *err) MUST_CHECK;

#define RELOCS_PIECE_MAX (2u << 20)

/* How many of the kernel's pages from `off` on, a multiple of their size, have places in them. */
size_t relocs_count_pages(const struct relocs *relocs, uint64_t off, uint64_t len);

/*
 * Let the kernel at `kernel` run `delta` bytes higher than it was linked for: as far as places
 * begin in [off, off + len). Several threads may do that for pieces that do not overlap: no place
 * of a kernel overlaps another.
 */
void relocs_apply(const struct relocs *relocs, uint8_t *kernel, uint64_t off, uint64_t len,
                  uint64_t delta);

#endif
