/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot inside an image, as clients are told of it.
 */
#ifndef MINIVMM_CONTROL_SNAPSHOT_INFO_H
#define MINIVMM_CONTROL_SNAPSHOT_INFO_H

#include <jansson.h>

#include "block/image_ops.h"

/* QEMU's SnapshotInfo. Any thread. */
json_t *snapshot_info(const struct block_snapshot *snapshot);

#endif
