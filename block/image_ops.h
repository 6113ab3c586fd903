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
#include "block/block.h"
#include "block/create.h"
#include "block/luks.h"

/* ---- what an image says about itself --------------------------------------------------------- */

/* Texts are the image's, valid until it is closed or changed by one of the operations below. */
struct block_details {
    const char *path;
    const char *backing_name; /* as the header says it; NULL: there is no backing file */
    const char *backing_format;
    const char *data_name; /* of the external data file, likewise */
    const char *data_path; /* as it was opened; NULL: it is not */
    bool data_file_raw;
    const struct block *backing; /* NULL: there is none, or it was not opened */
    uint64_t part_off;           /* where in the file the image begins */

    /* The rest is zero unless the image is qcow2. */
    unsigned version;
    uint32_t cluster_size;
    unsigned refcount_bits;
    bool lazy_refcounts;
    bool extended_l2;
    bool zstd;
    bool dirty; /* with lazy refcounts: was not closed cleanly */
    bool corrupt;
    const char *encryption; /* "aes" or "luks"; NULL: none */
    uint64_t luks_off;      /* of the header in the file; 0: there is none */
};

/* What is said about an image that is encrypted with LUKS. 0, or -errno with *err filled. */
int block_get_luks(struct block *block, struct luks *ret_luks, struct err *err) MUST_CHECK;

void block_get_details(const struct block *block, struct block_details *ret_details);

/*
 * Is the file with this identity (file_host_identify) one that the image was opened from: its own,
 * its data file, or one of those of the images below it?
 */
bool block_uses_file(const struct block *block, const uint64_t id[2]);

/* A persistent dirty bitmap: which parts of the disk were written since something. */
struct block_bitmap {
    char *name;
    uint32_t granularity; /* bytes for each bit, a power of two */
    bool in_use;          /* out of date: whoever wrote the image did not save it */
    bool follows;         /* writers have to mark in it what they change */
};

/*
 * The bitmaps in an image, as far as they are up to date, in its order; none where the format has
 * none. To be freed with block_bitmap_list_free.
 */
int block_bitmap_list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n,
                      struct err *err) MUST_CHECK;
void block_bitmap_list_free(struct block_bitmap *list, unsigned n);

enum block_bitmap_op {
    BLOCK_BITMAP_ADD,
    BLOCK_BITMAP_REMOVE,
    BLOCK_BITMAP_CLEAR,   /* it says that nothing was written */
    BLOCK_BITMAP_ENABLE,  /* it follows from now on */
    BLOCK_BITMAP_DISABLE, /* or not */
    BLOCK_BITMAP_MERGE,   /* it says what another one says, too */
};

struct block_bitmap_edit {
    enum block_bitmap_op op;
    const char *name;

    /* For ADD. */
    uint32_t granularity; /* bytes, a power of two from 512 on; 0: that which QEMU takes */
    bool disabled;

    /*
     * For MERGE, and ADD (NULL: it is empty): a bitmap of a disk of the same length (else -ERANGE).
     */
    struct block *source; /* NULL: the image itself */
    const char *source_name;
};

/*
 * Change one bitmap of a writable image: after a crash it is changed or as it was, and nothing is
 * lost or leaked either way. Bitmaps that follow the disk note what is written through this
 * interface, and are up to date when the image is closed; a crash before that leaves them in use.
 *
 * 0, or a negative errno with *err filled in QEMU's words: -ENOENT if there is no such bitmap,
 * -EEXIST if there is one already, -ESTALE for one that is in use, which can only be removed.
 */
int block_bitmap_edit(struct block *block, const struct block_bitmap_edit *edit,
                      struct err *err) MUST_CHECK;

/* ---- backing files --------------------------------------------------------------------------- */

/*
 * Name another backing file, or none (NULL), in the header of a writable image, with its format;
 * the name is relative to the image. What the disk shows changes with it, as far as the two files
 * differ, when the image is opened again: until then it reads from the one that it has, and is not
 * to be written.
 *
 * After a crash it has the old backing file or the new one, and its data. 0, or a negative errno
 * with *err filled: -ENOSPC if there is no room for the name, -EINVAL if it is too long or the
 * image cannot have a backing file, -ENOTSUP if its format has none.
 */
