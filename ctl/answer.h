/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What VMs answer, read without belief in its shape, and JSON that is printed.
 */
#ifndef MINIVMM_CTL_ANSWER_H
#define MINIVMM_CTL_ANSWER_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* A member of an object: NULL, or 0, if it is not there or something else. */
const char *answer_text(const json_t *object, const char *key);
const char *answer_shown(const json_t *object, const char *key); /* for people: "-" if not */
uint64_t answer_number(const json_t *object, const char *key);

/* Print a value and a line end, in ASCII: nothing in it is obeyed by a terminal. */
void answer_print(const json_t *value, FILE *out);

#endif
