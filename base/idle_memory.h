/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that nobody needs while there is no work.
 */
#ifndef MINIVMM_BASE_IDLE_MEMORY_H
#define MINIVMM_BASE_IDLE_MEMORY_H

/*
 * For moments without work on a thread made by thread_start, or on the main one. What goes back to
 * the host: what was freed, whatever it lies between; what deep calls left on this thread's stack;
 * the pages of the program that are as in its file. Those of them that are needed again come from
 * the page cache, sixteen at a time.
 */
void idle_memory_release(void);

#endif
