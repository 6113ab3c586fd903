/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "devices/acpi_pm.h"
#include "devices/i8042.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "memory/layout_x86.h"
#include "vmm/board.h"

struct board {
    struct irq serial_irq;
    struct serial *serial;
    struct irq ged_irq;
    struct acpi_pm *acpi_pm; /* NULL: no ACPI */
    struct rtc *rtc;         /* NULL: none */
};

static int add_irq(const struct kvm_vm *vm, struct irq *irq, uint32_t gsi, struct err *err)
{
    int r = irq_init(irq, gsi);

    if (r < 0)
        return err_set_errno(err, r, "cannot make an eventfd for GSI %u", gsi);
    r = kvm_vm_add_irq(vm, irq, err);
    if (r < 0)
        irq_done(irq);
    return r;
}

static int add_ports(struct bus *pio, uint64_t base, uint64_t len, const struct bus_ops *ops,
                     void *dev, const char *name, struct err *err)
{
    const struct bus_range range = {.base = base, .len = len, .ops = ops, .dev = dev, .name = name};
    int r = bus_add(pio, &range);

    return r < 0 ? err_set_errno(err, r, "cannot place %s", name) : 0;
}

static int add_serial(struct board *board, const struct board_options *options, struct err *err)
{
    int r = add_irq(options->vm, &board->serial_irq, X86_GSI_COM1, err);

    if (r < 0)
        return r;
    r = serial_new(&board->serial_irq, options->serial, &board->serial);
    if (r < 0) {
        irq_done(&board->serial_irq);
        return err_set_errno(err, r, "cannot make the serial port");
    }
    return add_ports(options->pio, X86_PORT_COM1, SERIAL_PORTS, &serial_bus_ops, board->serial,
                     "serial", err);
}

static int add_i8042(const struct board_options *options, struct err *err)
{
    int r = add_ports(options->pio, X86_PORT_I8042_DATA, 1, &i8042_data_ops, options->power,
                      "i8042 data", err);

    if (r < 0)
        return r;
    return add_ports(options->pio, X86_PORT_I8042_COMMAND, 1, &i8042_command_ops, options->power,
                     "i8042 command", err);
}

static int add_acpi_pm(struct board *board, const struct board_options *options, struct err *err)
{
    int r = add_irq(options->vm, &board->ged_irq, X86_GSI_GED, err);

    if (r < 0)
        return r;
    r = acpi_pm_new(&board->ged_irq, options->power, &board->acpi_pm);
    if (r < 0) {
        irq_done(&board->ged_irq);
        return err_set_errno(err, r, "cannot make the ACPI registers");
    }
    return add_ports(options->pio, X86_PORT_ACPI_PM, ACPI_PM_LEN, &acpi_pm_bus_ops, board->acpi_pm,
                     "ACPI registers", err);
}

static time_t host_time(void)
{
    return time(NULL);
}

static int add_rtc(struct board *board, const struct board_options *options, struct err *err)
{
    int r = rtc_new(host_time, &board->rtc);

    if (r < 0)
        return err_set_errno(err, r, "cannot make the clock");
    return add_ports(options->pio, X86_PORT_RTC, RTC_PORTS, &rtc_bus_ops, board->rtc, "clock", err);
}

int board_new(const struct board_options *options, struct board **ret_board, struct err *err)
{
    struct board *board = calloc(1, sizeof(*board));
    int r;

    if (!board)
        return err_set(err, -ENOMEM, "out of memory");
    r = add_serial(board, options, err);
    if (r == 0)
        r = add_i8042(options, err);
    if (r == 0 && options->acpi)
        r = add_acpi_pm(board, options, err);
    if (r == 0 && options->acpi) /* whose tables announce it */
        r = add_ports(options->pio, X86_PORT_PVPANIC, 1, &pvpanic_bus_ops, options->pvpanic,
                      "pvpanic", err);
    if (r == 0 && options->rtc)
        r = add_rtc(board, options, err);
    if (r < 0) {
        board_free(board);
        return r;
    }
    *ret_board = board;
    return 0;
}

void board_free(struct board *board)
{
    if (!board)
        return;
    if (board->acpi_pm) {
        acpi_pm_free(board->acpi_pm);
        irq_done(&board->ged_irq);
    }
    if (board->serial) {
        serial_free(board->serial);
        irq_done(&board->serial_irq);
    }
    rtc_free(board->rtc);
    free(board);
}

const char *board_line_name(unsigned gsi)
{
    switch (gsi) {
    case X86_GSI_COM1:
        return "serial port";
    case X86_GSI_GED:
        return "power button";
    default:
        return NULL;
    }
}

bool board_press_power_button(struct board *board)
{
    if (!board->acpi_pm)
        return false;
    acpi_pm_press_power_button(board->acpi_pm);
    return true;
}

bool board_repeat_power_button(struct board *board)
{
    return board->acpi_pm && acpi_pm_repeat_power_button(board->acpi_pm);
}
