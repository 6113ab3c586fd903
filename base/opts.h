/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of options: keys and values, of which those that nobody asked for can be found.
 */
#ifndef MINIVMM_BASE_OPTS_H
#define MINIVMM_BASE_OPTS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct opt {
    char *key;
    char *value;
    bool flag; /* given without a value */
    bool used;
};

struct opts {
    struct opt *list;
    size_t n;
};

/*
 * Add an option; of a key given twice the last value counts. opts_add takes key and value, which
 * are to be freed, or NULL if there was no memory. 0, or -ENOMEM with *err filled; opts_done is to
 * be called either way.
 */
int opts_add(struct opts *opts, char *key, char *value, bool flag, struct err *err) MUST_CHECK;
int opts_set(struct opts *opts, const char *key, const char *value, struct err *err) MUST_CHECK;
void opts_done(struct opts *opts);

/* The value of a key, or NULL; it counts as used from then on. */
const char *opts_get(struct opts *opts, const char *key);

/* The same without counting as use. */
const char *opts_peek(const struct opts *opts, const char *key);

/* A key that nobody has asked for, or NULL. */
const char *opts_unused(const struct opts *opts);

/* The error of a text that is no size. */
#define OPTS_NO_SIZE (-EDOM)

/* "on" or "off"; *ret_value stays if the key is not there. 0, or -errno with *err filled. */
int opts_get_bool(struct opts *opts, const char *key, bool *ret_value, struct err *err) MUST_CHECK;

#endif
