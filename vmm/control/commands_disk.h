/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that change a disk while its guest runs: its length, its limits, snapshots.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_DISK_H
#define MINIVMM_CONTROL_COMMANDS_DISK_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_disk;

#endif
