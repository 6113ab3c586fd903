/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/e820.h"

#include <assert.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"

/* KVM's identity page table, followed by three pages of task state: not the guest's. */
#define KVM_PAGES_START X86_IDENTITY_MAP
#define KVM_PAGES_END (X86_TSS + 3 * 0x1000u)

struct builder {
    struct e820_entry *table;
    size_t len;
};

static void add(struct builder *b, uint64_t start, uint64_t end, enum e820_type type)
{
    assert(start < end && b->len < E820_ENTRIES_MAX);
    b->table[b->len++] = (struct e820_entry){.gpa = start, .len = end - start, .type = type};
}

size_t e820_build(const struct guest_mem *mem, struct e820_entry table[E820_ENTRIES_MAX])
{
    const struct mem_region *low = &mem->regions[0];
    struct builder b = {.table = table};

    assert(mem->nregions > 0 && low->gpa == 0 && low->len > X86_KERNEL_START);

    /* The firmware tables lie in RAM that the guest must not reuse; the rest of it is no loss. */
    add(&b, 0, X86_EBDA_START, E820_RAM);
    add(&b, X86_EBDA_START, X86_KERNEL_START, E820_RESERVED);
    add(&b, X86_KERNEL_START, low->len, E820_RAM);
    add(&b, KVM_PAGES_START, KVM_PAGES_END, E820_RESERVED);
    for (const struct mem_region *high = low + 1; high < low + mem->nregions; high++) {
        assert(high->gpa >= X86_HIGH_RAM_START);
        add(&b, high->gpa, high->gpa + high->len, E820_RAM);
    }
    return b.len;
}
