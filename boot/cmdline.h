/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's command line.
 */
#ifndef MINIVMM_BOOT_CMDLINE_H
#define MINIVMM_BOOT_CMDLINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/boot.h"

/*
 * Write the command line, with the NUL, to `dst` of `size` bytes. Without ACPI it begins with the
 * virtio devices, and "nokaslr" comes in front of the user's text as well. That may have a "--",
 * and the kernel hands all words after that to init.
 *
 * 0, or -E2BIG with *err filled if it is longer than `max` bytes, the kernel's limit, or `size`.
 */
int cmdline_build(const struct boot_machine *machine, uint64_t max, char *dst, size_t size,
                  struct err *err) MUST_CHECK;

#endif
