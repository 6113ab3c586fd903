/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller's one useful part: the reset line (command 0xFE to port 0x64). It has no
 * keyboard and no mouse, and no driver should wait for it:
 *
 * - The input buffer always reads as empty, so whoever waits for it before the reset command
 *   (Linux: up to 0.13 s) goes on at once.
 * - The output buffer always reads as full. Drivers flush it first; Linux concludes after 17 reads,
 *   about 1 ms, that there is no controller. An idle one would cost it 0.5 s of waiting for the
 *   answer to a self-test.
 *
 * ACPI tells a guest not to probe at all (FADT, IA-PC boot flags); this is for the others.
 */
#ifndef MINIVMM_DEVICES_I8042_H
#define MINIVMM_DEVICES_I8042_H

#include "devices/bus.h"
#include "devices/power.h"

#define I8042_STATUS_OUTPUT_FULL 0x01u
#define I8042_STATUS_INPUT_FULL 0x02u
#define I8042_COMMAND_RESET 0xfeu

/* dev: struct power_sink. Two ranges of one port each. */
extern const struct bus_ops i8042_data_ops;    /* port 0x60 */
extern const struct bus_ops i8042_command_ops; /* port 0x64 */

#endif