int block_change_backing(struct block *block, const char *name, const char *format,
                         struct err *err) MUST_CHECK;

/* ---- resize ---------------------------------------------------------------------------------- */

struct block_resize_options {
    uint64_t len;                 /* bytes; the disk ends with a whole sector */
    enum block_prealloc prealloc; /* of what is added */
    bool shrink; /* losing data is intended: without it a shorter disk is refused */
};

/*
 * Make the disk of a writable image longer or shorter. What is added reads as zero, even where a
 * backing file is longer than the disk was. The length changes at once: after a crash the disk has
 * the old one or the new one, and nothing of what was cut off comes back when it grows again.
 *
 * 0, or a negative errno with *err filled; the length is the old one then.
 */
int block_resize(struct block *block, const struct block_resize_options *options,
                 struct err *err) MUST_CHECK;

/* ---- amend ----------------------------------------------------------------------------------- */

/* What an image is to be made with; zero: as it is. */
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
 * Change what a writable image was made with. Each change is complete or not done after a crash;
 * they are done in the order: version 3, refcounts, data file, the rest, length, version 2.
 *
 * 0, or a negative errno with *err filled: -ENOTSUP where the format cannot be changed, or the
 * image has what the other version has not. What was done before that stays.
 */
int block_amend(struct block *block, const struct block_amend_options *options,
                struct err *err) MUST_CHECK;

/* ---- snapshots inside an image --------------------------------------------------------------- */

/*
 * A snapshot keeps the disk, and the state of a virtual machine if there is any, as they were. Only
 * qcow2 has them, and not with an external data file: everything here is -ENOTSUP otherwise.
 *
 * Creating, applying and deleting is one step: after a crash it has happened or it has not, and
 * nothing is lost or leaked either way.
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
 * Take a snapshot with what `snapshot` says: all but `id`, `len`, and the date if that is 0. The
 * first vm_state_len bytes written by block_vmstate_write go into it, and out of the image.
 * -EINVAL if the image's reference counts are too narrow for one more owner of a cluster.
 */
int block_snapshot_create(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err) MUST_CHECK;

/*
 * Make the disk what it was, its length too, with the VM state there to be read. `which` is an id,
 * or else the name of the first snapshot that has it. -ENOENT if there is none.
 */
int block_snapshot_apply(struct block *block, const char *which, struct err *err) MUST_CHECK;

/* Forget a snapshot. `which` is a name, or else an id. */
int block_snapshot_delete(struct block *block, const char *which, struct err *err) MUST_CHECK;

/* Show a snapshot (as block_snapshot_apply finds it) in place of the disk; of a read-only image. */
int block_snapshot_show(struct block *block, const char *which, struct err *err) MUST_CHECK;

/* VM state, past the disk's end where no guest sees it. Sectors. 0 or -errno. */
int block_vmstate_write(struct block *block, uint64_t off, const void *buf, size_t len) MUST_CHECK;
int block_vmstate_read(struct block *block, uint64_t off, void *buf, size_t len) MUST_CHECK;

/* ---- check ----------------------------------------------------------------------------------- */

enum {
    BLOCK_FIX_LEAKS = 1 << 0,
    BLOCK_FIX_ERRORS = 1 << 1, /* and what depends on them */
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

/* Gets a line of text for each problem found and for each repaired; without a newline. */
struct block_check_report {
    void (*line)(struct block_check_report *report, const char *text);
};

/*
 * Check the metadata of an image, best opened with BLOCK_OPEN_CHECK, and repair it if `fix` says
 * so, which needs it writable. A repair that is interrupted leaves the image as it was before.
 *
 * Each table is read once for a check, a second time for a repair, and a third time to prove that
 * the repaired image is right: only then the marks "dirty" and "corrupt" go.
 *
 * 0: *ret_result says what is (still) wrong. Negative errno with *err filled: the check could not
 * be completed; -ENOTSUP if the format has nothing to check. `report` may be NULL.
 *
 * Memory: at most 4 GiB whatever the image says (format/counts.h, switch/walk.h); for real images
 * about two bytes for each cluster of the file.
 */
int block_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err) MUST_CHECK;

#endif
