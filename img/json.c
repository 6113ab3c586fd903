/* SPDX-License-Identifier: Apache-2.0 */
#include "img/json.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/message.h"

/* The buckets of QEMU's dictionaries, and the hash that sorts names into them (that of tdb). */
#define BUCKETS 512u

static uint32_t bucket(const char *name)
{
    uint32_t value = 0x238f13afu * (uint32_t)strlen(name);

    for (unsigned i = 0; name[i]; i++)
        value += (uint32_t)(uint8_t)name[i] << (i * 5 % 24);
    return (1103515243u * value + 12345u) % BUCKETS;
}

/* In a bucket the one that came last is first. */
static int compare(const void *a, const void *b)
{
    const struct json_member *first = a;
    const struct json_member *second = b;

    if (first->bucket != second->bucket)
        return first->bucket < second->bucket ? -1 : 1;
    return first->index > second->index ? -1 : 1;
}

struct json_member *json_sorted(json_t *object, size_t *ret_n)
{
    struct json_member *members = calloc(json_object_size(object) + 1, sizeof(*members));
    const char *key;
    json_t *value;
    size_t n = 0;

    if (!members)
        return NULL;
    json_object_foreach(object, key, value)
    {
        members[n] = (struct json_member){key, value, bucket(key), n};
        n++;
    }
    qsort(members, n, sizeof(*members), compare);
    *ret_n = n;
    return members;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence that begins here; 0 if there is none. jansson knows what is one. */
static size_t sequence_len(const char *text)
{
    for (size_t len = 1; len <= 4 && text[len - 1]; len++) {
        json_t *value = json_stringn(text, len);

        if (value) {
            json_decref(value);
            return len;
        }
    }
    return 0;
}

json_t *json_text(const char *text)
{
    json_t *value = json_string(text);
    char *copy;
    char *to;

    if (value)
        return value;
    copy = malloc(3 * strlen(text) + 1);
    for (to = copy; copy && *text;) {
        size_t len = sequence_len(text);

        memcpy(to, len ? text : "\xef\xbf\xbd", len ? len : 3);
        to += len ? len : 3;
        text += len ? len : 1;
    }
    if (copy)
        *to = '\0';
    value = copy ? json_string(copy) : NULL;
    free(copy);
    return value;
}

void json_put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) < 0)
        img_error("out of memory");
}

/* ---- printing -------------------------------------------------------------------------------- */

static void print_value(const json_t *value, unsigned level);

static void print_indent(unsigned level)
{
    printf("\n%*s", (int)(4 * level), "");
}

/* jansson leaves the one control character as it is that is none of the first 32. */
static void print_text(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    for (const char *p = text ? text : "null"; *p; p++)
        fputs(*p == 0x7f ? "\\u007F" : (char[]){*p, '\0'}, stdout);
    free(text);
}

static void print_object(json_t *object, unsigned level)
{
    size_t n = 0;
    struct json_member *members = json_sorted(object, &n);

    putchar('{');
    for (size_t i = 0; members && i < n; i++) {
        print_indent(level + 1);
        printf("\"%s\": ", members[i].key);
        print_value(members[i].value, level + 1);
        if (i + 1 < n)
            putchar(',');
    }
    print_indent(level);
    putchar('}');
    free(members);
}

static void print_array(const json_t *array, unsigned level)
{
    size_t n = json_array_size(array);

    putchar('[');
    for (size_t i = 0; i < n; i++) {
        print_indent(level + 1);
        print_value(json_array_get(array, i), level + 1);
        if (i + 1 < n)
            putchar(',');
    }
    print_indent(level);
    putchar(']');
}

static void print_value(const json_t *value, unsigned level)
{
    if (json_is_object(value))
        print_object((json_t *)value, level); /* jansson's loop wants it so, and only reads */
    else if (json_is_array(value))
        print_array(value, level);
    else
        print_text(value);
}

void json_print(const json_t *value)
{
    print_value(value, 0);
    putchar('\n');
}
