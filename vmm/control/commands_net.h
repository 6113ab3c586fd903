/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about network cards: set_link, query-rx-filter, announce-self, x-query-netdev; and their
 * lines of the human monitor.
 */
#ifndef MINIVMM_CONTROL_COMMANDS_NET_H
#define MINIVMM_CONTROL_COMMANDS_NET_H

#include <stdio.h>

#include "vmm/control/qmp.h"
#include "vmm/control/vm.h"

extern const struct qmp_commands commands_net;

/* `info network` and `set_link NAME on|off`. */
void commands_net_show(struct control_vm *vm, FILE *out);
void commands_net_set_link(struct control_vm *vm, const char *args, FILE *out);

#endif
