/* SPDX-License-Identifier: Apache-2.0 */
#include "base/iov.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* A place in a vector: element `i`, byte `off` of it. */
struct cursor {
    const struct iovec *iov;
    size_t niov;
    size_t i;
    size_t off;
};

static struct cursor cursor_at(const struct iovec *iov, size_t niov, size_t off)
{
    struct cursor cur = {.iov = iov, .niov = niov};

    while (cur.i < niov && off >= iov[cur.i].iov_len)
        off -= iov[cur.i++].iov_len;
    cur.off = off;
    return cur;
}

/*
 * Take the next contiguous piece, at most `max` bytes, and move past it. False at the end of the
 * vector or when `max` is 0. Pieces are never empty.
 */
static bool cursor_next(struct cursor *cur, size_t max, struct iovec *ret_piece)
{
    const struct iovec *elem;
    size_t len;

    while (cur->i < cur->niov && cur->off == cur->iov[cur->i].iov_len) {
        cur->i++;
        cur->off = 0;
    }
    if (cur->i == cur->niov || max == 0)
        return false;

    elem = &cur->iov[cur->i];
    len = elem->iov_len - cur->off;
    if (len > max)
        len = max;
    ret_piece->iov_base = (uint8_t *)elem->iov_base + cur->off;
    ret_piece->iov_len = len;
    cur->off += len;
    return true;
}

size_t iov_len(const struct iovec *iov, size_t niov)
{
    size_t total = 0;

    for (size_t i = 0; i < niov; i++) {
        assert(iov[i].iov_len <= SIZE_MAX - total);
        total += iov[i].iov_len;
    }
    return total;
}

int iov_slice(const struct iovec *iov, size_t niov, size_t off, size_t len, struct iovec *dst,
              size_t dst_max)
{
    struct cursor cur;
    struct iovec piece;
    size_t n = 0;

    if (!range_fits(off, len, iov_len(iov, niov)))
        return -EINVAL;

    cur = cursor_at(iov, niov, off);
    while (cursor_next(&cur, len, &piece)) {
        if (n == dst_max)
            return -E2BIG;
        dst[n++] = piece;
        len -= piece.iov_len;
    }
    return (int)n;
}

size_t iov_to_buf(const struct iovec *iov, size_t niov, size_t off, void *buf, size_t len)
{
    struct cursor cur = cursor_at(iov, niov, off);
    struct iovec piece;
    size_t done = 0;

    while (cursor_next(&cur, len - done, &piece)) {
        memcpy((uint8_t *)buf + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

size_t iov_from_buf(const struct iovec *iov, size_t niov, size_t off, const void *buf, size_t len)
{
    struct cursor cur = cursor_at(iov, niov, off);
    struct iovec piece;
    size_t done = 0;

    while (cursor_next(&cur, len - done, &piece)) {
        memcpy(piece.iov_base, (const uint8_t *)buf + done, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

size_t iov_memset(const struct iovec *iov, size_t niov, size_t off, int byte, size_t len)
{
    struct cursor cur = cursor_at(iov, niov, off);
    struct iovec piece;
    size_t done = 0;

    while (cursor_next(&cur, len - done, &piece)) {
        memset(piece.iov_base, byte, piece.iov_len);
        done += piece.iov_len;
    }
    return done;
}

int iov_part_take(struct iov_part *part, const struct iovec *iov, unsigned niov, uint64_t off,
                  uint64_t len)
{
    int r;

    part->many = NULL;
    if (off == 0 && iov_len(iov, niov) == len) {
        part->iov = iov;
        part->niov = niov;
        return 0;
    }
    part->iov = part->few;
    r = iov_slice(iov, niov, off, len, part->few, ARRAY_SIZE(part->few));
    if (r == -E2BIG) {
        part->many = malloc(niov * sizeof(*iov));
        if (!part->many)
            return -ENOMEM;
        part->iov = part->many;
        r = iov_slice(iov, niov, off, len, part->many, niov);
    }
    if (r < 0) {
        iov_part_done(part);
        return r;
    }
    part->niov = (unsigned)r;
    return 0;
}

void iov_part_done(struct iov_part *part)
{
    free(part->many);
    part->many = NULL;
}
