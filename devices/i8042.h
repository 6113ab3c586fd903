/*
 * The keyboard controller's one useful part: the reset line (command 0xFE to port 0x64). It has no
 * keyboard and no mouse. Everything else reads as an idle controller.
 */
#ifndef MINIVMM_DEVICES_I8042_H
#define MINIVMM_DEVICES_I8042_H

#include "devices/bus.h"
#include "devices/power.h"

/* dev: struct power_sink. Two ranges of one port each. */
extern const struct bus_ops i8042_data_ops;    /* port 0x60 */
extern const struct bus_ops i8042_command_ops; /* port 0x64 */

#endif
