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
 * Give a new file its length, all of it reading as zero. A device must be long enough, and gets its
 * first `clear` bytes zeroed, at least the sector in which the next one who probes it would find
 * the header of an older image.
 */
int block_make_room(struct file *file, uint64_t len, uint64_t clear) MUST_CHECK;

/*
 * Write the beginning of a new file that has nothing but a disk. QEMU finds out how direct I/O has
 * to be aligned by reading the file in several ways, and some file systems allow any read of a
 * hole: QEMU would take a wrong alignment for right.
 */
int block_take_first(struct file *file, uint64_t len) MUST_CHECK;

/* Take host space for a range that reads as zero. */
int block_take_space(struct file *file, uint64_t off, uint64_t len,
                     enum block_prealloc prealloc) MUST_CHECK;

/* -EFBIG, with *err filled: the format has no disk of this length. */
int block_too_large(const struct block_create_options *options, struct err *err);

#endif
