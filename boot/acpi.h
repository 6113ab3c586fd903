/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of a hardware-reduced machine: RSDP, XSDT, FADT, MADT, DSDT (ACPI 6.4, chapter 5).
 *
 * What they say is absent, the guest does not wait for: VGA, keyboard controller, CMOS clock,
 * 8259 and 8254, the PM timer.
 */
#ifndef MINIVMM_BOOT_ACPI_H
#define MINIVMM_BOOT_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "boot/boot.h"

/* Bytes at X86_VM_GENERATION, for whoever writes them. */
#define ACPI_VM_GENERATION_SIZE 16u

/*
 * Build all tables at `area`, zeroed memory of `size` bytes that the guest sees at `gpa`. The RSDP
 * comes first, so `gpa` is its address too. Returns the number of bytes used.
 */
size_t acpi_build(const struct boot_machine *machine, uint64_t gpa, uint8_t *area, size_t size);

#endif
