/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that tell counters: query-stats, query-stats-schemas.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_STATS_H
#define MINIVMM_CONTROL_COMMANDS_STATS_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_stats;

#endif
