/*
 * QEMU's tools as an oracle: commands in a folder of the test's own.
 */
#ifndef MINIVMM_TESTS_QEMU_H
#define MINIVMM_TESTS_QEMU_H

#include <stdbool.h>

#include "vmm/base/compiler.h"

/* The test's folder, an absolute path; fixtures for it. */
extern char qemu_dir[];
void qemu_dir_set_up(void);
void qemu_dir_tear_down(void);

/* Run a shell command in the folder; its wait status, 0 for success. */
int qemu_shell(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Is there no qemu-img or qemu-io? Says so: the caller ends with UNIT_SKIP. */
bool qemu_is_missing(void);

#endif
