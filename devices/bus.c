/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/bus.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

int bus_add(struct bus *bus, const struct bus_range *range)
{
    size_t pos = 0;

    /* The last byte's address must exist; a range may end where the address space ends. */
    if (range->len == 0 || range->len - 1 > UINT64_MAX - range->base || !range->ops)
        return -EINVAL;
    if (bus->nranges == BUS_RANGES_MAX)
        return -ENOSPC;

    while (pos < bus->nranges && bus->ranges[pos].base < range->base)
        pos++;
    if (pos > 0 && range->base - bus->ranges[pos - 1].base < bus->ranges[pos - 1].len)
        return -EEXIST;
    if (pos < bus->nranges && bus->ranges[pos].base - range->base < range->len)
        return -EEXIST;

    memmove(&bus->ranges[pos + 1], &bus->ranges[pos],
            (bus->nranges - pos) * sizeof(bus->ranges[0]));
    bus->ranges[pos] = *range;
    bus->nranges++;
    return 0;
}

/* The range that covers all of [addr, addr + size), or NULL. */
static const struct bus_range *find(const struct bus *bus, uint64_t addr, unsigned size)
{
    size_t low = 0;
    size_t high = bus->nranges;
    const struct bus_range *range;

    /* Afterwards ranges below `low` begin at or below addr, those from `low` on above it. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (bus->ranges[middle].base <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    range = &bus->ranges[low - 1];
    return range_fits(addr - range->base, size, range->len) ? range : NULL;
}

void bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned size)
{
    const struct bus_range *range = find(bus, addr, size);
    uint64_t value = UINT64_MAX;

    assert(size >= 1 && size <= sizeof(value));
    if (range && range->ops->read)
        value = range->ops->read(range->dev, addr - range->base, size);
    value = htole64(value);
    memcpy(data, &value, size);
}

void bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned size)
{
    const struct bus_range *range = find(bus, addr, size);
    uint64_t value = 0;

    assert(size >= 1 && size <= sizeof(value));
    if (!range || !range->ops->write)
        return;
    memcpy(&value, data, size);
    range->ops->write(range->dev, addr - range->base, size, le64toh(value));
}
