/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on an open image as a whole: what it says about itself, and changes of it. See image.h
 * for what all of them promise.
 */
#ifndef MINIVMM_BLOCK_IMAGE_OPS_H
#define MINIVMM_BLOCK_IMAGE_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/file_part.h"
#include "block/block.h"
#include "block/create.h"
#include "block/luks.h"

/* ---- what an image says about itself --------------------------------------------------------- */

/* The image owns the texts. They are valid until it is closed, or changed by a function below. */
struct block_details {
    const char *path;
    const uint64_t *file_id;  /* file_host_identify */
    const char *backing_name; /* as the header says it; NULL: there is no backing file */
    const char *backing_format;
    const char *data_name; /* what it says about the external data file, likewise */
    const char *data_path; /* as it was opened; NULL: it is not */
    const uint64_t *data_id;
    bool data_file_raw;
    const struct block *backing;            /* NULL: there is none, or it was not opened */
    struct file_part part;                  /* of the file, with the image in it */
    const struct block_snapshot *snapshots; /* of block_note_snapshots */
    unsigned nsnapshots;

    /* The rest is zero unless the image is qcow2. */
    unsigned version;
    uint32_t cluster_size;
    unsigned refcount_bits;
    bool lazy_refcounts;
    bool extended_l2;
    bool zstd;
    bool dirty; /* with lazy refcounts: the image was not closed cleanly */
    bool corrupt;
    const char *encryption; /* "aes" or "luks"; NULL: none */
    uint64_t luks_off;      /* of the header in the file; 0: there is none */
};

/* Read the LUKS header of an encrypted image. 0, or a negative errno with *err filled. */
int block_get_luks(struct block *block, struct luks *ret_luks, struct err *err) MUST_CHECK;

void block_get_details(const struct block *block, struct block_details *ret_details);

/*
 * Is the file with this identity (file_host_identify) one that was opened with the image: its own
 * file, its data file, or one of those of its backing files?
 */
bool block_uses_file(const struct block *block, const uint64_t id[2]);

/* A persistent dirty bitmap says which parts of the disk were written since it was cleared. */
struct block_bitmap {
    char *name;
    uint32_t granularity; /* bytes for each bit, a power of two */
    bool in_use;          /* out of date: the last writer of the image did not save it */
    bool follows;         /* writers of the image have to mark in it what they change */
};

/*
 * The bitmaps in an image, in the order of its directory. The list is empty where the format has no
 * bitmaps, or where a program that does not know them has written the image. To be freed with
 * block_bitmap_list_free.
 */
int block_bitmap_list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n,
                      struct err *err) MUST_CHECK;
void block_bitmap_list_free(struct block_bitmap *list, unsigned n);

enum block_bitmap_op {
    BLOCK_BITMAP_ADD,
    BLOCK_BITMAP_REMOVE,
    BLOCK_BITMAP_CLEAR,   /* afterwards it says that nothing was written */
    BLOCK_BITMAP_ENABLE,  /* from now on it follows */
    BLOCK_BITMAP_DISABLE, /* from now on it does not follow */
    BLOCK_BITMAP_MERGE,   /* it also marks what another bitmap marks */
};

struct block_bitmap_edit {
    enum block_bitmap_op op;
    const char *name;

    /* For ADD. */
    uint32_t granularity; /* bytes, a power of two from 512 on; 0: QEMU's default */
    bool disabled;

    /*
     * For MERGE, and for ADD, where source_name may be NULL for a new bitmap that marks nothing:
     * the bitmap to merge. Its disk has the same length, else -ERANGE.
     */
    struct block *source; /* the image that has it; NULL: the same image */
    const char *source_name;
};

/*
 * Change one bitmap of a writable image. After a crash it is changed or as it was, and nothing is
 * lost or leaked either way. Bitmaps that follow the disk note every write to the image, and are
 * saved when it is closed; after a crash before that they are `in_use`.
 *
 * 0, or a negative errno with *err filled in QEMU's words: -ENOENT if there is no such bitmap,
 * -EEXIST if there is one already, -ESTALE if it is in use: then it can only be removed.
 */
int block_bitmap_edit(struct block *block, const struct block_bitmap_edit *edit,
                      struct err *err) MUST_CHECK;

/* ---- backing files --------------------------------------------------------------------------- */

/*
 * Write the name and format of another backing file, or none (NULL), into the header of a writable
 * image. The name is relative to the image. The image goes on reading from the backing file that it
 * was opened with, and must not be written any more. When it is opened again, the disk is different
 * where the two backing files differ.
 *
 * After a crash the header names the old backing file or the new one, and the image has its data.
 * 0, or a negative errno with *err filled: -ENOSPC if there is no room for the name, -EINVAL if it
 * is too long or the image cannot have a backing file, -ENOTSUP if its format has none.
 */
int block_change_backing(struct block *block, const char *name, const char *format,
                         struct err *err) MUST_CHECK;

/* ---- resize ---------------------------------------------------------------------------------- */

struct block_resize_options {
    uint64_t len;                 /* bytes, rounded up to whole sectors */
    enum block_prealloc prealloc; /* of what is added */
    bool shrink; /* the disk may become shorter, and lose data; else that is refused */
};

/*
 * Make the disk of a writable image longer or shorter. What is added reads as zero, even where a
 * backing file is longer than the disk was. After a crash the disk has the old length or the new
 * one. Data that was cut off does not come back when the disk grows again.
 *
 * 0, or a negative errno with *err filled; then the length is the old one.
 */
int block_resize(struct block *block, const struct block_resize_options *options,
                 struct err *err) MUST_CHECK;

