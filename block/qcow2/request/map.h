/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks up what is at an offset of the disk, and where that is in the file. Lookups need no lock:
 * between two waits nothing else runs.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_MAP_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_MAP_H

#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

/* The extent at a guest offset. */
struct qcow2_extent {
    enum qcow2_kind kind;
    bool has_space; /* there is a `host`: NORMAL always, ZEROES and UNALLOCATED sometimes */
    bool copied;    /* nothing else refers to that space: it may be written in place */
    uint64_t len;   /* bytes of the same kind, adjacent in the file */
    uint64_t host;  /* of the byte at the offset asked for */
    uint64_t entry; /* PACKED: the L2 entry */
};

/*
 * Look up the extent at `off`, of at most `len` bytes, reading metadata if need be. Returns 0; -EIO
 * if an entry makes no sense; or another -errno.
 */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len,
              struct qcow2_extent *ret_extent) MUST_CHECK;

/* Look it up in memory only, without a wait. -EAGAIN if the answer is not there. */
int qcow2_map_cached(struct qcow2 *q, uint64_t off, uint64_t len,
                     struct qcow2_extent *ret_extent) MUST_CHECK;

/* Does the range read as zero through the whole chain? False if that is not known without I/O. */
bool qcow2_reads_zero(struct qcow2 *q, uint64_t off, uint64_t len);

/*
 * Set *ret_table to the place of the L2 table that maps `off`, 0 if there is none. Returns 0; -EIO
 * if the L1 entry makes no sense.
 */
int qcow2_l2_table(const struct qcow2 *q, uint64_t off, uint64_t *ret_table) MUST_CHECK;

/*
 * Set *ret_extent to what `entry`, that of the cluster at `off`, says about `off` and the bytes
 * that follow in the cluster. Returns 0; -EIO if the entry makes no sense.
 */
int qcow2_extent_decode(const struct qcow2 *q, const struct qcow2_entry *entry, uint64_t off,
                        struct qcow2_extent *ret_extent) MUST_CHECK;

/*
 * Set *ret_extent to the extent at `off`, of at most `len` bytes that `slice` maps. Same results.
 */
int qcow2_extent_decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                            uint64_t len, struct qcow2_extent *ret_extent) MUST_CHECK;

#endif
