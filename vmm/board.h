/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices that every machine of this architecture has at fixed places: the serial port, the
 * ways to power off, to reset and to panic, and what a guest would wait for in vain if it did not
 * answer.
 * board_x86.c implements it.
 *
 * Made and freed on the main thread while no vCPU runs.
 */
#ifndef MINIVMM_BOARD_H
#define MINIVMM_BOARD_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "devices/bus.h"
#include "devices/chardev.h"
#include "devices/power.h"
#include "devices/pvpanic.h"
#include "vmm/kvm.h"

/* What the board is plugged into; all of it outlives the board. */
struct board_options {
    const struct kvm_vm *vm;
    struct bus *pio;
    struct chardev *serial;
    struct power_sink *power;
    struct pvpanic *pvpanic;
    bool acpi;
    bool rtc; /* there is a clock */
};

struct board;

/* 0, or a negative errno with *err filled. */
int board_new(const struct board_options *options, struct board **ret_board,
              struct err *err) MUST_CHECK;
void board_free(struct board *board);

/* Whose interrupt line this is, for people; NULL: not the board's. */
const char *board_line_name(unsigned gsi);

/* Press the power button; false if the machine has none. */
bool board_press_power_button(struct board *board);

/* Interrupt a guest again that has not noticed the press yet; false if it has. */
bool board_repeat_power_button(struct board *board);

#endif
