/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done to a disk while its guest runs.
 *
 * Operations are asked for on the main loop's thread and carried out on the disk's, one after the
 * other. The functions return 0, and then `done` is called on the main loop, once, later: with 0,
 * or with a negative errno and an error that says why; then the disk is as it was. Or they return
 * -ENOMEM or -EBUSY, and it is not. A disk that is closed waits for the operation under way, and
 * ends those that wait (-ECANCELED), inside disk_close.
 *
 * Requests of the guest wait while an operation has the image for itself. None fails because of it.
 */
#ifndef MINIVMM_DISK_OPS_H
#define MINIVMM_DISK_OPS_H

#include <stdint.h>

#include "base/compiler.h"
#include "block/image_ops.h"
#include "block/job.h"
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

/* ---- jobs ------------------------------------------------------------------------------------ */

/*
 * A job is an operation that may go on for hours, with requests of the guest all the time. While
 * one is under way, or waits, everything above and another job is refused (-EBUSY).
 *
 * Streaming: the image takes over what it shows of its backing files, and then has none. What was
 * copied by a job that fails, or is cancelled (-ECANCELED), stays. `speed` as in block_job.
 */
int disk_stream(struct disk *disk, uint64_t speed, struct disk_done done) MUST_CHECK;

/*
 * Committing: the backing file takes over what the image has, and then the requests. The image is
 * empty afterwards, and not used any more. `base` is the path of the backing file, as the disk has
 * it; NULL: the only one.
 */
int disk_commit(struct disk *disk, const char *base, uint64_t speed,
                struct disk_done done) MUST_CHECK;

/* The job, to look at and to set its speed, or whether it is paused or cancelled; NULL: none.
 * Whoever is told that it is done can still look at it. */
struct block_job *disk_job(struct disk *disk);

#endif
