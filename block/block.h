/*
 * Disk images: what the VMM's devices, the image tool and the tests see of block/.
 *
 * A struct block is an open image with its backing chain. It has one owner thread at a time and no
 * locks: set-up opens it on any thread, block_attach hands it to the thread that runs `loop`, and
 * from then on that thread alone calls in, until block_detach hands it back.
 *
 * Requests are asynchronous; many may be in flight, and they may complete in any order. Requests
 * whose ranges overlap are not ordered against each other (virtio-blk and qemu-img ask for no
 * more). A flush covers the requests that completed before it was submitted.
 */
#ifndef MINIVMM_BLOCK_H
#define MINIVMM_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"

#define BLOCK_SECTOR_SIZE 512u

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

struct block_check_report; /* block/image.h */
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

struct block;

/*
 * Open an image and its backing chain, locked against other writers.
 *
 * A disk opened as raw because probing found no other format refuses writes that would turn its
 * first sector into another format's header (-EPERM).
 * 0, or a negative errno with *err filled; nothing stays open or locked then.
 */
int block_open(const struct block_options *options, struct block **ret_block,
               struct err *err) MUST_CHECK;

/* Start asynchronous I/O on `loop`. 0, or a negative errno with *err filled. */
int block_attach(struct block *block, struct loop *loop, struct err *err) MUST_CHECK;

/*
 * Wait for all requests, flush, stop asynchronous I/O. On the loop's thread; not from `done`.
 * 0 or the flush's -errno. What was written before a cancelled request is flushed like any other.
 */
int block_detach(struct block *block);

/*
 * With `cancel` on, requests end early: those that wait and those that come with -ECANCELED, those
 * that are being carried out as soon as the piece that the host has is done. A write among them
 * may have written a part. For a disk whose user is gone; an image that is cancelled any number of
 * times stays sound. Any thread.
 */
void block_set_cancel(struct block *block, bool cancel);

/* Flush if it was written, release locks, free. Detached or never attached. 0 or -errno. */
int block_close(struct block *block);

struct block_info {
    uint64_t len;           /* virtual size in bytes; a raw file's tail is rounded up to a sector */
    uint32_t logical_block; /* smallest unit the guest may address: a power of two >= 512 */
    uint32_t physical_block; /* unit that avoids read-modify-write */
    uint32_t opt_io;         /* preferred I/O size in bytes, e.g. the cluster size; 0 unknown */
    uint32_t discard_align;  /* granularity of useful discards in bytes */
    uint32_t alloc_unit;     /* what is written takes space, or time, in units of this size */
    bool readonly;
    bool discard;
    const char *format; /* "raw" or "qcow2" */
};

/* ---- what is where --------------------------------------------------------------------------- */

enum {
    BLOCK_STATUS_DATA = 1 << 0,       /* has to be read to know what it is */
    BLOCK_STATUS_ZERO = 1 << 1,       /* reads as zero */
    BLOCK_STATUS_ALLOCATED = 1 << 2,  /* the layer says so itself; backing files do not count */
    BLOCK_STATUS_COMPRESSED = 1 << 3, /* DATA, compressed */
    BLOCK_STATUS_OFFSET = 1 << 4,     /* `host` is valid */
};

struct block_status {
    unsigned flags;
    uint64_t len;        /* bytes from the offset asked for: > 0 */
    uint64_t host;       /* offset in the layer's file of data */
    uint32_t beyond;     /* so many of the last bytes are zeroes behind the file's end */
    unsigned depth;      /* of the layer that says so: 0 is the image itself */
    struct block *layer; /* it; valid until the image is closed */
};

/*
 * What the bytes at `off` are, for as far as one look shows, at most `len` (both inside the image,
 * len > 0). Through the chain of backing files, or with `own_layer` what the image itself says.
 * On the image's thread. 0 or -errno.
 */
int block_get_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                     struct block_status *ret_status) MUST_CHECK;

/*
 * Are two layers, perhaps of different images, the same image in the same file? Then they have the
 * same at the same offset, unless a snapshot is shown in place of one's disk.
 */
bool block_is_same_layer(const struct block *a, const struct block *b);

