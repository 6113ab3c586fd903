/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of snapshots, for info and snapshot -l.
 */
#ifndef MINIVMM_IMG_SNAPSHOT_TEXT_H
#define MINIVMM_IMG_SNAPSHOT_TEXT_H

#include "block/image.h"

/* The header and a line for each; nothing if there are none. */
void snapshot_list_print(const struct block_snapshot *list, unsigned n);

#endif
