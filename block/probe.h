/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the format of a file by the mark at its beginning. QEMU probes for the same formats. All
 * of them but qcow2 are listed only so that such a file is never taken for a raw disk.
 */
#ifndef MINIVMM_BLOCK_PROBE_H
#define MINIVMM_BLOCK_PROBE_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* All marks lie in the first sector. */
#define PROBE_LEN 512u

/*
 * The name of the format ("qcow2", "vmdk", …) whose mark the first sector of a file has. NULL: it
 * has none, so the file is raw, if it is an image at all.
 */
const char *probe_sector(const uint8_t sector[PROBE_LEN]);

/* The same for the file at `path`: one format is told by the file's name only. */
const char *probe_file(const uint8_t sector[PROBE_LEN], const char *path);

/* -ENOTSUP, with *err filled: the file has a format that is known by its mark only. */
int probe_refuse(const char *path, const char *format, struct err *err);

#endif
