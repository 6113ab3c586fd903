/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done to a disk while its guest runs.
 *
 * Operations are asked for on the main loop's thread and carried out on the disk's, one after the
 * other. The functions return 0, and then `done` is called on the main loop, once, later: with 0,
 * or with a negative errno and an error that says why; then the disk is as it was. Or they return
 * -ENOMEM or -EBUSY (the disk has a job, disk_jobs.h), and it is not. A disk that is closed waits
 * for the operation under way, and ends those that wait (-ECANCELED), inside disk_close.
 *
 * Requests of the guest wait while an operation has the image for itself. None fails because of it.
 */
#ifndef MINIVMM_DISK_OPS_H
#define MINIVMM_DISK_OPS_H

#include <stdint.h>

#include "base/compiler.h"
#include "block/block.h"
#include "block/image_ops.h"
#include "vmm/disk_queue.h"

struct disk;

/*
 * Make the disk longer, and tell the guest. Shorter is refused: what a guest has there would be
 * lost, and no guest asks for it.
 */
int disk_resize(struct disk *disk, uint64_t len, struct disk_done done) MUST_CHECK;

/*
 * Take a snapshot inside the image, of a qcow2 disk. No other snapshot has that name.
 */
int disk_snapshot_create(struct disk *disk, const char *name, struct disk_done done) MUST_CHECK;

/*
 * Delete the snapshot with this id and this name; either may be NULL. *ret_deleted, which outlives
 * the operation, is filled in on success; its texts belong to the caller.
 */
int disk_snapshot_delete(struct disk *disk, const char *id, const char *name,
                         struct block_snapshot *ret_deleted, struct disk_done done) MUST_CHECK;

/*
 * Go on in a new overlay, a qcow2 image that is made at `path`, where nothing is yet. The present
 * image becomes its backing file, and is not changed any more: it is the disk as it was.
 *
 * Requests wait for no longer than it takes to flush the present image. All that was flushed before
 * is in it, durably; what is flushed afterwards is in the overlay.
 */
int disk_snapshot_overlay(struct disk *disk, const char *path, struct disk_done done) MUST_CHECK;

/* On the disk's thread: 0; -EROFS with *err filled: it is read-only. */
int disk_check_writable(struct disk *disk, struct err *err) MUST_CHECK;

/*
 * In an operation: another image, which is held, has the requests, and is released. Private to what
 * carries out operations.
 */
void disk_switch_to(struct disk *disk, struct block *block);

#endif
