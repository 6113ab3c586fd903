/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that accesses its ports at random: the bus with the keyboard controller, the ACPI
 * registers, and ranges that the input adds. What no range covers reads as ones, and only what is
 * documented ends or resets the machine.
 *
 * Steps of four bytes: kind and size, port (16 bits), value.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/acpi_pm.h"
#include "devices/bus.h"
#include "devices/i8042.h"
#include "memory/layout_x86.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEP_LEN 4u
#define ADDED_MAX 80u

enum { STEP_READ, STEP_WRITE, STEP_ADD, STEP_ADD_AT_END, STEP_PRESS, NSTEPS };

/* A range that the input added, and what it was asked. */
struct added {
    uint64_t base;
    uint64_t len;
    unsigned accesses;
};

static struct bus bus;
static struct acpi_pm *pm;
static struct irq irq;
static struct added added[ADDED_MAX];
static unsigned nadded;
static unsigned asked[POWER_REQUEST_RESET + 1];

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void ask(struct power_sink *sink, enum power_request what)
{
    asked[what]++;
}

static struct power_sink sink = {.request = ask};

/* ---- ranges ---------------------------------------------------------------------------------- */

static uint64_t added_read(void *dev, uint64_t off, unsigned size)
{
    struct added *range = dev;

    must(range_fits(off, size, range->len));
    range->accesses++;
    return range->base + off;
}

static void added_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    (void)added_read(dev, off, size);
}

static const struct bus_ops added_ops = {.read = added_read, .write = added_write};
static const struct bus_ops silent_ops = {0};

static void add(uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev)
{
    const struct bus_range range = {.base = base, .len = len, .ops = ops, .dev = dev};

    must(bus_add(&bus, &range) == 0);
}

static bool overlaps(uint64_t base, uint64_t len)
{
    for (size_t i = 0; i < bus.nranges; i++) {
        const struct bus_range *range = &bus.ranges[i];

        if (base <= range->base + (range->len - 1) && range->base <= base + (len - 1))
            return true;
    }
    return false;
}

/* It has to be refused for a reason, and for each reason. */
static void add_range(uint64_t base, uint64_t len, bool silent)
{
    struct added *range = &added[nadded];
    const struct bus_range wanted = {
        .base = base, .len = len, .ops = silent ? &silent_ops : &added_ops, .dev = range};
    bool wraps = len == 0 || len - 1 > UINT64_MAX - base;
    bool possible = !wraps && bus.nranges < BUS_RANGES_MAX && !overlaps(base, len);

    if (nadded == ADDED_MAX)
        return;
    *range = (struct added){.base = base, .len = len};
    must((bus_add(&bus, &wanted) == 0) == possible);
    nadded += possible;
}

/* ---- accesses -------------------------------------------------------------------------------- */

static const struct bus_range *range_at(uint64_t addr, unsigned size)
{
    for (size_t i = 0; i < bus.nranges; i++)
        if (addr >= bus.ranges[i].base &&
            range_fits(addr - bus.ranges[i].base, size, bus.ranges[i].len))
            return &bus.ranges[i];
    return NULL;
}

static void check_read(const struct bus_range *range, uint64_t addr, unsigned size, uint64_t value)
{
    uint64_t mask = size == 8 ? UINT64_MAX : (1ull << 8 * size) - 1;

    if (!range || range->ops == &silent_ops)
        must(value == mask);
    else if (range->ops == &added_ops)
        must(value == (addr & mask));
    else if (range->ops == &i8042_data_ops)
        must(value == 0);
    else if (range->ops == &i8042_command_ops)
        must(!(value & I8042_STATUS_INPUT_FULL));
}

static void read_port(uint64_t addr, unsigned size)
{
    uint64_t value = 0;

    bus_read(&bus, addr, &value, size);
    check_read(range_at(addr, size), addr, size, le64toh(value));
}

/* How often a write asks for a reset or for the end. */
static void expect(uint64_t addr, unsigned size, const uint8_t *bytes, unsigned *off,
                   unsigned *reset)
{
    const struct bus_range *range = range_at(addr, size);

    if (range && range->ops == &i8042_command_ops)
        *reset += bytes[0] == I8042_COMMAND_RESET;
    for (unsigned i = 0; range && range->ops == &acpi_pm_bus_ops && i < size; i++) {
        uint64_t at = addr - range->base + i;

        *reset += at == ACPI_PM_RESET && bytes[i] == ACPI_PM_RESET_VALUE;
        *off +=
            at == ACPI_PM_SLEEP_CONTROL && (bytes[i] & 0x3c) == (0x20 | ACPI_PM_SLP_TYP_S5 << 2);
    }
}

static void write_port(uint64_t addr, unsigned size, uint8_t byte)
{
    const uint8_t bytes[8] = {byte, (uint8_t)(byte + 1), 1, byte, 1, byte, 1, byte};
    unsigned off = asked[POWER_REQUEST_OFF], reset = asked[POWER_REQUEST_RESET];

    expect(addr, size, bytes, &off, &reset);
    bus_write(&bus, addr, bytes, size);
    must(asked[POWER_REQUEST_OFF] == off && asked[POWER_REQUEST_RESET] == reset);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void take_step(const uint8_t *step)
{
    unsigned size = 1u + (step[0] >> 4 & 7u);
    uint64_t port = load_be16(step + 1);

    switch (step[0] % 16 % NSTEPS) {
    case STEP_READ:
        read_port(port, size);
        break;
    case STEP_WRITE:
        write_port(port, size, step[3]);
        break;
    case STEP_ADD:
        add_range(port, step[3], step[0] & 0x80);
        break;
    case STEP_ADD_AT_END:
        add_range(UINT64_MAX - port, step[3], step[0] & 0x80);
        read_port(UINT64_MAX - port, size);
        break;
    default:
        acpi_pm_press_power_button(pm);
        must(acpi_pm_bus_ops.read(pm, ACPI_PM_GED_EVENTS, 1) == ACPI_PM_EVENT_POWER_BUTTON);
        must(acpi_pm_bus_ops.read(pm, ACPI_PM_GED_EVENTS, 1) == 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR);
    bus = (struct bus){0};
    nadded = 0;
    if (irq_init(&irq, 9) < 0 || acpi_pm_new(&irq, &sink, &pm) < 0)
        abort();
    add(X86_PORT_I8042_DATA, 1, &i8042_data_ops, &sink);
    add(X86_PORT_I8042_COMMAND, 1, &i8042_command_ops, &sink);
    add(X86_PORT_ACPI_PM, ACPI_PM_LEN, &acpi_pm_bus_ops, pm);
    for (; size >= STEP_LEN; data += STEP_LEN, size -= STEP_LEN)
        take_step(data);
    acpi_pm_free(pm);
    irq_done(&irq);
    return 0;
}
