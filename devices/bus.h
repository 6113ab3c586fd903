/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of device registers: port I/O or MMIO.
 *
 * Ranges are added at set-up; afterwards the table is constant and looked up without a lock by
 * all vCPU threads. A device's callbacks therefore run on any vCPU thread, several at once: the
 * device has its own lock.
 */
#ifndef MINIVMM_DEVICES_BUS_H
#define MINIVMM_DEVICES_BUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct bus_ops {
    /*
     * `off` is relative to the range and off + size lies inside it; size is 1 to 8 bytes. Values
     * are little-endian numbers. A NULL read returns all ones; a NULL write is ignored.
     */
    uint64_t (*read)(void *dev, uint64_t off, unsigned size);
    void (*write)(void *dev, uint64_t off, unsigned size, uint64_t value);
};

struct bus_range {
    uint64_t base;
    uint64_t len;
    const struct bus_ops *ops;
    void *dev;
    const char *name;
};

#define BUS_RANGES_MAX 64 /* as many as virtio devices, at least */

struct bus {
    struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base */
    size_t nranges;
};

/* 0; -EEXIST if it overlaps another range, -ENOSPC, -EINVAL. */
int bus_add(struct bus *bus, const struct bus_range *range) MUST_CHECK;

/*
 * Access from the guest: `data` holds `size` bytes (1 to 8), as KVM delivers them. An access that
 * no range covers completely reads as all ones and writes nothing, as on a PC.
 */
void bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned size);
void bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned size);

#endif
