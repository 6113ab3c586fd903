/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is counted of a network card, under the names that clients know. No state.
 */
#ifndef MINIVMM_CONTROL_NIC_COUNTERS_H
#define MINIVMM_CONTROL_NIC_COUNTERS_H

#include "vmm/attached/nic.h"
#include "vmm/control/vm.h"

/* Returns how many there are: always the same ones. */
unsigned nic_counters(const struct nic_info *info, struct vm_counter ret_counters[VM_COUNTERS_MAX]);

#endif
