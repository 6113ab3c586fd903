#include "img/json.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The buckets of QEMU's dictionaries, and the hash that sorts names into them (that of tdb). */
#define BUCKETS 512u

static uint32_t bucket(const char *name)
{
    uint32_t value = 0x238f13afu * (uint32_t)strlen(name);

    for (unsigned i = 0; name[i]; i++)
        value += (uint32_t)(uint8_t)name[i] << (i * 5 % 24);
    return (1103515243u * value + 12345u) % BUCKETS;
}

struct member {
    const char *key;
    const json_t *value;
    uint32_t bucket;
    size_t index;
};

/* In a bucket the one that came last is first. */
static int compare(const void *a, const void *b)
{
    const struct member *first = a;
    const struct member *second = b;

    if (first->bucket != second->bucket)
        return first->bucket < second->bucket ? -1 : 1;
    return first->index > second->index ? -1 : 1;
}

static void print_value(const json_t *value, unsigned level);

static void print_indent(unsigned level)
{
    printf("\n%*s", (int)(4 * level), "");
}

static void print_text(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    fputs(text ? text : "null", stdout);
    free(text);
}

/* Objects have a dozen members at most. */
static void print_object(json_t *object, unsigned level)
{
    struct member *members = calloc(json_object_size(object) + 1, sizeof(*members));
    const char *key;
    json_t *value;
    size_t n = 0;

    if (!members)
        return;
    json_object_foreach(object, key, value)
    {
        members[n] = (struct member){key, value, bucket(key), n};
        n++;
    }
    qsort(members, n, sizeof(*members), compare);
    putchar('{');
    for (size_t i = 0; i < n; i++) {
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
