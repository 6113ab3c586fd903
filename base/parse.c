/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"

/* The value of a digit, or -1. Not <ctype.h>: numbers do not depend on the locale. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Parse the number that `text` starts with; *ret_end is the first character after it. */
static int parse_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    int base = hex ? 16 : 10;
    const char *p = hex ? text + 2 : text;
    const char *first = p;
    bool fits = true;
    uint64_t value = 0;

    for (; digit_value(*p) >= 0 && digit_value(*p) < base; p++) {
        fits = fits && mul_u64(value, (uint64_t)base, &value) &&
               add_u64(value, (uint64_t)digit_value(*p), &value);
    }
    if (p == first)
        return -EINVAL;

    *ret_value = value;
    *ret_end = p;
    return fits ? 0 : -ERANGE;
}

int parse_u64(const char *text, uint64_t *ret_value)
{
    const char *end = "";
    uint64_t value = 0;
    int r;

    r = parse_digits(text, &value, &end);
    if (*end != '\0')
        return -EINVAL;
    if (r < 0)
        return r;
    *ret_value = value;
    return 0;
}

/* How many bytes one unit of the suffix is; 0 if there is no such suffix. */
static uint64_t suffix_unit(const char *suffix)
{
    if (suffix[0] == '\0')
        return 1;
    if (suffix[1] != '\0')
        return 0;
    switch (suffix[0]) {
    case 'k':
    case 'K':
        return KIB;
    case 'm':
    case 'M':
        return MIB;
    case 'g':
    case 'G':
        return GIB;
    case 't':
    case 'T':
        return TIB;
    default:
        return 0;
    }
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
    const char *end = "";
    uint64_t value = 0;
    uint64_t unit;
    int r;

    r = parse_digits(text, &value, &end);
    unit = suffix_unit(end);
    if (unit == 0)
        return -EINVAL;
    if (r < 0)
        return r;
    if (!mul_u64(value, unit, &value))
        return -ERANGE;
    *ret_bytes = value;
    return 0;
}

int parse_on_off(const char *text, bool *ret_value)
{
    bool on = strcmp(text, "on") == 0;

    if (!on && strcmp(text, "off") != 0)
        return -EINVAL;
    *ret_value = on;
    return 0;
}
