/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI registers of a hardware-reduced machine: SLEEP_CONTROL, SLEEP_STATUS and RESET_REG
 * (ACPI 6.4, 4.8.3.7 and 4.8.3.6), and the generic event device (5.6.9) with a power button.
 *
 * Register block, one byte each, on the port I/O bus: see ACPI_PM_*. boot/acpi.c describes the
 * same block to the guest.
 */
#ifndef MINIVMM_DEVICES_ACPI_PM_H
#define MINIVMM_DEVICES_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/power.h"

#define ACPI_PM_LEN 4u
#define ACPI_PM_SLEEP_CONTROL 0u
#define ACPI_PM_SLEEP_STATUS 1u
#define ACPI_PM_RESET 2u      /* write ACPI_PM_RESET_VALUE */
#define ACPI_PM_GED_EVENTS 3u /* read and clear: ACPI_PM_EVENT_* */
#define ACPI_PM_RESET_VALUE 0x01u
#define ACPI_PM_SLP_TYP_S5 5u
#define ACPI_PM_EVENT_POWER_BUTTON 0x01u

struct acpi_pm;

extern const struct bus_ops acpi_pm_bus_ops; /* dev: struct acpi_pm */

/* `ged_irq` and `sink` are not owned. 0 or -errno. */
int acpi_pm_new(struct irq *ged_irq, struct power_sink *sink, struct acpi_pm **ret_pm) MUST_CHECK;
void acpi_pm_free(struct acpi_pm *pm);

/* Press the power button once. Any thread. */
void acpi_pm_press_power_button(struct acpi_pm *pm);

/*
 * A guest that has not read of the press yet may have had no driver for the interrupt when it came:
 * raise it again. False: the guest knows. Any thread.
 */
bool acpi_pm_repeat_power_button(struct acpi_pm *pm);

#endif
