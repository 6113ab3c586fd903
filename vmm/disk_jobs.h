/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on a disk: operations (disk_ops.h) that may go on for hours, with requests of the guest all
 * the time. While one is under way, or waits, all other operations are refused (-EBUSY).
 *
 * The functions return 0, or -ENOMEM or -EBUSY. Whoever asked hears on the main loop, in this
 * order: that the job has begun, unless it cannot work or is cancelled before; that it is ready,
 * if it is a commit of the image on top; and that it is done, with 0, or a negative errno and an
 * error that says why. Of a job that has not begun nothing has changed. One that fails or is
 * cancelled (-ECANCELED) leaves a disk that shows the same, and what it copied.
 */
#ifndef MINIVMM_DISK_JOBS_H
#define MINIVMM_DISK_JOBS_H

#include <stdint.h>

#include "base/compiler.h"
#include "block/job.h"
#include "vmm/disk_queue.h"

struct disk;

/* One of the disk's images; all zero: not said. */
struct disk_layer {
    const char *path; /* as the disk has it, or as the image above names it */
    bool by_depth;
    unsigned depth; /* 0: the image on top */
};

struct disk_job_wish {
    struct disk_layer top;    /* of a commit; not said: the image on top */
    struct disk_layer base;   /* not said: the lowest for a commit, none for streaming */
    struct disk_layer bottom; /* of streaming, instead of `base`: the lowest that is copied */
    const char *backing_file; /* what the image above the base is to call it; NULL: it is found */
    uint64_t speed;           /* as in block_job */
};

struct disk_job_events {
    void (*begun)(void *opaque);
    void (*ready)(void *opaque);
    void (*done)(void *opaque, int result, const struct err *err);
    void *opaque;
};

/* The image on top takes over what it shows of those above the base, which is below it then. */
int disk_stream(struct disk *disk, const struct disk_job_wish *wish,
                const struct disk_job_events *events) MUST_CHECK;

/*
 * The base takes over what the images from `top` down to it have, and they are not used any more.
 * If `top` is the image on top, the base has the requests at last, and the image is empty; the job
 * waits for that until block_job.complete is set.
 */
int disk_commit(struct disk *disk, const struct disk_job_wish *wish,
                const struct disk_job_events *events) MUST_CHECK;

/*
 * The job, to look at and to set its speed and its flags (block_job_let); NULL: none. Whoever is
 * told that it is done can still look at it.
 */
struct block_job *disk_job(struct disk *disk);

#endif
