/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/i8042.h"

/* Not the code of any key, for a driver that believes the status. */
static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
    return 0;
}

static uint64_t status_read(void *dev, uint64_t off, unsigned size)
{
    return I8042_STATUS_OUTPUT_FULL;
}

static void command_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct power_sink *sink = dev;

    if (value == I8042_COMMAND_RESET)
        sink->request(sink, POWER_REQUEST_RESET);
}

const struct bus_ops i8042_data_ops = {.read = data_read};
const struct bus_ops i8042_command_ops = {.read = status_read, .write = command_write};
