/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/pvpanic.h"

/* Which events there are to write. */
static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned size)
{
    return PVPANIC_EVENTS;
}

static void pvpanic_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct pvpanic *pvpanic = dev;

    for (unsigned event = PVPANIC_PANICKED; event & PVPANIC_EVENTS; event <<= 1)
        if ((value & event) && !(atomic_fetch_or(&pvpanic->reported, event) & event))
            pvpanic->panicked(pvpanic, event);
}

const struct bus_ops pvpanic_bus_ops = {.read = pvpanic_read, .write = pvpanic_write};
