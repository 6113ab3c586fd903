/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of options (base/opts.h) in one argument: "key=value,key,nokey". A comma in a value is
 * written twice; of a key given twice the last one counts; a key alone is "on", and with "no" in
 * front "off".
 */
#ifndef MINIVMM_IMG_OPTS_H
#define MINIVMM_IMG_OPTS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/opts.h"

/*
 * Add what `text` says. If its first element has no '=', it is the value of `implied` (unless
 * NULL).
 * 0, or -ENOMEM with *err filled; opts_done is to be called either way.
 */
int opts_parse(struct opts *opts, const char *text, const char *implied,
               struct err *err) MUST_CHECK;

/*
 * A size, a number (modulo 2^64, as strtoull has it); *ret_value stays if the key is not there. 0
 * or -errno.
 */
int opts_get_size(struct opts *opts, const char *key, uint64_t *ret_value,
                  struct err *err) MUST_CHECK;
int opts_get_number(struct opts *opts, const char *key, uint64_t *ret_value,
                    struct err *err) MUST_CHECK;

/*
 * Print what is wrong with options, after "about: " unless that is NULL, and what belongs to the
 * message for a size. *err comes from a function above, or from whoever used them.
 */
void opts_error(const char *about, const struct err *err);

/* What belongs to the message, alone. */
void opts_explain(const struct err *err);

/* Not empty, and no comma at either end that does not belong to a value? */
bool opts_list_is_valid(const char *text);

/* Is "help" or "?" among the elements? */
bool opts_list_asks_help(const char *text);

#endif
