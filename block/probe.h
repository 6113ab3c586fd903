/*
 * What a file looks like: the one list of the formats that are told by their mark. QEMU probes for
 * the same ones; all but qcow2 are only known so that such a file is never taken for a raw disk.
 */
#ifndef MINIVMM_BLOCK_PROBE_H
#define MINIVMM_BLOCK_PROBE_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* All marks lie in the first sector. */
#define PROBE_LEN 512u

/*
 * The name of the format that the first sector of a file says ("qcow2", "vmdk", …); NULL: none, so
 * it is raw, if it is an image at all.
 */
const char *probe_sector(const uint8_t sector[PROBE_LEN]);

/* The same, for the file at `path`: one format is only told by the name. */
const char *probe_file(const uint8_t sector[PROBE_LEN], const char *path);

/* What is said of a file of a format that is only known by its mark. -ENOTSUP. */
int probe_refuse(const char *path, const char *format, struct err *err);

#endif