/*
 * The same, and where the host has no space for a cluster of the image, as after
 * preallocation=metadata, it is ZERO besides DATA. Only asked for where the image looks as if it
 * had such clusters, which is found out once. Not while it is written.
 */
int block_get_host_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                          struct block_status *ret_status) MUST_CHECK;

/*
 * What the engine has done for this image (not its backing files) since it was opened. Operations
 * of the host are counted when they are asked for, whether they succeed or not.
 */
struct block_stats {
    uint64_t merged_reqs; /* requests that went to the host as part of another one */
    uint64_t data_reads;
    uint64_t data_read_bytes;
    uint64_t data_writes;
    uint64_t data_write_bytes;
    uint64_t data_copies; /* by the host, from another file */
    uint64_t data_copy_bytes;
    uint64_t fallocates; /* ranges zeroed or given back without writing a buffer */
    uint64_t meta_reads;
    uint64_t meta_read_bytes;
    uint64_t meta_writes;
    uint64_t meta_write_bytes;
    uint64_t barriers;
    uint64_t cow_copied_bytes; /* read from the old cluster and written to the new one */
    uint64_t cow_zeroed_bytes; /* not read, but zeroed in the new cluster */
    uint64_t cow_saved_bytes;  /* neither read nor written */
};

/* On the image's thread; valid until it is closed. */
const struct block_stats *block_get_stats(const struct block *block);

void block_get_info(const struct block *block, struct block_info *ret_info);

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_DISCARD,      /* contents may read as zero or unchanged afterwards */
    BLOCK_WRITE_ZEROES, /* reads as zero afterwards */

    /*
     * As BLOCK_WRITE, of data that another image has in its file: the host copies it, and file
     * systems that can do that let the files share the space. Multiples of alloc_unit. -EOPNOTSUPP:
     * the host cannot, or not with this range. After any failure the range shows what it showed or
     * what was to be written, and may be written in the usual way.
     */
    BLOCK_COPY,
};

enum {
    BLOCK_REQ_FUA = 1 << 0,   /* BLOCK_WRITE, BLOCK_WRITE_ZEROES: durable when done */
    BLOCK_REQ_UNMAP = 1 << 1, /* BLOCK_WRITE_ZEROES: host space may be released */

    /*
     * BLOCK_WRITE of whole clusters (opt_io; the disk's end completes the last one): compress what
     * shrinks. -EINVAL for parts of clusters, -ENOTSUP where the image has no compressed clusters.
     */
    BLOCK_REQ_COMPRESSED = 1 << 2,

    /*
     * BLOCK_WRITE_ZEROES: also where it reads as zero only because of its backing file, or has
     * none.
     */
    BLOCK_REQ_OWN = 1 << 3,
};

/*
 * One request; owned by the caller, untouched by it from block_submit until `done` is called,
 * exactly once, on the loop's thread, never from inside block_submit.
 */
struct block_req {
    enum block_op op;
    unsigned flags;
    uint64_t off;            /* bytes; a multiple of logical_block */
    uint64_t len;            /* bytes; for READ and WRITE it equals the sum of iov */
    const struct iovec *iov; /* READ and WRITE only; elements of any length and alignment */
    unsigned niov;

    /* COPY: `layer` and `host` of block_get_status, not compressed; not written meanwhile. */
    struct block *from;
    uint64_t from_host;

    /* 0 or -errno. May submit again or free the request. */
    void (*done)(struct block_req *req, int result);

    /* owner: block/ while in flight */
    struct block *block;
    struct list link;
    int result;
};

/* A range outside the image, or a write to a read-only one, completes with -EINVAL or -EROFS. */
void block_submit(struct block *block, struct block_req *req);

/*
 * Carry out one request here and now, on an image that is not attached; `done` is not called.
 * 0 or -errno. For tools and tests.
 */
int block_execute(struct block *block, struct block_req *req) MUST_CHECK;

/* Requests submitted and not yet done. Any thread. */
unsigned block_in_flight(const struct block *block);

/*
 * Switch between writing back and writing through (virtio-blk CONFIG_WCE): with `writeback` off
 * every write is durable when it completes.
 */
void block_set_writeback(struct block *block, bool writeback);

#endif
