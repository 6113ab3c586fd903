/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk that a request names, and answers of operations on it (vmm/disk_ops.h).
 */
#ifndef MINIVMM_CONTROL_DISK_FIND_H
#define MINIVMM_CONTROL_DISK_FIND_H

#include "vmm/control/qmp.h"
#include "vmm/disk_ops.h"

/* The disk called `device`; NULL: the request has failed. */
struct disk *disk_find(struct qmp_request *request, const char *device);

/* The one that `device` names, or `node-name`: the image on top. Exactly one of them is given. */
struct disk *disk_find_node(struct qmp_request *request);

/* An operation that was asked for is to answer the request. */
struct disk_done disk_answers(struct qmp_request *request);

/* What a function of disk_ops.h returned when it was asked; fails the request unless that is 0. */
void disk_asked(struct qmp_request *request, const struct disk *disk, int result);

#endif
