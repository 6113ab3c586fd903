/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits of x86 control registers, flags and page tables (Intel SDM 3A, 2.5 and chapter 4).
 */
#ifndef MINIVMM_MEMORY_BITS_X86_H
#define MINIVMM_MEMORY_BITS_X86_H

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_PG (1ull << 31)

#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)

#define EFER_SCE (1ull << 0)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define RFLAGS_FIXED (1ull << 1) /* always set */
#define RFLAGS_TF (1ull << 8)

/* An entry of a page table. */
#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_USER (1ull << 2)
#define PTE_LARGE (1ull << 7) /* a page, where another table may be as well */
#define PTE_GPA 0x000ffffffffff000ull

#endif
