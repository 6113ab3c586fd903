/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts in a refcount block, of 2^order bits each. Those of several bytes are big endian; where
 * several share a byte, the first has its lowest bits. A `block` may be a slice as well.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_REFBLOCK_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_REFBLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

static inline uint64_t qcow2_refcount_max(unsigned order)
{
    return UINT64_MAX >> (64 - (1u << order));
}

static inline uint64_t qcow2_refblock_get(unsigned order, const uint8_t *block, size_t i)
{
    unsigned bits = 1u << order;

    switch (order) {
    case 3:
        return block[i];
    case 4:
        return load_be16(block + 2 * i);
    case 5:
        return load_be32(block + 4 * i);
    case 6:
        return load_be64(block + 8 * i);
    default:
        return (block[i * bits / 8] >> (i * bits % 8)) & ((1u << bits) - 1);
    }
}

static inline void qcow2_refblock_set(unsigned order, uint8_t *block, size_t i, uint64_t value)
{
    unsigned bits = 1u << order;

    switch (order) {
    case 3:
        block[i] = (uint8_t)value;
        break;
    case 4:
        store_be16(block + 2 * i, (uint16_t)value);
        break;
    case 5:
        store_be32(block + 4 * i, (uint32_t)value);
        break;
    case 6:
        store_be64(block + 8 * i, value);
        break;
    default: {
        unsigned shift = (unsigned)(i * bits % 8);
        unsigned mask = ((1u << bits) - 1) << shift;

        block[i * bits / 8] = (uint8_t)((block[i * bits / 8] & ~mask) | (value << shift));
    }
    }
}

/* Fill `data`, refcount blocks of `len` bytes: the first `n` refcounts are one, the others zero. */
void qcow2_refblock_fill(unsigned order, uint8_t *data, size_t len, uint64_t n);

#endif
