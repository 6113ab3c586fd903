/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/longmode_x86.h"

#include "base/bytes.h"
#include "memory/bits_x86.h"

#define LOW_GIBS 4ull
#define KERNEL_GIBS 2ull
#define ENTRIES 512ull

/* Intel SDM 3A, 3.4.5: flat, present, ring 0; execute/read in 64-bit mode, and read/write. */
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_DATA 0x00cf93000000ffffull

_Static_assert(LONGMODE_TABLES_SIZE == (2 + LOW_GIBS + 2 * KERNEL_GIBS) * LONGMODE_PAGE,
               "PML4, PDPT, directories; a PDPT and a directory for each GiB of the kernel");
_Static_assert(LONGMODE_GDT_SIZE == LONGMODE_DS + sizeof(uint64_t), "the last entry");

struct tables {
    uint64_t gpa;
    uint8_t *host;
    uint64_t used; /* bytes */
};

/* The table that entry `i` of the table at `off` leads to, a new one if there is none yet. */
static uint64_t table_below(struct tables *tables, uint64_t off, uint64_t i)
{
    uint8_t *entry = tables->host + off + 8 * i;

    if (load_le64(entry) == 0) {
        store_le64(entry, (tables->gpa + tables->used) | PTE_PRESENT | PTE_WRITE);
        tables->used += LONGMODE_PAGE;
    }
    return align_down(load_le64(entry), LONGMODE_PAGE) - tables->gpa;
}

static void map_gib(struct tables *tables, uint64_t gib)
{
    uint64_t pdpt = table_below(tables, 0, gib / ENTRIES);
    uint64_t directory = table_below(tables, pdpt, gib % ENTRIES);

    for (uint64_t i = 0; i < ENTRIES; i++)
        store_le64(tables->host + directory + 8 * i,
                   (gib * GIB + i * 2 * MIB) | PTE_LARGE | PTE_PRESENT | PTE_WRITE);
}

void longmode_fill_tables(uint64_t gpa, uint64_t kernel_gpa, uint8_t tables[LONGMODE_TABLES_SIZE])
{
    struct tables t = {.gpa = gpa, .host = tables, .used = LONGMODE_PAGE};

    for (uint64_t gib = 0; gib < LOW_GIBS; gib++)
        map_gib(&t, gib);
    for (uint64_t i = 0; i < KERNEL_GIBS; i++)
        map_gib(&t, kernel_gpa / GIB + i);
}

void longmode_fill_gdt(uint8_t gdt[LONGMODE_GDT_SIZE])
{
    store_le64(gdt + LONGMODE_CS, GDT_CODE64);
    store_le64(gdt + LONGMODE_DS, GDT_DATA);
}
