/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that was freed, and the host.
 */
#ifndef MINIVMM_BASE_HEAP_H
#define MINIVMM_BASE_HEAP_H

/* What was freed goes back to the host, whatever it lies between. For moments without work. */
void heap_trim(void);

#endif
