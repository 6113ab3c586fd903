/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling the cache of kernels without starting a guest.
 */
#ifndef MINIVMM_BOOT_PREPARE_H
#define MINIVMM_BOOT_PREPARE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * Unpack the kernel file `kernel` and keep the result in the folder `cache`, unless there is one
 * already: it is compared byte by byte and replaced if it differs. Waits for two seconds if the
 * file has just been written. 0 with *ret_new telling whether it was not there; or a negative errno
 * with *err filled.
 */
int prepare_kernel(const char *kernel, const char *cache, bool *ret_new,
                   struct err *err) MUST_CHECK;

#endif
