/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of text in columns that are as wide as need be. Texts may be anything: what a terminal
 * would obey is written out.
 */
#ifndef MINIVMM_CTL_TABLE_H
#define MINIVMM_CTL_TABLE_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "base/compiler.h"

#define TABLE_COLUMNS_MAX 16u

struct table {
    json_t *cells; /* row by row, the first is the headings */
    size_t ncolumns;
    unsigned right; /* a bit for each column that is aligned to the right */
};

/* Headings in the form "NAME STATE >PID": '>' for alignment to the right. "" for none. */
void table_init(struct table *table, size_t ncolumns, const char *headings);
void table_done(struct table *table);

/* Another heading for a column. */
void table_set_heading(struct table *table, size_t column, const char *text);

/* The next cell of the row, or the first of the next row. */
void table_add(struct table *table, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Rows that were begun, without the headings. */
size_t table_nrows(const struct table *table);

/*
 * Lines are cut off at `width` characters, before a cell that is aligned to the right; 0: they are
 * not.
 */
void table_print(const struct table *table, unsigned width, FILE *out);

#endif
