/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are given as a kernel by mistake, or packed: what they are, and what to do.
 */
#ifndef MINIVMM_BOOT_STRANGER_H
#define MINIVMM_BOOT_STRANGER_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"

/*
 * Say in *err what a file is that begins with the `len` bytes in `head` and is neither bzImage nor
 * ELF. Returns -EINVAL; or another negative errno if the file cannot be read.
 */
int stranger_refuse(const struct boot_file *file, const uint8_t *head, size_t len, struct err *err);

#endif
