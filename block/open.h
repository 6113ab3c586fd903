/*
 * Opening images, with their data files and backing chains.
 */
#ifndef MINIVMM_BLOCK_OPEN_H
#define MINIVMM_BLOCK_OPEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* Images on top of each other. More than any tool makes; it bounds memory, files and stack. */
#define BLOCK_CHAIN_MAX 64u

enum block_format { BLOCK_FORMAT_PROBE, BLOCK_FORMAT_RAW, BLOCK_FORMAT_QCOW2 };

enum block_cache {
    BLOCK_CACHE_WRITEBACK, /* host page cache; a flush makes data durable */
    BLOCK_CACHE_NONE,      /* O_DIRECT; alignment is handled below this interface */
    BLOCK_CACHE_UNSAFE,    /* host page cache; a flush does not wait for the host's disk */
};

enum block_aio { BLOCK_AIO_AUTO, BLOCK_AIO_URING, BLOCK_AIO_THREADS };

enum {
    BLOCK_WITHOUT_ZERO_COW = 1 << 0,   /* read and write what is known to be zero, like any data */
    BLOCK_WITHOUT_MERGE_COW = 1 << 1,  /* head, data and tail are read and written one by one */
    BLOCK_WITHOUT_MERGE_REQS = 1 << 2, /* each request goes to the host by itself */
};

enum {
    /*
     * For block_check only: open what its tables make unusable otherwise, as long as the header
     * makes sense, and images marked corrupt or dirty for writing. Backing files are not opened.
     */
    BLOCK_OPEN_CHECK = 1 << 0,

    /*
     * Take no locks: look at an image that somebody may be writing. What is seen can be older than
     * what was written, or not fit together. With `readonly` only.
     */
    BLOCK_OPEN_SHARE = 1 << 1,

    /*
     * Open neither backing files nor the data file: for what the image's own metadata says.
     * Requests are refused (-ENXIO).
     */
    BLOCK_OPEN_ALONE = 1 << 2,

    /* When probing, take a file of any length for raw that has no other format's mark. */
    BLOCK_OPEN_ANY_RAW = 1 << 3,

    /*
     * Tables that a file which was cut short has lost read as zeroes, as its data does and as QEMU
     * takes them; otherwise, and for writing, that is an error. The same for a refcount table that
     * cannot be one, which nobody needs for reading.
     */
    BLOCK_OPEN_CUT_SHORT = 1 << 4,

    /* Take no locks, also for writing: the user keeps others out. */
    BLOCK_OPEN_UNLOCKED = 1 << 5,

    /* Only a device will do. */
    BLOCK_OPEN_DEVICE = 1 << 6,

    /* With ALONE and `readonly`: an encrypted image, too. */
    BLOCK_OPEN_ENCRYPTED = 1 << 7,
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
    bool is_top; /* it is the one that the user named: neither backing file nor data file */
};

struct block_options {
    const char *path;
    enum block_format format;
    const struct file_part *part; /* of the file, with the image in it; NULL: all of it */
    const char *data_path;        /* of the data file; NULL: as the image says */
    bool readonly;
    enum block_cache cache;
    enum block_aio aio; /* AUTO: io_uring, or threads where it is missing or forbidden */
    bool discard;       /* pass discards on to the host file; off: they succeed and do nothing */
    unsigned flags;     /* BLOCK_OPEN_… */
    unsigned without;   /* BLOCK_WITHOUT_…: to measure what a technique gains */

    /*
     * Images may name as backing or data file what lies in their own folder, and at the places in
     * `allowed`: folders, with all that is in them, and files. Off: any file of the host.
     */
    bool confined;
    const char *const *allowed;
    unsigned nallowed;

    /*
     * Open a backing file for writing too: 1 is the image's own, 2 that one's, …; 0: none. Only
     * block_commit writes to it.
     */
    unsigned write_backing;

    /*
     * Compress, decompress and copy long pieces from the page cache on threads of their own, as
     * many as there are processors; off: on the image's thread. While it is attached, for requests
     * in flight together.
     */
    bool compute_threads;

    /*
     * Asked about each file of the chain when it is open, before it is locked or read: a negative
     * errno with *err filled refuses it. NULL: none is.
     */
    int (*admit)(void *opaque, const struct block_file *file, struct err *err);
    void *admit_opaque;

    /* Hears what is repaired of an image that was not closed; NULL: one line in the log. */
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

/* The same, of files that do not come from the host. Private to block/ and its tests. */
int block_open_in(const struct block_env *env, const struct block_options *options,
                  struct block **ret_block, struct err *err) MUST_CHECK;

#endif
