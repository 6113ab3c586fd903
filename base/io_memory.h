/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for long transfers to and from disks. A disk's queue has room for a number of pieces of
 * memory, each of adjacent pages of the machine. Requests whose pages are scattered take many of
 * them and fill the queue before as many are in flight as were sent. So this memory is in huge
 * pages where the host has them.
 */
#ifndef MINIVMM_BASE_IO_MEMORY_H
#define MINIVMM_BASE_IO_MEMORY_H

#include <stddef.h>

/*
 * `len` bytes (not 0) of zeroes at an address that suits direct I/O; NULL if there is no memory.
 * What is not touched takes none of the host's.
 */
void *io_memory_new(size_t len);

/* With the length that it was made with. NULL is fine. */
void io_memory_free(void *memory, size_t len);

#endif
