/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What messages call a disk: by its name, and by the image that it writes to, which may become
 * another one.
 */
#ifndef MINIVMM_DISK_LABEL_H
#define MINIVMM_DISK_LABEL_H

#include "base/compiler.h"

struct disk_label;

/*
 * Any thread may read `now` at any time, so labels of the past live as long as the disk. Each
 * exists once.
 */
struct disk_labels {
    const char *now; /* atomic */
    struct disk_label *all;
};

/* "disk vda (root.qcow2)" from now on. One thread at a time. 0; -ENOMEM: as it was. */
int disk_labels_set(struct disk_labels *labels, const char *name, const char *path) MUST_CHECK;

void disk_labels_done(struct disk_labels *labels);

#endif
