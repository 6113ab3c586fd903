/*
 * Holes of files, in whole sectors; private to block/. What else status.c has is in block.h.
 */
#ifndef MINIVMM_BLOCK_STATUS_H
#define MINIVMM_BLOCK_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"

/*
 * As file_hole_at, in whole sectors (`off` is one's beginning): a sector in which a hole and data
 * meet, or the file ends, is data. *ret_beyond: so many of data's last bytes are none.
 */
bool block_hole_at(struct file *file, uint64_t off, uint64_t *ret_end, uint32_t *ret_beyond);

#endif
