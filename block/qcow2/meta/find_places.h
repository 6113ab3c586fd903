/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding out where an image's metadata is: before the first write, and after each switch.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FIND_PLACES_H
#define MINIVMM_BLOCK_QCOW2_META_FIND_PLACES_H

#include "block/qcow2/qcow2.h"

/* Collect where the metadata is. -EEXIST or -EINVAL for tables that make no sense; -EIO. */
int qcow2_find_places(struct qcow2 *q) MUST_CHECK;

#endif
