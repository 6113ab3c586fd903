/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zero page (struct boot_params): Documentation/arch/x86/zero-page.rst.
 */
#ifndef MINIVMM_BOOT_ZERO_PAGE_X86_H
#define MINIVMM_BOOT_ZERO_PAGE_X86_H

#include <stddef.h>
#include <stdint.h>

#include "boot/guest_info.h"
#include "boot/kernel.h"

#define ZERO_PAGE_SIZE 4096

/* Fill a page that is zero. */
void zero_page_fill(const struct kernel_image *image, const struct guest_info *info,
                    uint8_t page[ZERO_PAGE_SIZE]);

#endif
