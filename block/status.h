/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is where on a disk, as far as it is known without reading it.
 */
#ifndef MINIVMM_BLOCK_STATUS_H
#define MINIVMM_BLOCK_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

struct block;
struct file;

enum {
    BLOCK_STATUS_DATA = 1 << 0,       /* has to be read to know what it is */
    BLOCK_STATUS_ZERO = 1 << 1,       /* reads as zero */
    BLOCK_STATUS_ALLOCATED = 1 << 2,  /* the layer says so itself; backing files do not count */
    BLOCK_STATUS_COMPRESSED = 1 << 3, /* DATA, compressed */
    BLOCK_STATUS_OFFSET = 1 << 4,     /* `host` is valid */
};

struct block_status {
    unsigned flags;
    uint64_t len;        /* bytes from the offset asked for: > 0 */
    uint64_t host;       /* offset in the layer's file of data */
    uint32_t beyond;     /* so many of the last bytes lie past the file's end, and are zeroes */
    unsigned depth;      /* of the layer that says so: 0 is the image itself */
    struct block *layer; /* that layer; valid until the image is closed */
};

/*
 * What the bytes at `off` are, for at most `len` bytes (len > 0, both inside the image), and for as
 * many as can be told in one step. With `own_layer` it is what the image itself says, else what its
 * chain of backing files says. On the image's thread. 0 or -errno.
 */
int block_get_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                     struct block_status *ret_status) MUST_CHECK;

/*
 * The same for what the layers above `base`, one of the backing files or NULL, say together. What
 * none of them says is `base`'s, neither zero nor data. What reads as zero because a layer between
 * is too short is ZERO.
 */
int block_get_status_above(struct block *block, const struct block *base, uint64_t off,
                           uint64_t len, struct block_status *ret_status) MUST_CHECK;

/*
 * Are two layers, perhaps of different chains, the same image in the same file? Then they have the
 * same data at the same offset, unless one of them shows a snapshot (block_snapshot_show).
 */
bool block_is_same_layer(const struct block *a, const struct block *b);

/*
 * As block_get_status, but data is also ZERO where the file has a hole in its place. Clusters have
 * that after preallocation=metadata. The host is only asked if the image looks as if it had such
 * clusters, which is found out once. Not for an image that is being written.
 */
int block_get_host_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                          struct block_status *ret_status) MUST_CHECK;

/*
 * As file_hole_at, but in whole sectors; `off` is the beginning of one. A sector that is partly
 * data counts as data. *ret_beyond: so many bytes at the end of the last such sector are not data.
 * Private to block/.
 */
bool block_hole_at(struct file *file, uint64_t off, uint64_t *ret_end, uint32_t *ret_beyond);

#endif
