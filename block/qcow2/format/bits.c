/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/bits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static uint64_t bits_per_cluster(const struct qcow2_bits *bits)
{
    return 8ull << bits->cluster_bits;
}

uint64_t qcow2_bits_clusters(unsigned cluster_bits, unsigned granularity_bits, uint64_t len)
{
    uint64_t nbits = div_round_up(len, 1ull << granularity_bits);

    return div_round_up(nbits, 8ull << cluster_bits);
}

int qcow2_bits_init(struct qcow2_bits *bits, unsigned cluster_bits, unsigned granularity_bits,
                    uint64_t len)
{
    uint64_t n = qcow2_bits_clusters(cluster_bits, granularity_bits, len);

    if (n > QCOW2_BITMAP_BYTES_MAX >> cluster_bits)
        return -EFBIG;
    *bits = (struct qcow2_bits){
        .cluster_bits = cluster_bits,
        .granularity_bits = granularity_bits,
        .len = len,
        .nbits = div_round_up(len, 1ull << granularity_bits),
        .n = (uint32_t)n,
        .clusters = calloc(n + 1, sizeof(*bits->clusters)),
    };
    return bits->clusters ? 0 : -ENOMEM;
}

static void drop_cluster(struct qcow2_bits *bits, uint32_t i)
{
    if (bits->clusters[i] != QCOW2_BITS_ALL)
        free(bits->clusters[i]);
    bits->clusters[i] = NULL;
}

void qcow2_bits_done(struct qcow2_bits *bits)
{
    for (uint32_t i = 0; bits->clusters && i < bits->n; i++)
        drop_cluster(bits, i);
    free(bits->clusters);
    *bits = (struct qcow2_bits){0};
}

/* ---- setting --------------------------------------------------------------------------------- */

/* A byte in which bits [first, end) are set. */
static uint8_t mask(unsigned first, unsigned end)
{
    return (uint8_t)((0xffu << first) & (0xffu >> (8 - end)));
}

/* Set bits [first, end) of `data`; first < end. */
static void set_run(uint8_t *data, uint64_t first, uint64_t end)
{
    uint64_t byte = first / 8;
    uint64_t last = (end - 1) / 8;

    if (byte == last) {
        data[byte] |= mask(first % 8, (unsigned)(end - byte * 8));
        return;
    }
    data[byte] |= mask(first % 8, 8);
    memset(data + byte + 1, 0xff, last - byte - 1);
    data[last] |= mask(0, (unsigned)(end - last * 8));
}

/* Set bits [first, end) of cluster `i`. Returns 0 or -ENOMEM. */
static int set_in_cluster(struct qcow2_bits *bits, uint32_t i, uint64_t first, uint64_t end)
{
    uint64_t all = min_u64(bits_per_cluster(bits), bits->nbits - i * bits_per_cluster(bits));

    if (bits->clusters[i] == QCOW2_BITS_ALL)
        return 0;
    if (first == 0 && end == all) {
        drop_cluster(bits, i);
        bits->clusters[i] = QCOW2_BITS_ALL;
        return 0;
    }
    if (!bits->clusters[i])
        bits->clusters[i] = calloc(1, 1ull << bits->cluster_bits);
    if (!bits->clusters[i])
        return -ENOMEM;
    set_run(bits->clusters[i], first, end);
    return 0;
}

int qcow2_bits_set(struct qcow2_bits *bits, uint64_t off, uint64_t len)
{
    uint64_t per = bits_per_cluster(bits);
    uint64_t bit = off >> bits->granularity_bits;
    uint64_t end;
    int r = 0;

    if (len == 0 || off >= bits->len)
        return 0;
    end = ((off + min_u64(len, bits->len - off) - 1) >> bits->granularity_bits) + 1;
    while (r == 0 && bit < end) {
        uint64_t start = align_down(bit, per);
        uint64_t stop = min_u64(end, start + per);

        r = set_in_cluster(bits, (uint32_t)(start / per), bit - start, stop - start);
        bit = stop;
    }
    return r;
}

/* ---- from other bitmaps ---------------------------------------------------------------------- */

static bool has_bit(const uint8_t *data, uint64_t bit)
{
    return data[bit / 8] >> (bit % 8) & 1;
}

/* The first bit from `bit` on that is `set`, or `end`. */
static uint64_t find_bit(const uint8_t *data, uint64_t bit, uint64_t end, bool set)
{
    uint8_t none = set ? 0 : 0xff;

    while (bit < end) {
        if (bit % 8 == 0 && data[bit / 8] == none)
            bit += 8;
        else if (has_bit(data, bit) == set)
            return bit;
        else
            bit++;
    }
    return end;
}

int qcow2_bits_add_cluster(struct qcow2_bits *bits, const struct qcow2_bits *like, uint32_t i,
                           const uint8_t *data)
{
    uint64_t start = i * bits_per_cluster(like);
    uint64_t n = min_u64(bits_per_cluster(like), like->nbits - start);
    unsigned shift = like->granularity_bits;
    uint64_t end = 0;
    int r = 0;

    if (!data)
        return 0;
    if (data == QCOW2_BITS_ALL)
        return qcow2_bits_set(bits, start << shift, n << shift);
    while (r == 0 && end < n) {
        uint64_t bit = find_bit(data, end, n, true);

        if (bit == n)
            break;
        end = find_bit(data, bit, n, false);
        r = qcow2_bits_set(bits, (start + bit) << shift, (end - bit) << shift);
    }
    return r;
}

int qcow2_bits_add(struct qcow2_bits *bits, const struct qcow2_bits *other)
{
    int r = 0;

    for (uint32_t i = 0; i < other->n && r == 0; i++)
        r = qcow2_bits_add_cluster(bits, other, i, other->clusters[i]);
    return r;
}
