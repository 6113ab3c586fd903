/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH start info: Xen's public headers, arch-x86/hvm/start_info.h.
 */
#ifndef MINIVMM_BOOT_PVH_X86_H
#define MINIVMM_BOOT_PVH_X86_H

#include <stddef.h>
#include <stdint.h>

#include "boot/guest_info.h"

/* Build the structure, and the lists it points at, for `gpa`. Returns the number of bytes used. */
size_t pvh_build(const struct guest_info *info, uint64_t gpa, uint8_t *area, size_t size);

#endif
