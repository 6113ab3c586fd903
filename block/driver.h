/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is common to the image formats; private to block/.
 *
 * A format driver works on bytes, from top to bottom: its functions run in a coroutine while the
 * image is attached, and straight through while it is not. block.c has checked requests against the
 * image's size and write protection before a driver sees them.
 *
 * The files of block/. Each one uses only those in the lines above its own:
 *
 *   env, name, confine, probe, luks   files and their names; formats told by content
 *   driver, status, space, merge      what formats and requests are made of
 *   block                             requests on an open image
 *   dirty, live, job, stack, stream   operations while requests come
 *   commit_copy, commit_live, commit_middle        the same
 *   throttle, port                    limits on requests; where a guest's requests enter
 *   image_ops, commit                 operations on an open image as a whole
 *   raw, qcow2/                       the formats
 *   open                              names the formats, to open images
 *   create                            names the formats, to make images; opens the backing file
 */
#ifndef MINIVMM_BLOCK_DRIVER_H
#define MINIVMM_BLOCK_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/aio.h"
#include "base/co.h"
#include "base/file.h"
#include "base/list.h"
#include "block/block.h"
#include "block/create.h"
#include "block/image_ops.h"

/*
 * Bytes of L1 tables that the images of a chain may have in memory together: enough for 64 disks of
 * 64 TiB, with clusters of 64 KiB.
 */
#define BLOCK_CHAIN_TABLES_MAX (64u << 20)

/* Longest name of a backing file that qcow2 allows (1023), and the byte that ends it. */
#define BLOCK_NAME_MAX 1024u

/* The largest unit in which a format allocates: a request that is cut at multiples cuts none. */
#define BLOCK_ALLOC_UNIT_MAX (2u << 20)

struct block_driver {
    const char *name;
    int (*read)(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov);
    int (*write)(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                 unsigned niov);

    /* NULL: not possible. */
    int (*write_compressed)(struct block *block, uint64_t off, uint64_t len,
                            const struct iovec *iov, unsigned niov);

    /* See BLOCK_COPY. */
    int (*copy)(struct block *block, uint64_t off, uint64_t len, struct file *from,
                uint64_t from_off);

    /*
     * Copy from the backing file what the image shows of it in the range, while requests come;
     * `buf` has room for it. With `zero` that is known to be zeroes, and the image then says so
     * itself, whatever is below.
     */
    int (*copy_up)(struct block *block, uint64_t off, uint64_t len, void *buf, bool zero);

    int (*write_zeroes)(struct block *block, uint64_t off, uint64_t len, unsigned flags);
    int (*discard)(struct block *block, uint64_t off, uint64_t len);
    int (*flush)(struct block *block);

    /* Is the range known to read as zero, without I/O? False if it is not known. */
    bool (*is_zero)(struct block *block, uint64_t off, uint64_t len);

    /*
     * What this image has at `off`, without its backing files, for at most `len` bytes. Sets flags,
     * len, host, and `beyond` where it is not 0.
     */
    int (*get_status)(struct block *block, uint64_t off, uint64_t len,
                      struct block_status *ret_status);

    /* The rest may be NULL: nothing to do. */

    /* Does the file with the data have holes that get_status does not show? 0 or -errno. */
    int (*has_holes)(struct block *block, bool *ret_holes);

    void (*get_info)(const struct block *block, struct block_info *info);
    int (*list_bitmaps)(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n);
    int (*edit_bitmap)(struct block *block, const struct block_bitmap_edit *edit, struct err *err);

    /* See the functions on snapshots in image_ops.h. A format has all of these or none. */
    int (*list_snapshots)(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                          struct err *err);
    void (*note_snapshots)(struct block *block);
    int (*create_snapshot)(struct block *block, const struct block_snapshot *snapshot,
                           struct err *err);
    int (*apply_snapshot)(struct block *block, const char *which, struct err *err);
    int (*delete_snapshot)(struct block *block, const char *which, struct err *err);
    int (*show_snapshot)(struct block *block, const char *which, struct err *err);
    int (*write_vmstate)(struct block *block, uint64_t off, const void *buf, size_t len);
    int (*read_vmstate)(struct block *block, uint64_t off, void *buf, size_t len);

    void (*get_details)(const struct block *block, struct block_details *details);

