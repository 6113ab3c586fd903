/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are on the x86 machine: one place for guest-physical addresses, ports and GSIs.
 */
#ifndef MINIVMM_MEMORY_LAYOUT_X86_H
#define MINIVMM_MEMORY_LAYOUT_X86_H

#include "base/bytes.h"

/* RAM: [0, 3 GiB) and from 4 GiB on; the hole holds MMIO. */
#define X86_LOW_RAM_END (3 * GIB)
#define X86_HIGH_RAM_START (4 * GIB)
#define X86_RAM_END_MAX (1ull << 52) /* physical addresses have no more bits */

/* Below 1 MiB. Everything up to X86_EBDA_START is usable RAM for the guest after boot. */
#define X86_GDT 0x500u
#define X86_ZERO_PAGE 0x7000u
#define X86_PVH_INFO 0x6000u
#define X86_SETUP_DATA 0x8000u
#define X86_PAGE_TABLES 0x9000u /* 10 pages */
#define X86_CMDLINE 0x20000u
#define X86_CMDLINE_MAX 0x10000u     /* room kept; the kernel's own limit is usually 2047 */
#define X86_EBDA_START 0x9fc00u      /* MP floating pointer: its last KiB is where kernels look */
#define X86_FIRMWARE_TABLES 0xe0000u /* RSDP and ACPI tables, or the MP table */
#define X86_VM_GENERATION 0xfffe0u   /* 16 bytes, in the page of the next */
#define X86_RESET_VECTOR 0xffff0u    /* ffff:0000 */
#define X86_KERNEL_START 0x100000u

/* MMIO in the hole. */
#define X86_VIRTIO_MMIO_BASE 0xd0000000u
#define X86_VIRTIO_MMIO_STRIDE 0x1000u
#define X86_IOAPIC 0xfec00000u
#define X86_LAPIC 0xfee00000u
#define X86_IDENTITY_MAP 0xfeffc000u
#define X86_TSS 0xfeffd000u /* three pages */

/* Ports. */
#define X86_PORT_I8042_DATA 0x60u
#define X86_PORT_I8042_COMMAND 0x64u
#define X86_PORT_RTC 0x70u
#define X86_PORT_COM1 0x3f8u
#define X86_PORT_PVPANIC 0x505u
#define X86_PORT_ACPI_PM 0x600u

/* GSIs = IOAPIC pins 0–23. 0 timer, 2 cascade, 4 COM1, 8 RTC and 9 by tradition the SCI. */
#define X86_GSI_COM1 4u
#define X86_GSI_GED 9u
#define X86_NIRQ_PINS 24u
#define X86_VIRTIO_DEVICES_MAX 64u
#define X86_VIRTIO_LINES 17u

/* GSI of virtio device i: 5, 6, 7, 10, 11, … 23, and again from 5 on. */
static inline uint32_t x86_virtio_gsi(unsigned i)
{
    unsigned line = i % X86_VIRTIO_LINES;

    return line < 3 ? 5 + line : 10 + (line - 3);
}

#endif
