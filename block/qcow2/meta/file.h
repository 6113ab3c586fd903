/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All host I/O of qcow2 images. It is counted here and goes to one of two files: metadata and
 * compressed clusters are always in the image file, the guest's other data may be in an external
 * data file. Once an image is marked corrupt, all writes fail with -EIO.
 *
 * All functions may be called with or without q->lock. Results are 0 or -errno.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FILE_H
#define MINIVMM_BLOCK_QCOW2_META_FILE_H

#include "block/qcow2/qcow2.h"

/* Metadata. */
int qcow2_meta_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_meta_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;
int qcow2_meta_zero(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

/* Compressed clusters. */
int qcow2_packed_data_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_packed_data_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;

/* The guest's data; qcow2_data_copy lets the host copy it from another file. */
int qcow2_data_readv(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                     unsigned niov) MUST_CHECK;
int qcow2_data_writev(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                      unsigned niov) MUST_CHECK;

int qcow2_data_copy(struct qcow2 *q, uint64_t host, uint64_t len, struct file *from,
                    uint64_t from_off) MUST_CHECK;

/* Make the guest's data read as zero; `unmap`: as a hole, if the host can make one. */
int qcow2_data_zero(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Is the range of the guest's data a hole, so that it reads as zero? False if that is not known. */
bool qcow2_data_is_hole(struct qcow2 *q, uint64_t host, uint64_t len);

/* Like qcow2_data_zero; -EOPNOTSUPP where the file system can only write zeroes from a buffer. */
int qcow2_data_zero_fast(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Make the image file longer or shorter. -ENOTSUP for a block device, which has one length. */
int qcow2_file_set_len(struct qcow2 *q, uint64_t len) MUST_CHECK;

/*
 * Space up to `end` is about to be used: make the image file that long, and a good deal longer. A
 * failure is no error, since writes make the file longer by themselves.
 */
void qcow2_file_grow(struct qcow2 *q, uint64_t end);

/* Cut off what qcow2_file_grow added and no write has used. No request is in flight. */
void qcow2_file_shrink(struct qcow2 *q);

/*
 * Whole clusters at `host`, which were a hole, are about to be written. Where such writes go on
 * from front to back, let the host find space for many of them at once. A file system carries out
 * a write into a hole in a thread and a transaction of its own; a write into space that it has
 * found needs neither.
 */
void qcow2_file_reserve(struct qcow2 *q, uint64_t host, uint64_t len);

/* Make durable all that was written before, metadata and data. */
int qcow2_barrier(struct qcow2 *q) MUST_CHECK;

/*
 * Make durable what was in the file when it was opened, before the first change of it; further
 * calls do nothing. A process that was killed may have changed the file, and a power cut could
 * still undo that: clusters that the change has freed would be in use again.
 */
int qcow2_barrier_at_first(struct qcow2 *q) MUST_CHECK;

/* Set or clear the dirty bit of the header, durably: whether the file lacks some refcounts. */
int qcow2_set_dirty(struct qcow2 *q, bool dirty) MUST_CHECK;

/* Clear all autoclear bits of the header but those in `keep`, durably. */
int qcow2_set_autoclear(struct qcow2 *q, uint64_t keep) MUST_CHECK;

/* Let the header point at the refcount table at `host`, of `clusters` clusters, durably. */
int qcow2_write_reftable_pointer(struct qcow2 *q, uint64_t host, uint32_t clusters) MUST_CHECK;

/*
 * The image contradicts itself: log `what` at offset `host`, mark the image corrupt in its header,
 * and let nothing be written to it any more. Returns -EIO.
 */
int qcow2_mark_corrupt(struct qcow2 *q, const char *what, uint64_t host);

#endif
