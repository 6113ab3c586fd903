/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the jobs of disks: what they are, how they go on, and events at their end.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_JOB_H
#define MINIVMM_CONTROL_COMMANDS_JOB_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_job;

#endif
