/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that tell about disks: query-block, query-named-block-nodes, query-blockstats.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_BLOCK_H
#define MINIVMM_CONTROL_COMMANDS_BLOCK_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_block;

#endif
