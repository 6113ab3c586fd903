/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at all disks for a request, which is answered when the last one has been looked at.
 */
#ifndef MINIVMM_CONTROL_DISK_SURVEY_H
#define MINIVMM_CONTROL_DISK_SURVEY_H

#include <jansson.h>

#include "block/port.h"
#include "vmm/control/qmp.h"
#include "vmm/control/vm.h"

/*
 * Look at every disk with `look`, on the disk's thread, which returns what it saw; then pass the
 * array of all that, in the order of the disks, to `finish` on the main loop. It is stolen.
 */
void disk_survey(struct qmp_request *request,
                 json_t *(*look)(const struct vm_disk *disk, const struct block_port *port),
                 void (*finish)(struct qmp_request *request, json_t *seen));

#endif
