/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgets what an image keeps in memory about its file and its disk.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_FORGET_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_FORGET_H

#include "block/qcow2/qcow2.h"

enum {
    QCOW2_FORGET_READ = 1 << 0,   /* the disk's contents: inflated clusters, what was read ahead */
    QCOW2_FORGET_DISK = 1 << 1,   /* discarded parts of clusters; where packed data ends */
    QCOW2_FORGET_SPACE = 1 << 2,  /* where free clusters are */
    QCOW2_FORGET_TABLES = 1 << 3, /* slices of L2 tables and refcount blocks; dirty ones are lost */
    QCOW2_FORGET_PLACES = 1 << 4, /* where metadata is; the next write finds it again */
    QCOW2_FORGET_NOTES = 1 << 5,  /* what was noted for bitmaps */
};

/* What a switch makes out of date: all but the notes. */
#define QCOW2_FORGET_FILE                                                                          \
    (QCOW2_FORGET_READ | QCOW2_FORGET_DISK | QCOW2_FORGET_SPACE | QCOW2_FORGET_TABLES |            \
     QCOW2_FORGET_PLACES)

#define QCOW2_FORGET_ALL (QCOW2_FORGET_FILE | QCOW2_FORGET_NOTES)

/* Forget `what`, and free its memory. No request is in flight. */
void qcow2_forget(struct qcow2 *q, unsigned what);

#endif
