/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands where a BIOS would be: code that resets the machine.
 *
 * With hardware-reduced ACPI, Linux reboots by EFI (efi_reboot_required), which this machine does
 * not have, and then by a jump to the BIOS entry at ffff:0000 in real mode, without a try of the
 * ACPI reset register or the keyboard controller in between. Without code there the guest would
 * run through zeroes for ever.
 */
#ifndef MINIVMM_BOOT_RESET_VECTOR_X86_H
#define MINIVMM_BOOT_RESET_VECTOR_X86_H

#include <stdint.h>

#define RESET_VECTOR_SIZE 16

/* Fill the last 16 bytes below 1 MiB. */
void reset_vector_fill(uint8_t code[RESET_VECTOR_SIZE]);

#endif
