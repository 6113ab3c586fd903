/*
 * The persistent bitmaps of a qcow2 image: which there are and where, and that they are out of date.
 * What they say is nobody's business here.
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAPS_H
#define MINIVMM_BLOCK_QCOW2_BITMAPS_H

#include "block/qcow2.h"

/* QEMU's limits. */
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIRECTORY_MAX (64u << 20)
#define QCOW2_BITMAP_BYTES_MAX (512u << 20) /* of one bitmap */
#define QCOW2_BITMAP_NAME_MAX 1023u

/* The header extension. */
struct qcow2_bitmaps {
    uint32_t n; /* 0: there are none, or they are out of date */
    uint64_t directory_host;
    uint64_t directory_len;
};

struct qcow2_bitmap {
    uint64_t table_host;
    uint32_t table_n; /* entries, each for a cluster of the bitmap */
    uint32_t flags;
    uint64_t flags_host; /* where they are in the file */
    unsigned granularity_bits;
    const char *name; /* name_len bytes, valid during the visit */
    unsigned name_len;
};

#define QCOW2_BITMAP_IN_USE (1u << 0)
#define QCOW2_BITMAP_AUTO (1u << 1) /* has to follow all changes */

/* Read the extension. -EINVAL if it makes no sense, -EIO. */
int qcow2_bitmaps_find(struct qcow2 *q, struct qcow2_bitmaps *ret_bitmaps) MUST_CHECK;

/*
 * Call `visit` for each bitmap in the directory until it returns something else than 0. -EINVAL for
 * a directory that breaks a rule or a limit, -EIO, -ENOMEM.
 */
int qcow2_bitmaps_walk(struct qcow2 *q, const struct qcow2_bitmaps *bitmaps,
                       int (*visit)(void *opaque, const struct qcow2_bitmap *bitmap),
                       void *opaque) MUST_CHECK;

/*
 * Before the disk's contents change: mark those bitmaps that would have to follow as out of date (in
 * use), or all of them because the disk's length changes. It is durable when this returns. *ret_known
 * is false if there are none, or some that cannot be marked: then the feature bit has to go.
 */
int qcow2_bitmaps_outdate(struct qcow2 *q, bool all, bool *ret_known) MUST_CHECK;

/* See block_bitmap_list. */
int qcow2_list_bitmaps(struct block *block, struct block_bitmap **ret_list,
                       unsigned *ret_n) MUST_CHECK;

/* Is an entry of a bitmap's table right? *ret_host is the cluster it names, 0 if it names none. */
bool qcow2_bitmap_entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host);

#endif
