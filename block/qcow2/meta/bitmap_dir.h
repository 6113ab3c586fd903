/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of an image's persistent bitmaps: which there are, with their flags, and where
 * their tables are. What is in the bitmaps is read and written by bitmap/store.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_BITMAP_DIR_H
#define MINIVMM_BLOCK_QCOW2_META_BITMAP_DIR_H

#include "block/qcow2/qcow2.h"

/* QEMU's limits. */
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIRECTORY_MAX (1024ull * QCOW2_BITMAPS_MAX)
#define QCOW2_BITMAP_NAME_MAX 1023u
#define QCOW2_BITMAP_GRANULARITY_MIN 9u /* log2 of bytes */
#define QCOW2_BITMAP_GRANULARITY_MAX 31u

/* Byte offsets in a directory entry. */
enum {
    QCOW2_BITMAP_DIR_TABLE_OFF = 0,
    QCOW2_BITMAP_DIR_TABLE_SIZE = 8,
    QCOW2_BITMAP_DIR_FLAGS = 12,
    QCOW2_BITMAP_DIR_TYPE = 16,
    QCOW2_BITMAP_DIR_GRANULARITY = 17,
    QCOW2_BITMAP_DIR_NAME_LEN = 18,
    QCOW2_BITMAP_DIR_EXTRA_LEN = 20,
    QCOW2_BITMAP_DIR_LEN = 24,
};

#define QCOW2_BITMAP_TYPE_DIRTY 1u

/* In an entry of a bitmap's table that names no cluster: all of its bits are set, not none. */
#define QCOW2_BITMAP_ALL_ONES 1ull

struct qcow2_bitmap {
    uint64_t table_host;
    uint32_t table_n; /* entries, each for a cluster of the bitmap */
    uint32_t flags;
    uint64_t flags_host; /* where the flags are in the file */
    unsigned granularity_bits;
    const char *name; /* name_len bytes, valid during the visit */
    unsigned name_len;
};

#define QCOW2_BITMAP_IN_USE (1u << 0)
#define QCOW2_BITMAP_AUTO (1u << 1) /* has to follow all changes */

/*
 * Read the header extension for bitmaps; ret_bitmaps->n is 0 if there is none, or if its feature
 * bit says that the bitmaps are out of date. Returns 0; -EINVAL if the extension makes no sense;
 * -EIO; -ENOMEM.
 */
int qcow2_bitmaps_find(struct qcow2 *q, struct qcow2_bitmaps *ret_bitmaps) MUST_CHECK;

/*
 * Call `visit` for each bitmap in the directory until it returns something else than 0, which is
 * the result then. Else 0; -EINVAL for a directory that breaks a rule or a limit; -EIO; -ENOMEM.
 */
int qcow2_bitmaps_walk(struct qcow2 *q, const struct qcow2_bitmaps *bitmaps,
                       int (*visit)(void *opaque, const struct qcow2_bitmap *bitmap),
                       void *opaque) MUST_CHECK;

/*
 * Does the entry of a bitmap's table keep to the specification? *ret_host is the offset of the
 * cluster that it names, 0 if it names none.
 */
bool qcow2_bitmap_entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host);

/* List all bitmaps, for block_bitmap_list. Returns 0; -EINVAL, -EIO or -ENOMEM. */
int qcow2_list_bitmaps(struct block *block, struct block_bitmap **ret_list,
                       unsigned *ret_n) MUST_CHECK;

#endif
