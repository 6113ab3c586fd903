/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file operation carried out at once, by system calls that block.
 */
#ifndef MINIVMM_BASE_AIO_EXECUTE_H
#define MINIVMM_BASE_AIO_EXECUTE_H

#include "base/file.h"

/* Carry out `io` on io->fd here and now. Bytes, 0, or -errno. Any thread. */
int aio_execute(const struct file_io *io);

#endif
