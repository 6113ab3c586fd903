/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From guest offsets to host offsets: looking up.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_MAP_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_MAP_H

#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

/* What is at a guest offset, and how far it goes on. */
struct qcow2_extent {
    enum qcow2_kind kind;
    bool has_space; /* there is a `host`: NORMAL always, ZEROES and UNALLOCATED sometimes */
    bool copied;    /* it may be written in place */
    uint64_t len;   /* bytes of the same kind, adjacent in the file */
    uint64_t host;  /* of the byte at the offset asked for */
    uint64_t entry; /* the raw entry: PACKED */
};

/* Look up at most `len` bytes at `off`. -EIO for entries that make no sense. */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len,
              struct qcow2_extent *ret_extent) MUST_CHECK;

/* The same without reading anything. -EAGAIN: the answer is not in memory. */
int qcow2_map_cached(struct qcow2 *q, uint64_t off, uint64_t len,
                     struct qcow2_extent *ret_extent) MUST_CHECK;

/* Does the range read as zero through the whole chain, as far as is known without I/O? */
bool qcow2_reads_zero(struct qcow2 *q, uint64_t off, uint64_t len);

/* Where the L2 table of an offset is; 0: there is none. -EIO if the L1 entry makes no sense. */
int qcow2_l2_table(const struct qcow2 *q, uint64_t off, uint64_t *ret_table) MUST_CHECK;

/* What the entry of the cluster at `off` says about `off` and the bytes that follow in it. */
int qcow2_extent_decode(const struct qcow2 *q, const struct qcow2_entry *entry, uint64_t off,
                        struct qcow2_extent *ret_extent) MUST_CHECK;

/* The same for at most `len` bytes of the slice, as far as it is one extent. */
int qcow2_extent_decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                            uint64_t len, struct qcow2_extent *ret_extent) MUST_CHECK;

#endif
