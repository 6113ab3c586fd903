/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `x` and `xp` of the monitor: memory as numbers.
 */
#ifndef MINIVMM_CONTROL_MONITOR_MEMORY_H
#define MINIVMM_CONTROL_MONITOR_MEMORY_H

#include <stdio.h>

#include "vmm/control/vm.h"

/* What is shown at most, in bytes. */
#define MONITOR_MEMORY_MAX 16384u

/*
 * `words` is what comes after the command: `[/FORMAT] ADDRESS`, where FORMAT is a number of items,
 * how to write them (x, d, u, o, c), and their size (b, h, w, g), each as one likes. The address is
 * physical with cpu < 0, else one as that CPU sees it now.
 */
void monitor_memory_show(struct control_vm *vm, int cpu, const char *words, FILE *out);

#endif
