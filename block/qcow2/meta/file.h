/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host I/O of qcow2 images: all of it passes here, where it is counted and where metadata,
 * which is always in the image file, parts from the guest's data, which may be in a file of its
 * own. Once an image is found corrupt, no change of it gets past here: -EIO.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FILE_H
#define MINIVMM_BLOCK_QCOW2_META_FILE_H

#include "block/qcow2/qcow2.h"

int qcow2_meta_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_meta_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;
int qcow2_meta_zero(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

/* Compressed clusters: always in the image file. */
int qcow2_packed_data_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_packed_data_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;

int qcow2_data_readv(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                     unsigned niov) MUST_CHECK;
int qcow2_data_writev(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                      unsigned niov) MUST_CHECK;

int qcow2_data_copy(struct qcow2 *q, uint64_t host, uint64_t len, struct file *from,
                    uint64_t from_off) MUST_CHECK;

int qcow2_data_zero(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Does the range read as zero because nothing is stored there? False also means: don't know. */
bool qcow2_data_is_hole(struct qcow2 *q, uint64_t host, uint64_t len);

/* -EOPNOTSUPP where the file system has no way but writing a buffer. */
int qcow2_data_zero_fast(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Make the image file longer or shorter. 0 or -errno; -ENOTSUP: a block device has one length. */
int qcow2_file_set_len(struct qcow2 *q, uint64_t len) MUST_CHECK;

/*
 * Space up to `end` is about to be used: let the image file be that long, and a good deal longer. A
 * hint: where it fails, writes make the file longer by themselves.
 */
void qcow2_file_grow(struct qcow2 *q, uint64_t end);

/* Take back what qcow2_file_grow added and nobody has used. Nothing is in flight. */
void qcow2_file_shrink(struct qcow2 *q);

/*
 * Whole clusters at `host`, which were a hole, are about to be written. Where such writes go on
 * from front to back, the host finds space for many of them at once: a file system carries out a
 * write into a hole in a thread and a transaction of its own, one into space it has found as any
 * other.
 */
void qcow2_file_reserve(struct qcow2 *q, uint64_t host, uint64_t len);

/* All that was written before, metadata and data, is durable. */
int qcow2_barrier(struct qcow2 *q) MUST_CHECK;

/*
 * Once in an opening, before the first change: what the file says may be the work of a process that
 * was killed, and still be undone by a power cut. What was in use before that must not be used for
 * anything else until then.
 */
int qcow2_barrier_at_first(struct qcow2 *q) MUST_CHECK;

/* Say in the header, durably, that the refcounts are out of date, or no longer. */
int qcow2_set_dirty(struct qcow2 *q, bool dirty) MUST_CHECK;

/* Let the header, durably, have only these of the autoclear bits that it has. */
int qcow2_set_autoclear(struct qcow2 *q, uint64_t keep) MUST_CHECK;

/* Point the header at another refcount table. */
int qcow2_write_reftable_pointer(struct qcow2 *q, uint64_t host, uint32_t clusters) MUST_CHECK;

/* The image contradicts itself: say why, mark it, write no more. Returns -EIO. */
int qcow2_mark_corrupt(struct qcow2 *q, const char *what, uint64_t host);

#endif
