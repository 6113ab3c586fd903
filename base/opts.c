/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int opts_add(struct opts *opts, char *key, char *value, bool flag, struct err *err)
{
    struct opt *list = reallocarray(opts->list, opts->n + 1, sizeof(*list));

    if (list)
        opts->list = list;
    if (!list || !key || !value) {
        free(key);
        free(value);
        return err_set(err, -ENOMEM, "out of memory");
    }
    list[opts->n++] = (struct opt){.key = key, .value = value, .flag = flag};
    return 0;
}

int opts_set(struct opts *opts, const char *key, const char *value, struct err *err)
{
    return opts_add(opts, strdup(key), strdup(value), false, err);
}

void opts_done(struct opts *opts)
{
    for (size_t i = 0; i < opts->n; i++) {
        free(opts->list[i].key);
        free(opts->list[i].value);
    }
    free(opts->list);
    *opts = (struct opts){0};
}

const char *opts_peek(const struct opts *opts, const char *key)
{
    const char *value = NULL;

    for (size_t i = 0; i < opts->n; i++)
        if (strcmp(opts->list[i].key, key) == 0)
            value = opts->list[i].value;
    return value;
}

const char *opts_get(struct opts *opts, const char *key)
{
    for (size_t i = 0; i < opts->n; i++)
        if (strcmp(opts->list[i].key, key) == 0)
            opts->list[i].used = true;
    return opts_peek(opts, key);
}

const char *opts_unused(const struct opts *opts)
{
    for (size_t i = 0; i < opts->n; i++)
        if (!opts->list[i].used)
            return opts->list[i].key;
    return NULL;
}

int opts_get_bool(struct opts *opts, const char *key, bool *ret_value, struct err *err)
{
    static const char words[][8] = {"off", "on", "no", "yes", "false", "true", "n", "y"};
    const char *text = opts_get(opts, key);

    for (unsigned i = 0; text && i < ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return text ? err_set(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", key) : 0;
}
