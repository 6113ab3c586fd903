/*
 * The folder that a path leads to, held open: what is done to names in it cannot be led elsewhere.
 */
#ifndef MINIVMM_BASE_FOLDER_H
#define MINIVMM_BASE_FOLDER_H

#include "vmm/base/compiler.h"

/*
 * Open the folder of `path` (O_PATH), for the …at() calls; *ret_name is the last part of `path`,
 * empty behind a slash. Returns a descriptor or -errno.
 */
int folder_open(const char *path, const char **ret_name) MUST_CHECK;

#endif
