/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output as JSON.
 */
#ifndef MINIVMM_IMG_JSON_H
#define MINIVMM_IMG_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* A text as JSON, which is UTF-8: bytes of file names that are not become U+FFFD. */
json_t *json_text(const char *text);

/* Put a member into an object; the value is given away. There is no memory if that fails. */
void json_put(json_t *object, const char *key, json_t *value);

struct json_member {
    const char *key;
    json_t *value;
    uint32_t bucket;
    size_t index;
};

/* The members of an object in the order of QEMU's hash table, to be freed; NULL: no memory. */
struct json_member *json_sorted(json_t *object, size_t *ret_n);

/*
 * Print a value and a newline, as qemu-img does: four blanks for each level, members of an object
 * in the order of QEMU's hash table. So the text is the same, not only the data.
 */
void json_print(const json_t *value);

#endif
