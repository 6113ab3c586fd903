/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host space for new and longer files, with or without preallocation; private to block/.
 */
#ifndef MINIVMM_BLOCK_SPACE_H
#define MINIVMM_BLOCK_SPACE_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "block/create.h"

/*
 * Give a new file its length; all of it reads as zero. A device must be long enough (-ENOSPC), and
 * its first `clear` bytes are zeroed, and in any case its first sector: the header of an older
 * image could be there, and probing would find it.
 */
int block_make_room(struct file *file, uint64_t len, uint64_t clear) MUST_CHECK;

/*
 * Write the beginning of a new file that holds nothing but a disk. QEMU reads the beginning of a
 * file to find out how direct I/O has to be aligned, and some file systems allow any read of a
 * hole: QEMU would take a wrong alignment for right.
 */
int block_take_first(struct file *file, uint64_t len) MUST_CHECK;

/* Take host space for a range that reads as zero. */
int block_take_space(struct file *file, uint64_t off, uint64_t len,
                     enum block_prealloc prealloc) MUST_CHECK;

/* -EFBIG, with *err filled: the format has no disk of this length. */
int block_too_large(const struct block_create_options *options, struct err *err);

#endif
