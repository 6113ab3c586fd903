/* SPDX-License-Identifier: Apache-2.0 */
/*
 * human-monitor-command: some commands of QEMU's monitor, which answers people with texts.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_MONITOR_H
#define MINIVMM_CONTROL_COMMANDS_MONITOR_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands commands_monitor;

#endif
