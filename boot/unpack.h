/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed payload of a bzImage: a stream in one of the kernel's packings (gzip, xz, LZ4 or zstd;
 * Documentation/arch/x86/boot.rst, payload_offset), whose last four bytes are the unpacked size.
 */
#ifndef MINIVMM_BOOT_UNPACK_H
#define MINIVMM_BOOT_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * Unpack `len` bytes into `dst`, which has room for `room`. 0 with the size in *ret_len; or a
 * negative errno with *err filled, and anything in `dst`: an unknown packing, damaged data, another
 * size than was announced, one larger than `room`. Memory besides `dst` is bounded by the packings'
 * windows: 128 MiB for xz, less than 1 MiB for others.
 */
int unpack(const uint8_t *packed, size_t len, uint8_t *dst, size_t room, size_t *ret_len,
           struct err *err) MUST_CHECK;

#endif
