/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MP table: CPUs and interrupt routing for kernels that run without ACPI (Intel MultiProcessor
 * Specification 1.4).
 */
#ifndef MINIVMM_BOOT_MPTABLE_X86_H
#define MINIVMM_BOOT_MPTABLE_X86_H

#include <stddef.h>
#include <stdint.h>

#define MPTABLE_POINTER_SIZE 16

/* Build the floating pointer structure that leads to a table at `table_gpa`. */
void mptable_build_pointer(uint32_t table_gpa, uint8_t pointer[MPTABLE_POINTER_SIZE]);

/* Build the configuration table for 1 to 255 CPUs. Returns the number of bytes used. */
size_t mptable_build(unsigned ncpus, uint8_t *area, size_t size);

#endif
