/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects which clusters of the file hold metadata: before the first write, and after each switch.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FIND_PLACES_H
#define MINIVMM_BLOCK_QCOW2_META_FIND_PLACES_H

#include "block/qcow2/qcow2.h"

/*
 * Fill the three sets of clusters with metadata in `q`. Returns 0; -EEXIST if tables overlap;
 * -EINVAL if an entry points at an odd place; or another -errno. After an error the caller empties
 * the sets with qcow2_forget_places.
 */
int qcow2_find_places(struct qcow2 *q) MUST_CHECK;

#endif
