/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic: a port to which a guest's kernel writes when it panics (QEMU, docs/specs/pvpanic). ACPI
 * announces it as QEMU0001, which Linux has a driver for.
 */
#ifndef MINIVMM_DEVICES_PVPANIC_H
#define MINIVMM_DEVICES_PVPANIC_H

#include <stdatomic.h>

#include "devices/bus.h"

#define PVPANIC_PANICKED 0x01u     /* it is over */
#define PVPANIC_CRASH_LOADED 0x02u /* another kernel is about to look into it (kdump) */
#define PVPANIC_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
    /* One event, at most once for each; any vCPU thread. */
    void (*panicked)(struct pvpanic *pvpanic, unsigned event);
    atomic_uint reported; /* a guest may write as often as it likes */
};

extern const struct bus_ops pvpanic_bus_ops; /* dev: struct pvpanic; one port */

#endif
