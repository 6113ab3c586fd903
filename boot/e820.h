/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory table for the guest, made from the same regions as the memory slots.
 */
#ifndef MINIVMM_BOOT_E820_H
#define MINIVMM_BOOT_E820_H

#include <stddef.h>
#include <stdint.h>

#include "memory/guest_mem.h"

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
    uint64_t gpa;
    uint64_t len;
    enum e820_type type;
};

/* Besides the regions: low memory, the legacy area, and the pages that KVM uses. */
#define E820_ENTRIES_MAX (GUEST_MEM_REGIONS_MAX + 3)

/*
 * Fill `table` in ascending order; returns the number of entries. RAM starts at 0 and goes beyond
 * 1 MiB.
 */
size_t e820_build(const struct guest_mem *mem, struct e820_entry table[E820_ENTRIES_MAX]);

#endif
