/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors 0, 1 and 2.
 */
#ifndef MINIVMM_BASE_STD_FDS_H
#define MINIVMM_BASE_STD_FDS_H

#include <stddef.h>

#include "base/compiler.h"

/*
 * With one of them closed, the next file opened would take its place: a disk image would be what
 * the program prints on. /dev/null takes the places instead. For the beginning of main.
 */
void std_fds_fill(void);

/*
 * Write out what was printed on stdout: at the end, as exit() would tell nobody that it was lost.
 * 0 or -errno; -EIO if an earlier part was lost and the reason is not known any more.
 */
int std_fds_flush_output(void) MUST_CHECK;

/*
 * Close all descriptors but these three and the `n` in `kept`, which is sorted meanwhile. Linux
 * before 5.9 cannot: they stay open there.
 */
void std_fds_close_others(unsigned *kept, size_t n);

#endif
