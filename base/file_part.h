/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of files: a partition of a disk, an image in an archive. A struct file can show a part of
 * the file that it has open; then offsets and lengths in base/file.h are those of the part, and
 * what is beside it is neither seen nor changed, even where direct I/O needs whole blocks.
 *
 * Below: what file.c asks before an operation. struct file_io and struct file_ops know of no parts.
 */
#ifndef MINIVMM_BASE_FILE_PART_H
#define MINIVMM_BASE_FILE_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/compiler.h"

/* Up to the end of the file, and growing with it. */
#define FILE_PART_REST UINT64_MAX

/* Parts end where the file's last sector does: what is missing of it reads as zero. */
#define FILE_SECTOR 512u

struct file_part {
    uint64_t off;
    uint64_t len;
};

#define FILE_PART_ALL ((struct file_part){.len = FILE_PART_REST})

/*
 * Does the part have [*off, *off + len)? If so, *off becomes the place in the file. -ENOSPC: not,
 * it has a length of its own.
 */
int file_part_find(const struct file_part *part, uint64_t *off, uint64_t len) MUST_CHECK;

/* How much of [off, off + len) the part has. */
uint64_t file_part_clip(const struct file_part *part, uint64_t off, uint64_t len);

/* What is known of an extent of the file at a place of the part: where it ends in the part. */
uint64_t file_part_extent_end(const struct file_part *part, uint64_t end, bool hole);

/* How far parts of a file of `file_len` bytes may reach. UINT64_MAX is far enough. */
uint64_t file_part_room(uint64_t file_len);

/* The length of the part of a file of `file_len` bytes. */
uint64_t file_part_len(const struct file_part *part, uint64_t file_len);

#endif
