/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel of a bzImage, unpacked here instead of by its own stub in the guest, and left as the
 * stub would have left it: in place, relocated, at random addresses unless the command line says
 * otherwise.
 */
#ifndef MINIVMM_BOOT_UNPACKED_X86_H
#define MINIVMM_BOOT_UNPACKED_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"
#include "boot/kernel.h"
#include "boot/ram_map.h"
#include "memory/guest_mem.h"

struct unpacked_source {
    const struct boot_file *file;
    const struct kernel_image *image;
    const char *cache; /* folder of unpacked kernels; NULL: none */
};

struct unpacked {
    uint64_t gpa;
    uint64_t entry_gpa;
    bool kaslr; /* for KASLR_FLAG */
};

/*
 * Put a kernel into guest memory, at its own place in `map` or at one that nobody has taken. 0; or
 * a negative errno with *err filled, guest memory being as it was: the kernel unpacks itself then;
 * or GUEST_MEM_LOST with *err filled: no guest can start in this memory.
 */
int unpacked_load(const struct unpacked_source *source, const struct ram_map *map,
                  const char *cmdline, struct unpacked *ret_unpacked, struct err *err) MUST_CHECK;

#endif
