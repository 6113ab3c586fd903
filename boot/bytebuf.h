/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables under construction: little-endian values put one after the other into a buffer of fixed
 * size. The sizes are bounded by the machine's own limits, so running over is a bug of ours.
 */
#ifndef MINIVMM_BOOT_BYTEBUF_H
#define MINIVMM_BOOT_BYTEBUF_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

struct bytebuf {
    uint8_t *data;
    size_t len;
    size_t size;
};

/* Make room for `len` bytes after the others. */
static inline uint8_t *bytebuf_extend(struct bytebuf *buf, size_t len)
{
    uint8_t *at = buf->data + buf->len;

    assert(len <= buf->size - buf->len);
    buf->len += len;
    return at;
}

static inline void bytebuf_put(struct bytebuf *buf, const void *data, size_t len)
{
    memcpy(bytebuf_extend(buf, len), data, len);
}

static inline void bytebuf_put_u8(struct bytebuf *buf, uint8_t v)
{
    *bytebuf_extend(buf, 1) = v;
}

static inline void bytebuf_put_u16(struct bytebuf *buf, uint16_t v)
{
    store_le16(bytebuf_extend(buf, 2), v);
}

static inline void bytebuf_put_u32(struct bytebuf *buf, uint32_t v)
{
    store_le32(bytebuf_extend(buf, 4), v);
}

static inline void bytebuf_put_u64(struct bytebuf *buf, uint64_t v)
{
    store_le64(bytebuf_extend(buf, 8), v);
}

static inline void bytebuf_put_zeroes(struct bytebuf *buf, size_t len)
{
    memset(bytebuf_extend(buf, len), 0, len);
}

/* The byte that makes the sum of all bytes 0, as ACPI and MP tables want it. */
static inline uint8_t bytes_checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += data[i];
    return (uint8_t)-sum;
}

#endif
