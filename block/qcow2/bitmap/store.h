/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the bitmaps of an image: their directory in memory, and new tables and data for them, in
 * clusters that nothing uses. One switch of the header (switch/ledger.h) makes them the image's.
 *
 *     qcow2_bitmap_dir_load       what there is
 *     qcow2_ledger_new, …_load
 *     …_dir_add, _remove, qcow2_bitmap_put, _drop
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
    uint64_t table_host; /* 0: it is new, and has none yet */
    uint32_t table_n;
    uint32_t flags;
    unsigned granularity_bits;
    unsigned name_len;
    char *name; /* ends with a zero byte, and may have others in it */
};

struct qcow2_bitmap_dir {
    struct qcow2_bitmaps where; /* it is in the file; n is 0 if there is none */
    struct qcow2_bitmap_entry *list;
    uint32_t n;
};

/* Read the directory. -EINVAL if it breaks a rule or a limit, -EIO, -ENOMEM. */
int qcow2_bitmap_dir_load(struct qcow2 *q, struct qcow2_bitmap_dir *ret_dir) MUST_CHECK;
void qcow2_bitmap_dir_done(struct qcow2_bitmap_dir *dir);

/* NULL if there is none. Valid until one is added or removed. */
struct qcow2_bitmap_entry *qcow2_bitmap_dir_find(const struct qcow2_bitmap_dir *dir,
                                                 const char *name);

/* A new one at the end, without flags. -ENOSPC beyond the limits, -ENOMEM. */
int qcow2_bitmap_dir_add(struct qcow2_bitmap_dir *dir, const char *name, unsigned granularity_bits,
                         struct qcow2_bitmap_entry **ret_entry) MUST_CHECK;
void qcow2_bitmap_dir_remove(struct qcow2_bitmap_dir *dir, struct qcow2_bitmap_entry *entry);

/* What a bitmap is to say. */
struct qcow2_bitmap_change {
    bool keep;                      /* what it says already */
    const struct qcow2_bits *added; /* and these, of its granularity; may be NULL */
    uint64_t len;                   /* of the disk */
    uint64_t old_len;               /* bits of what lies past it are no news: they go */
};

/*
 * Read the entries of a bitmap's table; *ret_entries is to be freed. -EINVAL if one makes no sense,
 * or there are not as many as a disk of `len` bytes needs.
 */
int qcow2_bitmap_read_table(struct qcow2 *q, const struct qcow2_bitmap_entry *entry, uint64_t len,
                            uint64_t **ret_entries) MUST_CHECK;

/*
 * Write a bitmap's new table, and the clusters that change; the entry gets it, and the old ones
 * lose their references. -EINVAL for an old table that is wrong, and what qcow2_ledger_… return.
 */
int qcow2_bitmap_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_entry *entry,
                     const struct qcow2_bitmap_change *change) MUST_CHECK;

/*
 * A bitmap's table and data lose their references. As far as its table is damaged they are lost, as
 * leaks that a check finds.
 */
int qcow2_bitmap_drop(struct qcow2_ledger *ledger,
                      const struct qcow2_bitmap_entry *entry) MUST_CHECK;

/* Write the directory, and let the header point at it: with what is in *next, which it changes. */
int qcow2_bitmap_dir_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_dir *dir,
                         struct qcow2_switch *next) MUST_CHECK;

#endif
