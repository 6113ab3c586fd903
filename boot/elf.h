/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF kernels: segments loaded at their physical addresses; entered by the PVH note if there is
 * one, else as Linux at the 64-bit entry point that e_entry is in a vmlinux.
 */
#ifndef MINIVMM_BOOT_ELF_H
#define MINIVMM_BOOT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"
#include "boot/kernel.h"

bool elf_probe(const uint8_t *head, size_t len);

/*
 * Check all headers of an ELF file and fill *image, which the caller has zeroed. 0, or a negative
 * errno with *err filled, without the file's name, and *image undefined.
 */
int elf_parse(const struct boot_file *file, struct kernel_image *image, struct err *err) MUST_CHECK;

#endif
