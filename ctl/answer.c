/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/answer.h"

#include <stdlib.h>

const char *answer_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

const char *answer_shown(const json_t *object, const char *key)
{
    const char *text = answer_text(object, key);

    return text ? text : "-";
}

uint64_t answer_number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

/* jansson leaves the one control character as it is that is none of the first 32. */
void answer_print(const json_t *value, FILE *out)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    for (const char *p = text ? text : "null"; *p; p++) {
        if (*p == 0x7f)
            fputs("\\u007F", out);
        else
            fputc(*p, out);
    }
    fputc('\n', out);
    free(text);
}
