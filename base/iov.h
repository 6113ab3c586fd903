/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of host memory: sums, slices and copies.
 */
#ifndef MINIVMM_BASE_IOV_H
#define MINIVMM_BASE_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"

/* Sum of the lengths. The caller bounds it: a sum over SIZE_MAX is a bug of ours. */
size_t iov_len(const struct iovec *iov, size_t niov);

/*
 * Describe bytes [off, off + len) of `iov` in `dst` without copying data.
 * Returns the number of elements used; -EINVAL if the range is outside, -E2BIG if `dst_max`
 * elements do not suffice.
 */
int iov_slice(const struct iovec *iov, size_t niov, size_t off, size_t len, struct iovec *dst,
              size_t dst_max) MUST_CHECK;

/* Copy up to `len` bytes between a buffer and bytes [off, …) of `iov`; returns bytes copied. */
size_t iov_to_buf(const struct iovec *iov, size_t niov, size_t off, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, size_t niov, size_t off, const void *buf, size_t len);

/* Set bytes [off, off + len) of `iov` to `byte`; returns bytes written. */
size_t iov_memset(const struct iovec *iov, size_t niov, size_t off, int byte, size_t len);

/*
 * Bytes [off, off + len) of a vector, without copying data and, for short vectors, without
 * allocating. The part must lie inside.
 */
struct iov_part {
    const struct iovec *iov;
    unsigned niov;
    struct iovec few[8];
    struct iovec *many; /* NULL: `few` or the original is in use */
};

int iov_part_take(struct iov_part *part, const struct iovec *iov, unsigned niov, uint64_t off,
                  uint64_t len) MUST_CHECK;
void iov_part_done(struct iov_part *part);

#endif
