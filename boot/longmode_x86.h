/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables and GDT for entry in 64-bit mode.
 */
#ifndef MINIVMM_BOOT_LONGMODE_X86_H
#define MINIVMM_BOOT_LONGMODE_X86_H

#include <stdint.h>

#include "base/bytes.h"

#define LONGMODE_PAGE 4096ull
#define LONGMODE_TABLES_SIZE (10 * LONGMODE_PAGE)
#define LONGMODE_GDT_SIZE (4 * sizeof(uint64_t))

/* Selectors: __BOOT_CS and __BOOT_DS of the Linux boot protocol. */
#define LONGMODE_CS 0x10u
#define LONGMODE_DS 0x18u

/*
 * Map the first 4 GiB to themselves in pages of 2 MiB, and so the GiB that `kernel_gpa` is in and
 * the next one: in tables, which are zero, for `gpa`. CR3 points at their start, the PML4.
 */
void longmode_fill_tables(uint64_t gpa, uint64_t kernel_gpa, uint8_t tables[LONGMODE_TABLES_SIZE]);

/* null, unused, LONGMODE_CS, LONGMODE_DS. */
void longmode_fill_gdt(uint8_t gdt[LONGMODE_GDT_SIZE]);

#endif
