/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts of minivmm that must fail, and how a user may expect that: soon, with the documented exit
 * code, one line on stderr that names what is wrong, the terminal not touched for a moment, and no
 * file made, changed or removed.
 */
#ifndef MINIVMM_TESTS_REFUSAL_H
#define MINIVMM_TESTS_REFUSAL_H

#include "tests/lib/guest/vm.h"

#define REFUSAL_TEXTS_MAX 4

/* in_child ends the process with this where a test cannot be made; _exit(REFUSAL_SKIPPED). */
#define REFUSAL_SKIPPED 77

struct refusal {
    const char *args[VM_ARGS_MAX];
    const char *config; /* contents for a file config.json; NULL: none is made */
    int code;
    const char *says[REFUSAL_TEXTS_MAX]; /* texts in the line on stderr */
    void (*in_child)(void);              /* see struct vm_setup */
};

/* Work in the folder for files of the test (scratch.h) from now on, and let other users in. */
void refusal_enter_folder(void);

/* Write a file in it. */
void refusal_write_file(const char *name, const void *data, size_t len);

/* Write `kernel` there: it powers off at once. */
void refusal_write_kernel(void);

/*
 * Start minivmm on a terminal of its own, and wait. Returns vm_wait's result; *ret_touched tells
 * whether the terminal's settings were changed, if only for a moment, or something was printed on
 * it. in_child may be NULL.
 */
int refusal_run(struct vm *vm, const char *const args[], void (*in_child)(void), bool *ret_touched);

/* Start, and check all of the above. */
void refusal_check(const struct refusal *refusal);

/* Check that minivmm, which has ended, printed exactly one line, and these texts in it. */
void refusal_check_line(const struct vm *vm, const char *const says[REFUSAL_TEXTS_MAX]);

#endif
