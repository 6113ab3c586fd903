/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done to a disk while its guest runs.
 *
 * Operations are asked for on the main loop's thread and carried out on the disk's, one after the
 * other. The functions return 0, and then `done` is called on the main loop, once, later: with 0,
 * or with a negative errno and an error that says why; then the disk is as it was. Or they return
 * -ENOMEM, and it is not. A disk that is closed waits for the operation under way, and ends those
 * that wait (-ECANCELED), inside disk_close.
 *
 * Requests of the guest wait while an operation has the image for itself. None fails because of it.
 */
#ifndef MINIVMM_DISK_OPS_H
#define MINIVMM_DISK_OPS_H

#include <stdint.h>

#include "base/compiler.h"
#include "vmm/disk_queue.h"

struct disk;

/*
 * Make the disk longer, and tell the guest. Shorter is refused: what a guest has there would be
 * lost, and no guest asks for it.
 */
int disk_resize(struct disk *disk, uint64_t len, struct disk_done done) MUST_CHECK;

#endif
