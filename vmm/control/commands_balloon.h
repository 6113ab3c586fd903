/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the memory that the guest has: balloon, query-balloon, query-balloon-stats.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_BALLOON_H
#define MINIVMM_CONTROL_COMMANDS_BALLOON_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_balloon;

#endif
