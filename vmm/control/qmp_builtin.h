/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that concern the protocol and the program, not the VM: qmp_capabilities, query-version,
 * query-commands, query-qmp-schema.
 */
#ifndef MINIVMM_CONTROL_QMP_BUILTIN_H
#define MINIVMM_CONTROL_QMP_BUILTIN_H

#include "vmm/control/qmp.h"

extern const struct qmp_commands qmp_builtin_commands;

#endif
