/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An unpacked kernel in blocks as large as a huge page: taken from a file and relocated, by two
 * threads.
 *
 * A page that a relocation changes costs a page fault that copies it, if it is mapped: that is most
 * of what a kernel from the cache costs. They lie close to one another, most of them in the code.
 * So blocks in which more than a few pages are changed are read into huge pages, and the others are
 * mapped, so that VMs share them.
 */
#ifndef MINIVMM_BOOT_KERNEL_BLOCKS_H
#define MINIVMM_BOOT_KERNEL_BLOCKS_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"
#include "boot/relocs_x86.h"

struct kernel_blocks {
    uint8_t *kernel;             /* in guest memory */
    uint64_t len;                /* whole pages */
    const struct relocs *relocs; /* NULL: it stays as it was linked */
    uint64_t delta;
};

/*
 * Let fresh guest memory be what is in the file from `off` on, a multiple of the page size; not
 * relocated. 0; or a negative errno with *err filled and anything in that memory, to be cleared by
 * guest_mem_unmap_file.
 */
int kernel_blocks_fill(const struct kernel_blocks *blocks, const struct boot_file *file,
                       uint64_t off, struct err *err) MUST_CHECK;

/* Relocate what is there. 0, or a negative errno with *err filled and parts of it relocated. */
int kernel_blocks_relocate(const struct kernel_blocks *blocks, struct err *err) MUST_CHECK;

#endif
