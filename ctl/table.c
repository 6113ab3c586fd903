/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/table.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define GAP 2u

/* Without memory a cell is empty. */
static json_t *new_cell(const char *text)
{
    char *safe = text ? text_escaped(text, false) : NULL;
    json_t *cell = json_string(safe ? safe : "");

    free(safe);
    return cell;
}

/* Steals the text. */
static void add(struct table *table, char *text)
{
    (void)json_array_append_new(table->cells, new_cell(text));
    free(text);
}

void table_init(struct table *table, size_t ncolumns, const char *headings)
{
    assert(ncolumns <= TABLE_COLUMNS_MAX);
    *table = (struct table){.cells = json_array(), .ncolumns = ncolumns};
    for (size_t i = 0; i < ncolumns; i++) {
        size_t len = strcspn(headings, " ");

        if (*headings == '>') {
            table->right |= 1u << i;
            headings++;
            len--;
        }
        add(table, strndup(headings, len));
        headings += len;
        headings += *headings == ' ';
    }
}

void table_done(struct table *table)
{
    json_decref(table->cells);
}

void table_set_heading(struct table *table, size_t column, const char *text)
{
    (void)json_array_set_new(table->cells, column, new_cell(text));
}

void table_add(struct table *table, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    add(table, text);
}

size_t table_nrows(const struct table *table)
{
    return (json_array_size(table->cells) - 1) / table->ncolumns;
}

/* Characters of a text, which is UTF-8. */
static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static const char *cell_at(const struct table *table, size_t i)
{
    const char *text = json_string_value(json_array_get(table->cells, i));

    return text ? text : "";
}

static void find_widths(const struct table *table, size_t widths[TABLE_COLUMNS_MAX])
{
    memset(widths, 0, TABLE_COLUMNS_MAX * sizeof(widths[0]));
    for (size_t i = 0; i < json_array_size(table->cells); i++) {
        size_t width = width_of(cell_at(table, i));

        if (width > widths[i % table->ncolumns])
            widths[i % table->ncolumns] = width;
    }
}

/* A line that is being printed. */
struct line {
    FILE *out;
    size_t left;  /* characters that still fit */
    size_t blank; /* blanks that come before the next character */
};

static void put_text(struct line *line, const char *text)
{
    if (!text[0])
        return;
    if (line->left <= line->blank) {
        line->left = 0; /* what comes later does not fit either */
        return;
    }
    line->left -= line->blank;
    for (; line->blank > 0; line->blank--)
        fputc(' ', line->out);
    for (; *text; text++) {
        if (((unsigned char)*text & 0xc0) != 0x80 && line->left-- == 0) {
            line->left = 0;
            return;
        }
        fputc(*text, line->out);
    }
}

static void print_row(const struct table *table, size_t first,
                      const size_t widths[TABLE_COLUMNS_MAX], struct line *line)
{
    for (size_t i = 0; i < table->ncolumns; i++) {
        const char *text = cell_at(table, first + i);
        size_t fill = widths[i] - width_of(text);
        bool right = table->right & 1u << i;

        line->blank += (i > 0 ? GAP : 0) + (right ? fill : 0);
        /* Half a number is another number. */
        if (right && line->left < line->blank + widths[i] - fill)
            line->left = 0;
        put_text(line, text);
        line->blank += right ? 0 : fill;
    }
    fputc('\n', line->out);
}

void table_print(const struct table *table, unsigned width, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX];
    size_t first = 0;

    find_widths(table, widths);
    while (first < table->ncolumns && !cell_at(table, first)[0])
        first++;
    /* Without headings there is no row for them. */
    first = first == table->ncolumns ? table->ncolumns : 0;
    for (; first < json_array_size(table->cells); first += table->ncolumns) {
        struct line line = {.out = out, .left = width > 0 ? width : SIZE_MAX};

        print_row(table, first, widths, &line);
    }
}
