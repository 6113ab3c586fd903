/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people are shown of a machine by human-monitor-command.
 */
#ifndef MINIVMM_REMOTE_SHOW_H
#define MINIVMM_REMOTE_SHOW_H

#include <stdio.h>

#include "vmm/control/vm.h"
#include "vmm/machine.h"

/* As struct vm_queries says. */
void remote_show(const struct machine_parts *parts, const struct machine *machine,
                 enum vm_topic topic, unsigned cpu, FILE *out);

/* See struct vm_queries. */
bool remote_translate(const struct machine *machine, unsigned cpu, uint64_t va, uint64_t *ret_gpa);

#endif