    /*
     * The disk has been idle for a while: free the memory that only makes requests faster, and set
     * `written` if a flush would tidy up the image.
     */
    void (*trim)(struct block *block);

    /* The image is one of a chain of `n`, which share the memory for caches. Before any request. */
    void (*share_memory)(struct block *block, unsigned n);

    /* The image was opened for writing, with all its files: repair what a crash left. */
    int (*recover)(struct block *block, struct block_check_report *report, struct err *err);

    /*
     * See block_resize, which has checked that a shorter disk is intended. What was written before
     * is flushed. On failure block->len is the old one.
     */
    int (*resize)(struct block *block, uint64_t len, enum block_prealloc prealloc, struct err *err);

    /* See block_check. */
    int (*check)(struct block *block, unsigned fix, struct block_check_report *report,
                 struct block_check_result *ret_result, struct err *err);

    /*
     * Forget, in one step, all that the image itself has, so that it shows its backing file. What
     * was written before is flushed. 0: the file is empty, durably, although the image may not be
     * of use any more before it is opened again. Or -errno: all is there.
     */
    int (*make_empty)(struct block *block);

    /* See block_change_backing. What was written before is flushed. */
    int (*change_backing)(struct block *block, const char *name, const char *format);

    /* See block_amend. What was written before is flushed. */
    int (*amend)(struct block *block, const struct block_amend_options *options, struct err *err);

    /* Write out what remains; no request is in flight. block_close returns the result. */
    int (*close)(struct block *block);

    void (*free)(struct block *block); /* never NULL */
};

/* An operation on the image that has the requests (live.h). */
struct block_live {
    struct block *block;
};

/* Embedded in the driver's struct. */
struct block {
    const struct block_driver *driver;
    struct file *file;     /* owned */
    char *path;            /* as it was opened */
    struct block *backing; /* owned; NULL if there is none */
    uint64_t len;
    bool writable;
    bool discard;
    bool alone;       /* BLOCK_OPEN_ALONE */
    bool holes_known; /* has_holes is set; for block_get_host_status */
    bool has_holes;
    bool written; /* since the last flush, as far as block.c can tell */
    bool compute_threads;
    unsigned without; /* BLOCK_WITHOUT_… */
    struct block_stats stats;

    /* What the header says about the backing file. */
    char *backing_name;
    char *backing_format;

    char *data_name;        /* what it says about the external data file */
    char *data_path;        /* as it was opened */
    struct file *data_file; /* owned; NULL if there is none */

    bool writethrough;
    struct loop *loop; /* NULL while not attached, and for backing files */
    struct aio *aio;   /* NULL while not attached */
    enum aio_kind aio_kind;
    unsigned in_flight;        /* atomic, written on the loop's thread */
    bool cancel;               /* atomic, written on any thread */
    unsigned workers;          /* coroutines that carry out requests */
    struct block_dirty *dirty; /* what requests change is noted here; NULL: not */
    void (*follow)(void *opaque, uint64_t off, uint64_t len); /* see block_follow */
    void *follow_opaque;
    struct block_live *live; /* the operation under way; NULL: none */
    bool held;               /* no request begins: an operation has the image for itself, or will */
    struct co_queue quiet;   /* operations that wait until no request is being carried out */
    struct list pending;     /* requests that wait for one */
    struct list finished;    /* requests whose `done` is to be called */
    struct aio_task finish;
    struct loop_timer idle;   /* armed while there were requests lately */
    bool busy;                /* a request was finished since it was armed */
    struct block_req tidying; /* the flush of an idle disk */
};

/* What a format's open function gets. If it fails, the caller still owns the file. */
struct block_source {
    struct file *file;
    const char *path; /* for messages */
    bool writable;
    bool discard;
    bool guarded;     /* the user did not say that it is this format: a guest cannot change it */
    unsigned flags;   /* BLOCK_OPEN_… */
    unsigned without; /* BLOCK_WITHOUT_… */
    uint64_t *tables_left; /* of BLOCK_CHAIN_TABLES_MAX */
};

void block_init(struct block *block, const struct block_driver *driver,
                const struct block_source *source);

/* Run fn(opaque), which only computes, on another thread if the image has compute_threads. */
void block_compute(struct block *block, void (*fn)(void *opaque), void *opaque);

#endif
