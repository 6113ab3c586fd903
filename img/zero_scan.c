/* SPDX-License-Identifier: Apache-2.0 */
#include "img/zero_scan.h"

#include <string.h>

#include "base/bytes.h"

/* What one instruction looks at, or two where registers are short; any alignment. */
typedef uint64_t lanes __attribute__((vector_size(32), aligned(1), may_alias));

/* Lanes between two questions whether there was anything. */
#define STRIDE 8u

static bool any_bit(lanes v)
{
    return (v[0] | v[1] | v[2] | v[3]) != 0;
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

static bool is_short_zero(const uint8_t *p, size_t len)
{
    uint8_t bits = 0;

    for (size_t i = 0; i < len; i++)
        bits |= p[i];
    return bits == 0;
}

bool zero_scan_all(const void *buf, size_t len)
{
    const uint8_t *p = buf;
    size_t rest = len;

    if (len < sizeof(lanes))
        return is_short_zero(p, len);
    /* Most data says so in its first, middle or last bytes. */
    if (word_at(p) | word_at(p + len / 2) | word_at(p + len - sizeof(uint64_t)))
        return false;
    for (; rest >= STRIDE * sizeof(lanes); rest -= STRIDE * sizeof(lanes)) {
        lanes bits = {0};

        for (unsigned i = 0; i < STRIDE; i++)
            bits |= ((const lanes *)p)[i];
        if (any_bit(bits))
            return false;
        p += STRIDE * sizeof(lanes);
    }
    for (; rest >= sizeof(lanes); rest -= sizeof(lanes), p += sizeof(lanes))
        if (any_bit(*(const lanes *)p))
            return false;
    /* The last lanes overlap what was seen already. */
    return !any_bit(*(const lanes *)((const uint8_t *)buf + len - sizeof(lanes)));
}

/* Where the row of units that are zeroes, or are not, ends that begins at `at`. */
static size_t row_end(const uint8_t *buf, size_t len, uint64_t off, size_t unit, size_t at,
                      bool *ret_zero)
{
    size_t end = at;
    bool zero;

    do {
        size_t n = (size_t)min_u64(unit - ((off + end) & (unit - 1)), len - end);

        zero = zero_scan_all(buf + end, n);
        if (end == at)
            *ret_zero = zero;
        if (zero != *ret_zero)
            break;
        end += n;
    } while (end < len);
    return end;
}

size_t zero_scan_run(const void *buf, size_t len, uint64_t off, size_t unit, size_t min,
                     bool *ret_zero)
{
    size_t end = row_end(buf, len, off, unit, 0, ret_zero);

    while (!*ret_zero && end < len) {
        bool zero = false;
        size_t next = row_end(buf, len, off, unit, end, &zero);

        if (zero && (next - end >= min || next == len))
            break;
        end = next;
    }
    return end;
}
