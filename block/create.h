/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making images.
 */
#ifndef MINIVMM_BLOCK_CREATE_H
#define MINIVMM_BLOCK_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

struct block_env; /* block/env.h */

enum block_prealloc {
    BLOCK_PREALLOC_OFF,
    BLOCK_PREALLOC_METADATA, /* qcow2: every cluster has its place; host space is taken when used */
    BLOCK_PREALLOC_FALLOC,   /* host space is reserved */
    BLOCK_PREALLOC_FULL,     /* host space is written */
};

/* As long as the backing file. */
#define BLOCK_LEN_BACKING UINT64_MAX

struct block_create_options {
    const char *path;
    enum block_format format; /* RAW or QCOW2 */
    uint64_t len;             /* bytes, rounded up to whole sectors; or BLOCK_LEN_BACKING */
    enum block_prealloc prealloc;
    bool exclusive;            /* no file is replaced: -EEXIST */
    bool nocow;                /* hints for the file system: struct file_host_hints */
    uint64_t extent_size_hint; /* bytes, less than 2^32 */

    /* The rest is for qcow2. Zero is the default, which is QEMU 7.2's. */

    unsigned version;       /* 2 or 3; 0: 3 */
    uint32_t cluster_size;  /* bytes, a power of two; 0: 64 KiB */
    unsigned refcount_bits; /* a power of two; 0: 16 */
    bool lazy_refcounts;
    bool extended_l2;
    bool zstd; /* compressed clusters will be zstd, not zlib */

    const char *backing_file;         /* relative to the new image */
    enum block_format backing_format; /* not PROBE, if there is a backing file */
    bool backing_unchecked;           /* it need not be there, if `len` is given */

    const char *data_file; /* relative to the new image; made or emptied with it */
    bool data_file_raw;
};

/*
 * Make an image. Files at `path` and `data_file` are replaced; -EAGAIN if somebody uses them. Or
 * they are not, as file_host_create says it.
 *
 * 0, or a negative errno with *err filled: files that were made or emptied are removed then.
 * -EFBIG: the format cannot hold a disk of that size, with these clusters.
 */
int block_create(const struct block_create_options *options, struct err *err) MUST_CHECK;

/*
 * Do the options go together, as far as that does not depend on the length? 0, or a negative errno
 * with *err filled.
 */
int block_create_check(const struct block_create_options *options, struct err *err) MUST_CHECK;

/*
 * Does an image that block_create has just made read as zero all over? A raw image on a device
 * shows what was on the device before.
 */
bool block_new_is_zero(const struct block *block);

/* block_create with files that do not come from the host. Private to block/ and its tests. */
int block_create_in(const struct block_env *env, const struct block_create_options *options,
                    struct err *err) MUST_CHECK;

#endif
