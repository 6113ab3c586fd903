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
    uint32_t beyond;     /* so many of the last bytes are zeroes past the file's end */
    unsigned depth;      /* of the layer that says so: 0 is the image itself */
    struct block *layer; /* it; valid until the image is closed */
};

/*
 * What the bytes at `off` are, for as far as one look shows, at most `len` (both inside the image,
 * len > 0). Through the chain of backing files, or with `own_layer` what the image itself says.
 * On the image's thread. 0 or -errno.
 */
int block_get_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                     struct block_status *ret_status) MUST_CHECK;

/*
 * Are two layers, perhaps of different images, the same image in the same file? Then they have the
 * same at the same offset, unless a snapshot is shown in place of one's disk.
 */
bool block_is_same_layer(const struct block *a, const struct block *b);

/*
 * The same, and where the host has no space for a cluster of the image, as after
 * preallocation=metadata, it is ZERO besides DATA. Only asked for where the image looks as if it
 * had such clusters, which is found out once. Not while it is written.
 */
int block_get_host_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                          struct block_status *ret_status) MUST_CHECK;

/*
 * As file_hole_at, in whole sectors (`off` is one's beginning): a sector in which a hole and data
 * meet, or the file ends, is data. *ret_beyond: so many of data's last bytes are none.
 */
bool block_hole_at(struct file *file, uint64_t off, uint64_t *ret_end, uint32_t *ret_beyond);

#endif
