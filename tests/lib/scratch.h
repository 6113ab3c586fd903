/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders for the files of tests, and shell commands in them: how qemu-img and qemu-io are run
 * beside the engine.
 *
 * A program has a folder, made before its tests fork off and removed after all of them, however
 * they end (unit.h). With KEEP=1 in the environment it stays, and its name is printed.
 */
#ifndef MINIVMM_TESTS_SCRATCH_H
#define MINIVMM_TESTS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "tests/lib/unit.h"

/* The program's folder, for unit_main. They end the program on failure. */
void scratch_begin(void);
void scratch_end(void);

/* Fixtures: an empty folder for one test, inside the program's; and its end. */
void scratch_set_up(void);
void scratch_tear_down(void);

/* The path of a file in the test's folder, or else in the program's; valid until the test ends. */
const char *scratch_path(const char *name);

/* Contents of such a file, from and to memory. scratch_load returns the length, at most `max`. */
void scratch_save(const char *name, const void *data, size_t len);
size_t scratch_load(const char *name, void *data, size_t max);

/* Run a shell command in the folder; its exit status, -1 if a signal ended it. */
int scratch_shell(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* The same; the test fails, and names the command, if that does. */
void scratch_ok(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Are qemu-img and qemu-io there? Prints a line if not. */
bool scratch_has_qemu(void);

/* For a program whose tests are all beside QEMU: UNIT_MAIN, or skipped. */
#define UNIT_MAIN_BESIDE_QEMU(name, add_tests)                                                     \
    int main(void)                                                                                 \
    {                                                                                              \
        return scratch_has_qemu() ? unit_main(name, add_tests) : UNIT_SKIP;                        \
    }

#endif
