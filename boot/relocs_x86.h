/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of relocations after an x86-64 vmlinux with CONFIG_RANDOMIZE_BASE, as the program in
 * Linux' arch/x86/tools writes it: 32-bit words, each list after a word that is zero.
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
    struct relocs_list add64;
    struct relocs_list subtract32;
    struct relocs_list add32;
};

/* The lists point into `table`. 0, or -EINVAL with *err filled: it is no such table. */
int relocs_parse(const uint8_t *table, size_t len, struct relocs *ret_relocs,
                 struct err *err) MUST_CHECK;

/*
 * Let the kernel of `len` bytes at `kernel`, which was linked for physical address `link_gpa`, run
 * `delta` bytes higher than it was linked for. 0; or -EINVAL with *err filled where a place lies
 * outside the kernel, which is changed in part then.
 */
int relocs_apply(const struct relocs *relocs, uint8_t *kernel, size_t len, uint64_t link_gpa,
                 uint64_t delta, struct err *err) MUST_CHECK;

#endif
