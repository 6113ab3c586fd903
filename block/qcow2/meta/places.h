/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's metadata is (meta/find_places finds out). Whatever is about to be taken, or
 * written as data, is checked against it: an image that contradicts itself is written no more.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_PLACES_H
#define MINIVMM_BLOCK_QCOW2_META_PLACES_H

#include "block/qcow2/qcow2.h"

/* Is any byte of [host, host + len) metadata? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len);

/* Is any byte of it the header's, the L1 table's or the refcount table's? */
bool qcow2_in_tables(const struct qcow2 *q, uint64_t host, uint64_t len);

/* Does `host` lie in an active L2 table or refcount block, and in nothing else? */
bool qcow2_may_write_table(const struct qcow2 *q, uint64_t host);

/*
 * The guest's data is about to be written to [host, host + len): is that no metadata? The file
 * holds something up to there from now on. 0, or -EIO after the image was marked as corrupt.
 */
int qcow2_check_data_range(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

void qcow2_forget_places(struct qcow2 *q);

#endif
