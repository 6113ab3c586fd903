/* SPDX-License-Identifier: Apache-2.0 */
#include "img/opts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "img/message.h"
#include "img/size.h"

/* Copy a value up to its end, which is a single comma; *ret_rest is after that. */
static char *take_value(const char *text, const char **ret_rest)
{
    char *value = malloc(strlen(text) + 1);
    char *to = value;

    if (!value)
        return NULL;
    for (; *text; text++) {
        if (*text == ',' && *++text != ',') {
            text--;
            break;
        }
        *to++ = *text;
    }
    *to = '\0';
    *ret_rest = *text ? text + 1 : text;
    return value;
}

static int add_flag(struct opts *opts, const char *text, size_t len, struct err *err)
{
    bool off = len > 2 && strncmp(text, "no", 2) == 0;

    if (off)
        return opts_add(opts, strndup(text + 2, len - 2), strdup("off"), true, err);
    return opts_add(opts, strndup(text, len), strdup("on"), true, err);
}

int opts_parse(struct opts *opts, const char *text, const char *implied, struct err *err)
{
    int r = 0;

    for (; r == 0 && *text; implied = NULL) {
        size_t len = strcspn(text, "=,");
        char *value;

        if (text[len] == '=') {
            char *key = strndup(text, len);

            value = take_value(text + len + 1, &text);
            r = opts_add(opts, key, value, false, err);
        } else if (implied) {
            value = take_value(text, &text);
            r = opts_add(opts, strdup(implied), value, false, err);
        } else {
            r = add_flag(opts, text, len, err);
            text += len + (text[len] == ',');
        }
    }
    return r;
}

int opts_get_size(struct opts *opts, const char *key, uint64_t *ret_value, struct err *err)
{
    const char *text = opts_get(opts, key);
    int r = text ? size_parse(text, ret_value) : 0;

    if (r == -ERANGE)
        return err_set(err, r, "Value '%s' is out of range for parameter '%s'", text, key);
    if (r < 0)
        return err_set(err, OPTS_NO_SIZE, "Parameter '%s' expects a non-negative number below 2^64",
                       key);
    return 0;
}

int opts_get_number(struct opts *opts, const char *key, uint64_t *ret_value, struct err *err)
{
    const char *text = opts_get(opts, key);
    bool negative = text && text[0] == '-';

    if (text && parse_u64(text + negative, ret_value) < 0)
        return err_set(err, -EINVAL, "Parameter '%s' expects a number", key);
    if (negative)
        *ret_value = -*ret_value; /* far out of every range, which says more than this could */
    return 0;
}

void opts_error(const char *about, const struct err *err)
{
    img_error("%s%s%s", about ? about : "", about ? ": " : "", err->msg);
    opts_explain(err);
}

void opts_explain(const struct err *err)
{
    if (err->code == OPTS_NO_SIZE)
        fputs("Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
              "and exabytes, respectively.\n",
              stderr);
}

bool opts_list_is_valid(const char *text)
{
    size_t len = strlen(text);
    size_t commas = 0;

    while (commas < len && text[len - commas - 1] == ',')
        commas++;
    return len > 0 && text[0] != ',' && commas % 2 == 0;
}

bool opts_list_asks_help(const char *text)
{
    struct opts opts = {0};
    bool help = false;

    if (opts_parse(&opts, text, NULL, NULL) == 0)
        for (size_t i = 0; i < opts.n; i++)
            if (opts.list[i].flag &&
                (strcmp(opts.list[i].key, "help") == 0 || strcmp(opts.list[i].key, "?") == 0))
                help = true;
    opts_done(&opts);
    return help;
}
