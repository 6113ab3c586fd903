/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the bitmaps of an image: their directory in memory, and new tables and data for them, in
 * clusters that nothing uses. One switch of the header (switch/ledger.h) makes them the image's.
 *
 *     qcow2_bitmap_dir_load       what there is
 *     qcow2_ledger_new, qcow2_ledger_load
 *     qcow2_bitmap_dir_add, qcow2_bitmap_dir_remove, qcow2_bitmap_put, qcow2_bitmap_drop
 *     qcow2_bitmap_dir_put        the new directory
 *     qcow2_switch_over
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAP_STORE_H
#define MINIVMM_BLOCK_QCOW2_BITMAP_STORE_H

#include "block/qcow2/format/bits.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

struct qcow2_bitmap_entry {
    uint64_t table_host; /* 0: the bitmap is new and has no table yet */
    uint32_t table_n;
    uint32_t flags;
    unsigned granularity_bits;
    unsigned name_len;
    char *name; /* ends with a zero byte, and may have others in it */
};

struct qcow2_bitmap_dir {
    struct qcow2_bitmaps where; /* the directory is in the file; n is 0 if there is none */
    struct qcow2_bitmap_entry *list;
    uint32_t n;
};

/* Read the directory. Returns 0; -EINVAL if it breaks a rule or a limit; -EIO; -ENOMEM. */
int qcow2_bitmap_dir_load(struct qcow2 *q, struct qcow2_bitmap_dir *ret_dir) MUST_CHECK;

/* Free the memory of the directory. */
void qcow2_bitmap_dir_done(struct qcow2_bitmap_dir *dir);

/* The entry with this name, valid until one is added or removed; NULL if there is none. */
struct qcow2_bitmap_entry *qcow2_bitmap_dir_find(const struct qcow2_bitmap_dir *dir,
                                                 const char *name);

/* Add an entry at the end, without flags. Returns 0; -ENOSPC beyond the limits; -ENOMEM. */
int qcow2_bitmap_dir_add(struct qcow2_bitmap_dir *dir, const char *name, unsigned granularity_bits,
                         struct qcow2_bitmap_entry **ret_entry) MUST_CHECK;

/* Remove an entry, and free its name. */
void qcow2_bitmap_dir_remove(struct qcow2_bitmap_dir *dir, struct qcow2_bitmap_entry *entry);

/* Which bits a bitmap is to have. */
struct qcow2_bitmap_change {
    bool keep;                      /* those that it has */
    const struct qcow2_bits *added; /* and these, of its granularity; may be NULL */
    uint64_t len;                   /* of the disk */
    uint64_t old_len;               /* of the disk so far: bits past it are dropped */
};

/*
 * Read the entries of a bitmap's table; the caller frees *ret_entries. Returns 0; -EINVAL if an
 * entry makes no sense, or if there are not as many as a disk of `len` bytes needs; or another
 * -errno.
 */
int qcow2_bitmap_read_table(struct qcow2 *q, const struct qcow2_bitmap_entry *entry, uint64_t len,
                            uint64_t **ret_entries) MUST_CHECK;

/*
 * Write a bitmap's new table, and those of its clusters that change; let `entry` point at the
 * table, and count down the old table and clusters. Returns 0; -EINVAL for an old table that is
 * wrong; or another -errno.
 */
int qcow2_bitmap_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_entry *entry,
                     const struct qcow2_bitmap_change *change) MUST_CHECK;

/*
 * Count down a bitmap's table and data. What cannot be found because the table is damaged is lost
 * space, which a check finds. Returns 0 or -errno.
 */
int qcow2_bitmap_drop(struct qcow2_ledger *ledger,
                      const struct qcow2_bitmap_entry *entry) MUST_CHECK;

/* Write the directory, count down the old one, and let *next point at it. Returns 0 or -errno. */
int qcow2_bitmap_dir_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_dir *dir,
                         struct qcow2_switch *next) MUST_CHECK;

#endif
