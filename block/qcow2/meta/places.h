/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which clusters of the file hold metadata (meta/find_places collects them). A cluster that is to
 * be taken, or written as data, must not be one of them: else the image contradicts itself, is
 * marked corrupt and not written any more.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_PLACES_H
#define MINIVMM_BLOCK_QCOW2_META_PLACES_H

#include "block/qcow2/qcow2.h"

/* Is any byte of [host, host + len) metadata? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len);

/* Does [host, host + len) touch the header's cluster, the L1 table or the refcount table? */
bool qcow2_in_tables(const struct qcow2 *q, uint64_t host, uint64_t len);

/* Does `host` lie in an active L2 table or refcount block, and in no other metadata? */
bool qcow2_may_write_table(const struct qcow2 *q, uint64_t host);

/*
 * The guest's data is about to be written to [host, host + len): check that no metadata is there,
 * and let q->file_end be at least the end of it. Returns 0, or -EIO after the image was marked
 * corrupt.
 */
int qcow2_check_data_range(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

/* Free the sets; the next write collects them again. */
void qcow2_forget_places(struct qcow2 *q);

#endif
