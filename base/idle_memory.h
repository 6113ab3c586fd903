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

/*
 * The same for parts of the process that work now and then, such as disks and their queues: what
 * all of them use goes only when none works, because whoever works would have to fetch it again
 * at once. A part that begins to work says so, once, until it has been idle for a while (ends) or
 * goes away (leaves). Any thread; the one that ends is without work, as above.
 */
void idle_memory_work_begins(void);
void idle_memory_work_ends(void);
void idle_memory_work_leaves(void);

#endif
