/* SPDX-License-Identifier: Apache-2.0 */
#include "img/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "img/message.h"

/* Bits of the unit; -1 if there is no such unit. */
static int unit_bits(const char *unit)
{
    static const char units[] = "bkmgtpe";
    const char *at;

    if (unit[0] == '\0')
        return 0;
    at = strchr(units, unit[0] >= 'A' && unit[0] <= 'Z' ? unit[0] - 'A' + 'a' : unit[0]);
    return at && *at && unit[1] == '\0' ? (int)(at - units) * 10 : -1;
}

/*
 * The digits after a point, as 64 binary places. Digits from the twentieth on are below what any
 * unit shows.
 */
static const char *parse_fraction(const char *text, uint64_t *ret_places)
{
    unsigned __int128 value = 0;
    unsigned __int128 scale = 1;

    for (; *text >= '0' && *text <= '9'; text++) {
        if (scale < 10000000000000000000u) {
            value = value * 10 + (unsigned)(*text - '0');
            scale *= 10;
        }
    }
    *ret_places = (uint64_t)((value << 64) / scale);
    return text;
}

static int parse_whole(const char *text, const char **ret_end, uint64_t *ret_value)
{
    const char *p = text;
    uint64_t value = 0;
    bool fits = true;

    for (; *p >= '0' && *p <= '9'; p++)
        fits = fits && mul_u64(value, 10, &value) && add_u64(value, (uint64_t)(*p - '0'), &value);
    *ret_end = p;
    *ret_value = value;
    if (p == text)
        return -EINVAL;
    return fits ? 0 : -ERANGE;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
    const char *end = "";
    uint64_t value = 0;
    uint64_t places = 0;
    int bits;
    int r;

    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return parse_u64(text, ret_bytes);
    r = parse_whole(text, &end, &value);
    if (r == -EINVAL)
        return r;
    if (*end == '.')
        end = parse_fraction(end + 1, &places);
    bits = unit_bits(end);
    if (bits < 0 || (bits == 0 && places != 0))
        return -EINVAL;
    if (r < 0 || !mul_u64(value, 1ull << bits, &value))
        return -ERANGE;
    if (bits > 0 && !add_u64(value, (uint64_t)(((unsigned __int128)places << bits) >> 64), &value))
        return -ERANGE;
    *ret_bytes = value;
    return 0;
}

int size_arg(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret_bytes)
{
    uint64_t value = 0;
    int r = size_parse(text, &value);

    if (r == -EINVAL) {
        img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
        return r;
    }
    if (r < 0 || value < min || value > max) {
        img_error("Invalid %s specified. Must be between %" PRIu64 " and %" PRIu64 ".", what, min,
                  max);
        return -ERANGE;
    }
    *ret_bytes = value;
    return 0;
}

const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    uint64_t div;

    /* A thousand of a unit is written in the next one: three digits are enough for it then. */
    while (unit + 1 < ARRAY_SIZE(units) && bytes / 1000 >= 1ull << (10 * unit))
        unit++;
    div = 1ull << (10 * unit);
    (void)snprintf(buf, SIZE_TEXT_MAX, "%0.3g %s", (double)bytes / (double)div, units[unit]);
    return buf;
}
