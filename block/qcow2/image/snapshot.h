/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots inside an image: operations of struct block_driver for the functions in
 * block/image_ops.h, which say what each does and returns. The image is not attached.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_SNAPSHOT_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_SNAPSHOT_H

#include "block/driver.h"

int qcow2_list_snapshots(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                         struct err *err) MUST_CHECK;
void qcow2_note_snapshots(struct block *block);
int qcow2_create_snapshot(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err) MUST_CHECK;
int qcow2_apply_snapshot(struct block *block, const char *which, struct err *err) MUST_CHECK;
int qcow2_delete_snapshot(struct block *block, const char *which, struct err *err) MUST_CHECK;
int qcow2_show_snapshot(struct block *block, const char *which, struct err *err) MUST_CHECK;

int qcow2_write_vmstate(struct block *block, uint64_t off, const void *buf, size_t len) MUST_CHECK;
int qcow2_read_vmstate(struct block *block, uint64_t off, void *buf, size_t len) MUST_CHECK;

#endif
