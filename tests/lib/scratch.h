/*
 * A temporary folder for a test, and shell commands in it: how qemu-img and qemu-io are run beside
 * the engine.
 */
#ifndef MINIVMM_TESTS_SCRATCH_H
#define MINIVMM_TESTS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/compiler.h"

/* Fixtures: make the folder, remove it with all that is in it. They abort on failure. */
void scratch_set_up(void);
void scratch_tear_down(void);

/* The path of a file in it; valid until the next but seven calls. */
const char *scratch_path(const char *name);

/* Run a shell command in the folder; its exit status. */
int scratch_shell(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Are qemu-img and qemu-io there? */
bool scratch_has_qemu(void);

#endif
