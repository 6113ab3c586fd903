/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: what the VMM's devices, the image tool and the tests see of block/. Requests on an
 * open image are declared here; this header brings open.h (opening) and status.h (what is where).
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
#include "block/open.h"
#include "block/status.h"

#define BLOCK_SECTOR_SIZE 512u

/* Start asynchronous I/O on `loop`. 0, or a negative errno with *err filled. */
int block_attach(struct block *block, struct loop *loop, struct err *err) MUST_CHECK;

/*
 * Wait for all requests, flush, stop asynchronous I/O. On the loop's thread; not from `done`.
 * 0 or the flush's -errno. The flush is carried out even if requests were cancelled.
 */
int block_detach(struct block *block);

/*
 * With `cancel` on, requests end early. Those that wait, and new ones, end with -ECANCELED. Those
 * that are being carried out end when the host has finished the piece it works on, so a write may
 * have written a part of its data. This is for a disk whose user is gone; the image stays sound,
 * however often its requests are cancelled. Any thread.
 */
void block_set_cancel(struct block *block, bool cancel);

/* Flush if it was written, release locks, free. Detached or never attached. 0 or -errno. */
int block_close(struct block *block);

/*
 * Between the two calls no request is carried out: block_hold waits for those that are, and those
 * that come meanwhile wait. In an operation (live.h) on an attached image.
 */
void block_hold(struct block *block);
void block_release(struct block *block);

/* Is no request carried out, because the image is held or not attached? */
bool block_is_quiet(const struct block *block);

/*
 * Call fn(opaque, off, len), in the request's coroutine, when a request has changed something and
 * it is marked in block->dirty; the request is done afterwards. NULL: no more. Private to block/.
 */
void block_follow(struct block *block, void (*fn)(void *opaque, uint64_t off, uint64_t len),
                  void *opaque);

/*
 * The requests of `from`, which is held and attached, are `to`'s from now on, and so is the
 * operation under way: `to` is held, `from` is not attached any more. `to` is the top of a chain,
 * whose files belong to the loop then. Private to block/.
 */
void block_hand_over(struct block *from, struct block *to);

/*
 * Take the images between an image and `base`, further down, or NULL: all that are below it. They
 * are the caller's to close. The image that has the requests is held. Private to block/.
 */
struct block *block_take_backing(struct block *block, struct block *base);

struct block_info {
    uint64_t len;           /* virtual size in bytes; a raw file's tail is rounded up to a sector */
    uint32_t logical_block; /* smallest unit the guest may address: a power of two >= 512 */
    uint32_t physical_block; /* unit that avoids read-modify-write */
    uint32_t opt_io;         /* preferred I/O size in bytes, e.g. the cluster size; 0 unknown */
    uint32_t discard_align;  /* granularity of useful discards in bytes */
    uint32_t alloc_unit;     /* writes take up space, or time, in units of this size */
    bool readonly;
    bool discard;
    const char *format; /* "raw" or "qcow2" */
};

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
     * As BLOCK_WRITE, but the data is in the file of another image, and the host copies it. On some
     * file systems the two files then share the space. Offset and length are multiples of
     * alloc_unit. -EOPNOTSUPP: the host cannot copy, or not this range. After any failure each byte
     * of the range is the old one or the new one, and BLOCK_WRITE may be used instead.
     */
    BLOCK_COPY,
};

enum {
    BLOCK_REQ_FUA = 1 << 0,   /* BLOCK_WRITE, BLOCK_WRITE_ZEROES: durable when done */
    BLOCK_REQ_UNMAP = 1 << 1, /* BLOCK_WRITE_ZEROES: host space may be released */

    /*
     * BLOCK_WRITE: compress the clusters that become smaller by it. The range consists of whole
     * clusters (opt_io), but may end with the disk. -EINVAL for parts of clusters, -ENOTSUP where
     * the image cannot have compressed clusters.
     */
    BLOCK_REQ_COMPRESSED = 1 << 2,

    /*
     * BLOCK_WRITE_ZEROES: the image itself says afterwards that the range is zero, even where it
     * reads as zero already because of its backing file, or because there is none.
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

    /*
     * COPY only: `layer` and `host`, as block_get_status gave them for data that is not compressed.
     * Nobody writes to that image meanwhile.
     */
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
