/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/longmode_x86.h"

#include "base/bytes.h"

#define DIRECTORIES 4ull /* 1 GiB each */
#define ENTRIES 512ull

#define PTE_PRESENT_WRITE 0x3u
#define PTE_2M 0x80u

/* Intel SDM 3A, 3.4.5: flat, present, ring 0; execute/read in 64-bit mode, and read/write. */
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_DATA 0x00cf93000000ffffull

_Static_assert(LONGMODE_TABLES_SIZE == (2 + DIRECTORIES) * LONGMODE_PAGE,
               "PML4, PDPT, directories");
_Static_assert(LONGMODE_GDT_SIZE == LONGMODE_DS + sizeof(uint64_t), "the last entry");

void longmode_fill_tables(uint64_t gpa, uint8_t tables[LONGMODE_TABLES_SIZE])
{
    uint8_t *pml4 = tables, *pdpt = tables + LONGMODE_PAGE,
            *directories = tables + 2 * LONGMODE_PAGE;

    store_le64(pml4, (gpa + LONGMODE_PAGE) | PTE_PRESENT_WRITE);
    for (uint64_t i = 0; i < DIRECTORIES; i++)
        store_le64(pdpt + 8 * i, (gpa + (2 + i) * LONGMODE_PAGE) | PTE_PRESENT_WRITE);
    for (uint64_t i = 0; i < DIRECTORIES * ENTRIES; i++)
        store_le64(directories + 8 * i, i * 2 * MIB | PTE_2M | PTE_PRESENT_WRITE);
}

void longmode_fill_gdt(uint8_t gdt[LONGMODE_GDT_SIZE])
{
    store_le64(gdt + LONGMODE_CS, GDT_CODE64);
    store_le64(gdt + LONGMODE_DS, GDT_DATA);
}
