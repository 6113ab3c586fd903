/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage: the Linux/x86 boot protocol, 64-bit entry (Documentation/arch/x86/boot.rst).
 *
 *   | boot sector, setup header at 0x1f1, real-mode code | protected-mode kernel | signature |
 *   0                          (setup_sects + 1) * 512 ^    syssize * 16 ^
 *
 * Only the protected-mode kernel is loaded; it is entered 0x200 bytes after its start.
 */
#ifndef MINIVMM_BOOT_BZIMAGE_X86_H
#define MINIVMM_BOOT_BZIMAGE_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/kernel.h"

/* Do the first bytes of a file belong to an x86 Linux kernel? */
bool bzimage_probe(const uint8_t *head, size_t len);

/*
 * Check the setup header in the first `len` bytes of a file of `file_size` bytes, and fill *image,
 * which the caller has zeroed. 0, or a negative errno with *err filled and *image undefined.
 */
int bzimage_parse(const uint8_t *head, size_t len, uint64_t file_size, struct kernel_image *image,
                  struct err *err) MUST_CHECK;

#endif
