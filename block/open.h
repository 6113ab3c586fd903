/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening images, with their data files and backing chains.
 */
#ifndef MINIVMM_BLOCK_OPEN_H
#define MINIVMM_BLOCK_OPEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* Images in a chain. No tool makes so many; the limit bounds memory, open files and stack. */
#define BLOCK_CHAIN_MAX 64u

enum block_format { BLOCK_FORMAT_PROBE, BLOCK_FORMAT_RAW, BLOCK_FORMAT_QCOW2 };

enum block_cache {
    BLOCK_CACHE_WRITEBACK, /* host page cache; a flush makes data durable */
    BLOCK_CACHE_NONE,      /* O_DIRECT; alignment is handled below this interface */
    BLOCK_CACHE_UNSAFE,    /* host page cache; a flush does not wait for the host's disk */
};

enum block_aio { BLOCK_AIO_AUTO, BLOCK_AIO_URING, BLOCK_AIO_THREADS };

enum {
    BLOCK_WITHOUT_ZERO_COW = 1 << 0,   /* read and write known zeroes like any data */
    BLOCK_WITHOUT_MERGE_COW = 1 << 1,  /* head, data and tail are read and written one by one */
    BLOCK_WITHOUT_MERGE_REQS = 1 << 2, /* each request goes to the host by itself */
};

enum {
    /*
     * For block_check only: open an image even if its tables are broken, as long as its header is
     * not, and for writing even if it is marked corrupt or dirty. Backing files are not opened.
     */
    BLOCK_OPEN_CHECK = 1 << 0,

    /*
     * Take no locks, to look at an image that somebody may be writing. What is read may be older
     * than what was written last, or inconsistent. With `readonly` only.
     */
    BLOCK_OPEN_SHARE = 1 << 1,

    /*
     * Open neither backing files nor the data file: only the image's own metadata is wanted.
     * Requests are refused (-ENXIO).
     */
    BLOCK_OPEN_ALONE = 1 << 2,

    /* When probing, take a file for raw whatever its length, if it has no other format's mark. */
    BLOCK_OPEN_ANY_RAW = 1 << 3,

    /*
     * For reading a file that was cut short: tables past its end read as zeroes, as data does, and
     * as they do with QEMU. A refcount table in an impossible place is ignored. Without this flag,
     * and for writing, both are errors.
     */
    BLOCK_OPEN_CUT_SHORT = 1 << 4,

    /* Take no locks, also for writing: the user keeps others out. */
    BLOCK_OPEN_UNLOCKED = 1 << 5,

    /* The file has to be a device. */
    BLOCK_OPEN_DEVICE = 1 << 6,

    /* With ALONE and `readonly`: open encrypted images, too. */
    BLOCK_OPEN_ENCRYPTED = 1 << 7,

    /* The chain ends with this image, whatever backing file it names. */
    BLOCK_OPEN_NO_BACKING = 1 << 8,
};

struct block;
struct block_check_report; /* block/image_ops.h */
struct block_env;          /* block/env.h */
struct file_part;          /* base/file_part.h */

/* One file of an image that is being opened. */
struct block_file {
    const char *path;
    const uint64_t *id; /* file_host_identify */
    bool writable;
    bool is_top; /* the user named it: it is neither backing file nor data file */
};

struct block_options {
    const char *path;
    enum block_format format;
    const struct file_part *part; /* of the file: the image is in there; NULL: all of it */
    const char *data_path;        /* of the data file; NULL: as the image says */
    bool readonly;
    enum block_cache cache;
    enum block_aio aio; /* AUTO: io_uring, or threads where it is missing or forbidden */
    bool discard;       /* pass discards on to the host file; off: they succeed and do nothing */
    unsigned flags;     /* BLOCK_OPEN_… */
    unsigned without;   /* BLOCK_WITHOUT_…: to measure what a technique gains */

    /*
     * On: images may only name backing and data files that lie in their own folder or in `allowed`,
     * a list of files and of folders with all that is in them. Off: any file of the host.
     */
    bool confined;
    const char *const *allowed;
    unsigned nallowed;

    /*
     * Open a backing file for writing, too, for block_commit: 1 is the image's own, 2 is the
     * backing file of that one, and so on. 0: none.
     */
    unsigned write_backing;

    /*
     * On: while the image is attached, compression, decompression and copying long pieces out of
     * the page cache run on threads of their own, as many as there are processors, so that requests
     * in flight together do not wait for each other. Off: on the image's thread.
     */
    bool compute_threads;

    /*
     * Called with each file of the chain that was opened, before it is locked or read. A negative
     * errno with *err filled refuses the file. NULL: none is refused.
     */
    int (*admit)(void *opaque, const struct block_file *file, struct err *err);
    void *admit_opaque;

    /* Hears of repairs after a crash; NULL: they are one line in the log. */
    struct block_check_report *repair_report;
};

/*
 * Open an image and its backing chain, locked against other writers.
 *
 * A disk opened as raw because probing found no other format refuses writes that would turn its
 * first sector into another format's header (-EPERM).
 * 0, or a negative errno with *err filled; nothing stays open or locked then.
 */
int block_open(const struct block_options *options, struct block **ret_block,
               struct err *err) MUST_CHECK;

/* block_open with files that do not come from the host. Private to block/ and its tests. */
int block_open_in(const struct block_env *env, const struct block_options *options,
                  struct block **ret_block, struct err *err) MUST_CHECK;

#endif
