/*
 * The persistent bitmaps of a qcow2 image: which there are and where, and that they are out of
 * date. What they say is in bitmap/store.c and bitmap/edit.c.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_BITMAP_DIR_H
#define MINIVMM_BLOCK_QCOW2_META_BITMAP_DIR_H

#include "block/qcow2/qcow2.h"

/* QEMU's limits. */
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIRECTORY_MAX (1024ull * QCOW2_BITMAPS_MAX)
#define QCOW2_BITMAP_BYTES_MAX (512u << 20) /* of one bitmap */
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

/* An entry of a bitmap's table without a cluster: all of its bits are set, or none. */
#define QCOW2_BITMAP_ALL_ONES 1ull

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

/* Is an entry of a bitmap's table right? *ret_host is the cluster it names, 0 if it names none. */
bool qcow2_bitmap_entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host);

/* See block_bitmap_list. */
int qcow2_list_bitmaps(struct block *block, struct block_bitmap **ret_list,
                       unsigned *ret_n) MUST_CHECK;

/* ---- bitmap/edit ----------------------------------------------------------------------------- */

int qcow2_edit_bitmap(struct block *block, const struct block_bitmap_edit *edit,
                      struct err *err) MUST_CHECK;

/* ---- bitmap/save ----------------------------------------------------------------------------- */

/*
 * Before the disk's contents change: mark those bitmaps that have to follow as in use, and begin to
 * note what is written. It is durable when this returns. *ret_known is false if there are none, or
 * some that cannot be marked: then the feature bit has to go.
 */
int qcow2_bitmaps_begin(struct qcow2 *q, bool *ret_known) MUST_CHECK;

/* [off, off + len) is about to change. What lies behind the disk's end is no news. */
void qcow2_bitmaps_note(struct qcow2 *q, uint64_t off, uint64_t len);

/*
 * Save what was noted, if there is anything: the bitmaps are up to date in the file, and the next
 * write is the first one again. The image is not attached. 0 or -errno: they stay in use then.
 */
int qcow2_bitmaps_settle(struct qcow2 *q) MUST_CHECK;

/* Free the memory. */
void qcow2_bitmaps_forget(struct qcow2 *q);

/* Save the bitmaps, and write back the rest. */
int qcow2_close_image(struct block *block) MUST_CHECK;

/*
 * The disk is to have another length: can all bitmaps follow? *ret_any says whether there are some;
 * then the length is to be changed with one of the two below. -errno with *err filled.
 */
int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t len, bool *ret_any,
                               struct err *err) MUST_CHECK;

/* Write all bitmaps, and the disk's length with them; q->block.len is still the old one. */
int qcow2_bitmaps_save(struct qcow2 *q, uint64_t len) MUST_CHECK;

struct qcow2_refs;
struct qcow2_switch;

/*
 * The same as part of another switch, for the length that is in there; after it
 * qcow2_bitmaps_saved.
 */
int qcow2_bitmaps_put_all(struct qcow2_refs *refs, struct qcow2_switch *next) MUST_CHECK;

/*
 * The bitmaps in the file are others: nothing is noted, and the next write is the first one again.
 */
void qcow2_bitmaps_saved(struct qcow2 *q);

#endif
