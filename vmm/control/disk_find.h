/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk that a request names, and answers of operations on it (vmm/disk_ops.h).
 */
#ifndef MINIVMM_CONTROL_DISK_FIND_H
#define MINIVMM_CONTROL_DISK_FIND_H

#include <stdbool.h>

#include "base/compiler.h"
#include "vmm/control/qmp.h"
#include "vmm/disk_ops.h"

/* The disk called `device`; NULL: the request has failed. */
struct disk *disk_find(struct qmp_request *request, const char *device);

/* The one that `device` names, or `node-name`: the image on top. Exactly one of them is given. */
struct disk *disk_find_node(struct qmp_request *request);

/*
 * The one that "device" names as a job has it: a disk, or the image on top of one. NULL: the
 * request has failed, as QEMU's does, for streaming or for a commit.
 */
struct disk *disk_find_top(struct qmp_request *request, bool streams);

/* Is `node` the name of an image of the disk? Its depth, below the top if it is not 0. */
bool disk_find_depth(const struct disk *disk, const char *node, unsigned *ret_depth) MUST_CHECK;

/* An operation that was asked for is to answer the request. */
struct disk_done disk_answers(struct qmp_request *request);

/* What a function of disk_ops.h returned when it was asked; fails the request unless that is 0. */
void disk_asked(struct qmp_request *request, const struct disk *disk, int result);

#endif
