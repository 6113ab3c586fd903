/*
 * A crash of the process: the terminal must not stay raw.
 */
#ifndef MINIVMM_CRASH_H
#define MINIVMM_CRASH_H

/*
 * From now on, signals that end the process and leave a core put the terminal back first, also when
 * it is the stack of this thread, or of one that thread_start started, that has no room left.
 * The main thread, once.
 */
void crash_set_up(void);

#endif
