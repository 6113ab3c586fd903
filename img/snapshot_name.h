/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots inside an image, as -l names them: an id or a name, or
 * "snapshot.id=ID,snapshot.name=NAME", where both have to be right if both are given.
 */
#ifndef MINIVMM_IMG_SNAPSHOT_NAME_H
#define MINIVMM_IMG_SNAPSHOT_NAME_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

/* Show a snapshot in place of the disk. Returns the exit status, and has said what is wrong. */
int snapshot_name_show(struct block *block, const char *text) MUST_CHECK;

#endif
