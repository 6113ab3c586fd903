/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the machine as a whole: what it is, whether it runs, and its power.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_MACHINE_H
#define MINIVMM_CONTROL_COMMANDS_MACHINE_H

#include "vmm/control/qmp.h"
#include "vmm/control/vm.h"

extern const struct qmp_commands commands_machine;

/*
 * Answer those who wait for a pause. `why_not` is NULL when it is done, else a sentence without a
 * full stop.
 */
void commands_machine_end_stopping(struct control_vm *vm, const char *why_not);

/* Carry out what waits for the next guest, when one has stopped. */
void commands_machine_go_on(struct control_vm *vm);

/* Answer those who wait for the next guest: there will be none. */
void commands_machine_end_waiting(struct control_vm *vm);

#endif