/* ---- amend ----------------------------------------------------------------------------------- */

/* What is to change; what is zero stays as it is. */
struct block_amend_options {
    unsigned version;       /* 2 or 3 */
    unsigned refcount_bits; /* a power of two */
    bool set_lazy;
    bool lazy_refcounts;
    bool set_data_raw;
    bool data_file_raw;    /* can only be cleared */
    const char *data_file; /* another name for it */
    bool set_len;
    uint64_t len; /* as block_resize with `shrink` */
};

/*
 * Change the options that a writable image was made with. The changes are made one after the other:
 * version 3, refcounts, data file, the rest, length, version 2. After a crash each of them is
 * complete or not made.
 *
 * 0, or a negative errno with *err filled: -ENOTSUP where the format cannot be changed, or where
 * the image uses what the other version does not have. Changes made before the error stay.
 */
int block_amend(struct block *block, const struct block_amend_options *options,
                struct err *err) MUST_CHECK;

/* ---- snapshots inside an image --------------------------------------------------------------- */

/*
 * A snapshot keeps the disk as it was, and the state of a virtual machine if there is one. Only
 * qcow2 images without an external data file have snapshots; for others everything here returns
 * -ENOTSUP.
 *
 * After a crash a snapshot has been created, applied or deleted, or it has not; nothing is lost or
 * leaked either way.
 */
struct block_snapshot {
    char *id;   /* unique in the image: a number in decimal */
    char *name; /* any text of at most BLOCK_SNAPSHOT_NAME_MAX bytes; need not be unique */
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_ns;
    uint64_t vm_state_len;
    uint64_t icount; /* instructions executed; UINT64_MAX: unknown */
    uint64_t len;    /* of the disk */
};

#define BLOCK_SNAPSHOT_NAME_MAX 255u

/* The snapshots in the order of the table; to be freed with block_snapshot_list_free. */
int block_snapshot_list(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                        struct err *err) MUST_CHECK;
void block_snapshot_list_free(struct block_snapshot *list, unsigned n);

/*
 * Remember the list for block_get_details, until this is called again: for who cannot wait for the
 * host. A list that is too long for memory, or cannot be read, has as many as can be had.
 */
void block_note_snapshots(struct block *block);

/*
 * Take a snapshot. `snapshot` describes it, except for `id` and `len`, which are ignored, and for a
 * date of 0, which stands for now. The first vm_state_len bytes of VM state (block_vmstate_write)
 * become the snapshot's, and are no longer the image's. -EINVAL if the image's reference counts are
 * too narrow for one more owner of a cluster.
 */
int block_snapshot_create(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err) MUST_CHECK;

/*
 * Make the disk what it was when the snapshot was taken, with its length. block_vmstate_read then
 * reads the snapshot's VM state. `which` is an id or, if no snapshot has that id, a name: the first
 * snapshot with that name is taken. -ENOENT if there is none.
 */
int block_snapshot_apply(struct block *block, const char *which, struct err *err) MUST_CHECK;

/* Delete a snapshot. `which` is a name or, if no snapshot has that name, an id. */
int block_snapshot_delete(struct block *block, const char *which, struct err *err) MUST_CHECK;

/* Show a snapshot (as block_snapshot_apply finds it) in place of the disk; of a read-only image. */
int block_snapshot_show(struct block *block, const char *which, struct err *err) MUST_CHECK;

/*
 * The state of a virtual machine. It lies past the disk's end, where no guest sees it. Offset and
 * length are multiples of a sector. 0 or -errno.
 */
int block_vmstate_write(struct block *block, uint64_t off, const void *buf, size_t len) MUST_CHECK;
int block_vmstate_read(struct block *block, uint64_t off, void *buf, size_t len) MUST_CHECK;

/* ---- check ----------------------------------------------------------------------------------- */

enum {
    BLOCK_FIX_LEAKS = 1 << 0,  /* repair leaks, if there are no errors */
    BLOCK_FIX_ERRORS = 1 << 1, /* repair errors, and leaks with them */
};

/* What `qemu-img check` counts, by the same rules. */
struct block_check_result {
    uint64_t corruptions;  /* errors that can lose or have lost data */
    uint64_t leaks;        /* clusters that are counted and not used */
    uint64_t check_errors; /* what could not be checked */
    uint64_t corruptions_fixed;
    uint64_t leaks_fixed;
    uint64_t image_end;      /* bytes of the file up to the last cluster in use */
    uint64_t total_clusters; /* of the guest's disk */
    uint64_t allocated_clusters;
    uint64_t compressed_clusters;
    uint64_t fragmented_clusters;
};

/* Hears of each problem that is found or repaired: a line of text without a newline. */
struct block_check_report {
    void (*line)(struct block_check_report *report, const char *text);
};

/*
 * Check the metadata of an image, and repair what `fix` says, for which the image has to be
 * writable. Open it with BLOCK_OPEN_CHECK: broken images cannot be opened otherwise. A repair that
 * is interrupted leaves the image as it was before.
 *
 * A check reads each table once. A repair reads it a second time, and a third time to prove that
 * the image is right; only then does it clear the marks "dirty" and "corrupt".
 *
 * 0: *ret_result says what is wrong, after the repair if there was one. Negative errno with *err
 * filled: the check could not be completed; -ENOTSUP if the format has nothing to check. `report`
 * may be NULL.
 *
 * Memory: at most 4 GiB whatever the image says (format/counts.h, switch/walk.h); for real images
 * about two bytes for each cluster of the file.
 */
int block_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err) MUST_CHECK;

#endif
